package audit

import "time"

// week is the unit of the forecast.
const week = 7 * day

// weeks is how far it goes.
const weeks = 13

// Forecast tells when devices lose their last certificate, unless they renew it.
type Forecast struct {
	Ended int `json:"ended"` // already
	In7   int `json:"in_7_days"`
	In30  int `json:"in_30_days"` // with In7
	In90  int `json:"in_90_days"` // with In30
	// Weeks are the next 13, beginning now.
	Weeks []Week `json:"weeks"`
	// CAs are those in force, and when they end.
	CAs []End `json:"cas,omitempty"`

	now time.Time
}

// Week is how many end in it.
type Week struct {
	Begins time.Time `json:"begins"`
	Ends   int       `json:"ends"`
}

// End is that of a CA.
type End struct {
	Name     string    `json:"name"`
	NotAfter time.Time `json:"not_after"`
}

func newForecast(now time.Time) Forecast {
	f := Forecast{Weeks: make([]Week, weeks), now: now}
	for i := range f.Weeks {
		f.Weeks[i].Begins = now.Add(time.Duration(i) * week)
	}
	return f
}

func (f *Forecast) add(end time.Time) {
	left := end.Sub(f.now)
	if left <= 0 {
		f.Ended++
		return
	}
	if i := int(left / week); i < len(f.Weeks) {
		f.Weeks[i].Ends++
	}
	for _, c := range []struct {
		within time.Duration
		n      *int
	}{{7 * day, &f.In7}, {30 * day, &f.In30}, {90 * day, &f.In90}} {
		if left <= c.within {
			*c.n++
		}
	}
}
