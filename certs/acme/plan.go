package acme

import (
	"crypto/x509"
	"time"

	acmelib "github.com/mholt/acmez/v3/acme"
)

const (
	longest     = time.Hour // without a look at the clock, which may have been set
	stapleEvery = time.Hour
	askEvery    = 6 * time.Hour // when the CA does not say (RFC 9773 section 4.3)
	askLeast    = time.Minute
	askMost     = 24 * time.Hour
	restMost    = time.Hour
)

// near is how long is waited, after the n-th failure, for what is no burden to the CA: twice as long each time. far is for
// other failures: public CAs count those of a name, and take few in an hour.
var (
	near = [...]time.Duration{1 * time.Second, 15 * time.Minute} // first, last
	far  = [...]time.Duration{5 * time.Minute, 8 * time.Hour}
)

// plan is what is done when with one certificate. Its zero value is for one that is not there.
type plan struct {
	leaf *x509.Certificate

	failures int       // since the last success
	retryAt  time.Time // no attempt earlier, unless forced

	advice   acmelib.RenewalInfo // the last that the CA gave
	askAt    time.Time
	stapleAt time.Time
}

// have begins anew with another certificate.
func (p *plan) have(leaf *x509.Certificate, now time.Time) {
	*p = plan{leaf: leaf, askAt: now}
	if len(leaf.OCSPServer) > 0 {
		p.stapleAt = now
	}
}

// rest keeps a CA that wants each certificate to be renewed at once from having its way more than now and then.
func (p *plan) rest(now time.Time) { p.retryAt = now.Add(min(lifeOf(p.leaf)/10, restMost)) }

// renewAt is when the certificate is to be renewed. before is how long before its end, 0 to follow the CA.
func (p *plan) renewAt(before time.Duration) time.Time {
	if p.leaf == nil {
		return time.Time{}
	}
	life := lifeOf(p.leaf)
	if before > 0 {
		return p.leaf.NotAfter.Add(-min(before, life/2))
	}
	if p.advice.HasWindow() {
		// A CA that is wrong does not let it expire.
		if last := p.leaf.NotAfter.Add(-life / 20); p.advice.SelectedTime.After(last) {
			return last
		}
		return p.advice.SelectedTime
	}
	return p.leaf.NotAfter.Add(-life / 3)
}

func (p *plan) due(now time.Time, before time.Duration) bool {
	return !now.Before(p.renewAt(before)) && !now.Before(p.retryAt)
}

// asks tells whether the CA is to be asked when to renew.
func (p *plan) asks(now time.Time, before time.Duration) bool {
	return p.leaf != nil && before == 0 && !now.Before(p.askAt)
}

func (p *plan) staples(now time.Time) bool {
	return !p.stapleAt.IsZero() && !now.Before(p.stapleAt)
}

// wait is how long nothing has to be done.
func (p *plan) wait(now time.Time, before time.Duration) time.Duration {
	next := p.renewAt(before)
	if next.Before(p.retryAt) {
		next = p.retryAt
	}
	if p.leaf != nil && before == 0 && p.askAt.Before(next) {
		next = p.askAt
	}
	if !p.stapleAt.IsZero() && p.stapleAt.Before(next) {
		next = p.stapleAt
	}
	return min(max(next.Sub(now), 0), longest)
}

// failed plans the next attempt: later with each failure, and not before the CA wants it. chance, 0 … 1, keeps many
// servers from asking together.
func (p *plan) failed(now time.Time, isNear bool, retryAfter time.Duration, chance float64) {
	span := far
	if isNear {
		span = near
	}
	d := span[1]
	if p.failures < 16 {
		d = min(span[0]<<p.failures, span[1])
	}
	p.failures++
	d += time.Duration(float64(d) * chance / 5)
	p.retryAt = now.Add(max(d, retryAfter))
}

// advised takes what the CA said of when to renew. Within the same window the time that was chosen stays.
func (p *plan) advised(now time.Time, info acmelib.RenewalInfo, err error) {
	if err != nil {
		p.askAt = now.Add(askEvery)
		return
	}
	if p.advice.HasWindow() && p.advice.SameWindow(info) {
		info.SelectedTime = p.advice.SelectedTime
	}
	p.advice = info
	next := now.Add(askEvery)
	if info.RetryAfter != nil {
		next = *info.RetryAfter
	}
	least, most := now.Add(askLeast), now.Add(askMost)
	if next.Before(least) {
		next = least
	} else if next.After(most) {
		next = most
	}
	p.askAt = next
}
