package doctor

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

// soon is the rest of a certificate's life from which on it is warned of, at
// most; of shorter lives it is a tenth.
const soon = 7 * 24 * time.Hour

// clockOff is the difference of two clocks that is worth a word.
const clockOff = 2 * time.Minute

// judgeDate tells what is wrong with the dates of one certificate; nil if
// nothing is.
func judgeDate(step string, c *x509.Certificate, now time.Time) *Step {
	var s Step
	switch {
	case now.After(c.NotAfter):
		s = fail(step, transport.CauseBrokerExpired, "",
			fmt.Sprintf("the certificate of %s expired on %s, and now is %s", nameOf(c), stamp(c.NotAfter), stamp(now)),
			"renew it on the broker (SealMQ: sealmq cert renew), or set this machine's clock if it is wrong")
	case now.Before(c.NotBefore):
		s = fail(step, transport.CauseClock, "not_yet_valid",
			fmt.Sprintf("the certificate of %s is valid from %s, and now is %s", nameOf(c), stamp(c.NotBefore), stamp(now)),
			"set this machine's clock, or the one of whoever issued the certificate (SNTP)")
	default:
		return nil
	}
	return &s
}

// judgeDates judges the leaf's dates and the clock. server is the broker's
// time, zero if it did not tell.
func judgeDates(chain []*x509.Certificate, now, server time.Time) []Step {
	leaf := chain[0]
	var out []Step
	if pki.CheckClock(now) != nil {
		out = append(out, fail(StepDates, transport.CauseClock, "clock",
			fmt.Sprintf("this machine's clock shows %s, when this program did not exist yet", stamp(now)), "set the clock (SNTP)"))
	} else if d := now.Sub(server); !server.IsZero() && d.Abs() > clockOff {
		out = append(out, warn(StepDates, transport.CauseClock, "clock",
			fmt.Sprintf("this machine's clock is %v %s the broker's, which shows %s", d.Abs().Round(time.Second), aheadOf(d), stamp(server)),
			"set the one that is wrong (SNTP)"))
	}
	for _, c := range chain {
		if s := judgeDate(StepDates, c, now); s != nil {
			return append(out, *s)
		}
	}
	left, life := leaf.NotAfter.Sub(now), leaf.NotAfter.Sub(leaf.NotBefore)
	if left < min(soon, life/10) {
		out = append(out, warn(StepDates, CauseSoon, "", fmt.Sprintf("the certificate expires on %s, in %s", stamp(leaf.NotAfter), span(left)),
			"renew it on the broker (SealMQ: sealmq cert renew)"))
	}
	if len(out) == 0 {
		out = append(out, pass(StepDates, "valid from %s to %s, %s from now", stamp(leaf.NotBefore), stamp(leaf.NotAfter), span(left)))
	}
	return out
}

func aheadOf(d time.Duration) string {
	if d > 0 {
		return "ahead of"
	}
	return "behind"
}

func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return fmt.Sprintf("%d minutes", d/time.Minute)
}
