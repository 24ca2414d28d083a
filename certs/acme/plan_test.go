package acme

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	acmelib "github.com/mholt/acmez/v3/acme"
)

const day = 24 * time.Hour

var noon = time.Date(2027, time.March, 1, 12, 0, 0, 0, time.UTC)

func info(start, end, selected time.Time) acmelib.RenewalInfo {
	var i acmelib.RenewalInfo
	i.SuggestedWindow.Start, i.SuggestedWindow.End, i.SelectedTime = start, end, selected
	return i
}

func TestRenewAt(t *testing.T) {
	leaf := &x509.Certificate{NotBefore: noon, NotAfter: noon.Add(90 * day)}
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	for _, c := range []struct {
		name   string
		before time.Duration
		advice acmelib.RenewalInfo
		want   time.Time
	}{
		{"a third left", 0, acmelib.RenewalInfo{}, at(60 * day)},
		{"the CA's window", 0, info(at(50*day), at(52*day), at(51*day)), at(51 * day)},
		{"at once", 0, info(at(-2*day), at(-day), at(-day)), at(-day)},
		{"a window too late", 0, info(at(100*day), at(101*day), at(100*day)), at(90*day - 108*time.Hour)},
		{"configured", 10 * day, info(at(50*day), at(52*day), at(51*day)), at(80 * day)},
		{"configured beyond its life", 100 * day, acmelib.RenewalInfo{}, at(45 * day)},
	} {
		p := plan{leaf: leaf, advice: c.advice}
		if got := p.renewAt(c.before); !got.Equal(c.want) {
			t.Errorf("%s: %v, wanted %v", c.name, got, c.want)
		}
	}
}

func TestPlan(t *testing.T) {
	var p plan
	if !p.due(noon, 0) || p.asks(noon, 0) || p.staples(noon) || p.wait(noon, 0) != 0 {
		t.Error("a missing certificate is not got at once")
	}
	p.failed(noon, true, 0, 0)
	if p.due(noon, 0) || p.wait(noon, 0) != time.Second {
		t.Errorf("after a failure: %v", p.wait(noon, 0))
	}
	p.have(&x509.Certificate{NotBefore: noon, NotAfter: noon.Add(90 * day), OCSPServer: []string{"http://ocsp"}}, noon)
	if p.failures != 0 || p.due(noon, 0) || !p.asks(noon, 0) || p.asks(noon, day) || !p.staples(noon) {
		t.Errorf("with a certificate: %+v", p)
	}
	p.stapleAt = time.Time{}
	retry := noon.Add(90 * time.Second)
	first := info(noon.Add(60*day), noon.Add(62*day), noon.Add(61*day))
	first.RetryAfter = &retry
	p.advised(noon, first, nil)
	if p.asks(noon, 0) || p.wait(noon, 0) != 90*time.Second {
		t.Errorf("asked again in %v", p.wait(noon, 0))
	}
	p.advised(noon, info(noon.Add(60*day), noon.Add(62*day), noon.Add(60*day)), nil)
	if got := p.renewAt(0); !got.Equal(noon.Add(61 * day)) {
		t.Errorf("another time was chosen in the same window: %v", got)
	}
	p.advised(noon, info(noon.Add(-day), noon, noon.Add(-time.Hour)), nil)
	if !p.due(noon, 0) {
		t.Error("a window in the past is not followed")
	}
	p.advised(noon, acmelib.RenewalInfo{}, errors.New("not offered"))
	if !p.askAt.Equal(noon.Add(askEvery)) {
		t.Errorf("asked again at %v", p.askAt)
	}
	// A CA neither makes us ask all the time, nor never again.
	for _, retry := range []time.Time{{}, noon.Add(time.Second), noon.Add(10_000 * time.Hour)} {
		i := first
		i.RetryAfter = &retry
		p.advised(noon, i, nil)
		if d := p.askAt.Sub(noon); d < askLeast || d > askMost {
			t.Errorf("%v: asked again in %v", retry, d)
		}
	}
	// Nor does one that wants a certificate back at once.
	p.advised(noon, info(noon.Add(-day), noon, noon.Add(-time.Hour)), nil)
	p.rest(noon)
	if p.due(noon, 0) || p.wait(noon, 0) > restMost {
		t.Errorf("due %v, in %v", p.due(noon, 0), p.wait(noon, 0))
	}
	p.advised(noon, first, nil)
	// A clock that was set back is noticed.
	if d := p.wait(noon.Add(-1000*day), 0); d != longest {
		t.Errorf("waits %v", d)
	}
}

func TestRetries(t *testing.T) {
	waits := func(isNear bool, n int) (all []time.Duration) {
		var p plan
		for range n {
			p.failed(noon, isNear, 0, 0)
			all = append(all, p.retryAt.Sub(noon))
		}
		return all
	}
	if w := waits(true, 40); w[0] != time.Second || w[3] != 8*time.Second || w[39] != 15*time.Minute {
		t.Error(w)
	}
	w := waits(false, 40)
	if w[0] != 5*time.Minute || w[1] != 10*time.Minute || w[39] != 8*time.Hour {
		t.Error(w)
	}
	// Let's Encrypt takes five failures of a name in an hour.
	within, at := 1, time.Duration(0)
	for _, d := range w {
		if at += d; at < time.Hour {
			within++
		}
	}
	if within > 5 {
		t.Errorf("%d attempts in the first hour", within)
	}
	var p plan
	p.failed(noon, false, 3*time.Hour, 1)
	if d := p.retryAt.Sub(noon); d != 3*time.Hour {
		t.Errorf("the CA said 3 h, %v is planned", d)
	}
	p.failed(noon, false, 0, 1)
	if d := p.retryAt.Sub(noon); d != 12*time.Minute {
		t.Errorf("with chance: %v", d)
	}
}
