package policy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sealmq/sealmq/auth"
)

// Bounds of Denials.
const (
	MaxDenials = 256 // that are kept of a principal's requests, and again of what was not delivered to it

	maxDenied      = 4096     // principals
	maxDenialBytes = 16 << 20 // of all together, as counted by weight
	maxDeniedTopic = 1024     // bytes; a longer one is cut
	alike          = 8        // the last ones that a denial is compared with
)

// Denial is a request that was refused, once or several times.
type Denial struct {
	Client  *Identity // must not be changed
	Request Request   // Time is that of the last time; an Action of 0 is the client identifier itself
	Times   int       // that it was refused
	Rule    string    // FILE:LINE of the rule that decided; empty if none allowed it
	Limited bool      // the rule allows it, but not so often
	Cut     bool      // the topic is only the beginning of one above 1,024 bytes
}

// Denials keeps the last denials of each principal, in memory. Who causes many loses its own older ones: when there is no
// room, it is taken from those who have more than their share. Of too many principals those are forgotten who were denied
// nothing for the longest time. What others publish and a principal may not receive is kept apart from what it asks for
// itself. The zero value is ready; all methods may be called from any goroutine.
type Denials struct {
	mu             sync.Mutex
	of             map[denied]*denials
	newest, oldest *denials // by their last denial
	weight         int

	rings, bytes int // bounds other than the usual ones, for tests
}

// denied is whose denials are kept together.
type denied struct {
	name, method, kind string
	receive            bool
}

// denials are those of one principal, the oldest first.
type denials struct {
	whose        denied
	list         []denialEntry
	weight       int
	newer, older *denials
}

// denialEntry is a Denial as it is kept. The place is kept in place of the rule, which would hold on to a whole policy.
type denialEntry struct {
	Denial
	file string
	line int
}

// weight is about how many bytes it takes. An identity that several share counts for each.
func (e *denialEntry) weight() int {
	id := e.Client
	n := 640 + len(e.Request.Topic) + len(id.Name) + len(id.ClientID)
	lists := [...][]string{id.Groups, id.Cert.OU, id.Cert.O, id.Cert.URI, id.Cert.DNS}
	for _, l := range lists {
		for _, s := range l {
			n += 16 + len(s)
		}
	}
	for k, l := range id.Claims {
		n += 64 + len(k)
		for _, s := range l {
			n += 16 + len(s)
		}
	}
	return n + len(id.Cert.CN) + len(id.Cert.Issuer) + len(id.Cert.Serial) + len(id.Cert.Fingerprint)
}

func (e *denialEntry) same(o *denialEntry) bool {
	return e.Client == o.Client && e.Request.Action == o.Request.Action && e.Request.Topic == o.Request.Topic &&
		e.Request.QoS == o.Request.QoS && e.Request.Retain == o.Request.Retain && e.Request.Size == o.Request.Size &&
		e.Limited == o.Limited && e.line == o.line && e.file == o.file
}

// Note keeps a denial: by is how it was decided. It does not keep the topic, and waits for no more than what other calls do
// in memory, so that it may be called with locks held. id must not be changed any more.
func (d *Denials) Note(id *Identity, r Request, by Decision) {
	e := denialEntry{Denial: Denial{Client: id, Request: r, Times: 1, Limited: by.Limited()}}
	if by.Rule != nil {
		e.file, e.line = by.Rule.File, by.Rule.Pos.Line
	}
	if r.Time.IsZero() {
		e.Request.Time = time.Now()
	}
	if len(r.Topic) > maxDeniedTopic {
		at := maxDeniedTopic
		for at > 0 && !utf8.RuneStart(r.Topic[at]) {
			at--
		}
		e.Request.Topic, e.Cut = r.Topic[:at], true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.front(denied{id.Name, id.Method, id.Kind, r.Action == auth.Receive})
	for i := len(k.list) - 1; i >= max(0, len(k.list)-alike); i-- {
		if o := k.list[i]; o.same(&e) {
			o.Times, o.Request.Time = o.Times+1, e.Request.Time
			copy(k.list[i:], k.list[i+1:])
			k.list[len(k.list)-1] = o
			return
		}
	}
	e.Request.Topic = strings.Clone(e.Request.Topic)
	k.list = append(k.list, e)
	d.grow(k, e.weight())
	d.shrink(k)
}

// front returns the denials of a principal, which is the last one that was denied something.
func (d *Denials) front(whose denied) *denials {
	k := d.of[whose]
	switch {
	case k == nil:
		if d.of == nil {
			d.of = map[denied]*denials{}
		}
		k = &denials{whose: whose}
		d.of[whose] = k
	case k == d.newest:
		return k
	default:
		d.unlink(k)
	}
	if k.older = d.newest; k.older != nil {
		k.older.newer = k
	} else {
		d.oldest = k
	}
	d.newest = k
	return k
}

func (d *Denials) unlink(k *denials) {
	if k.newer != nil {
		k.newer.older = k.older
	} else {
		d.newest = k.older
	}
	if k.older != nil {
		k.older.newer = k.newer
	} else {
		d.oldest = k.newer
	}
	k.newer, k.older = nil, nil
}

func (d *Denials) grow(k *denials, by int) { k.weight, d.weight = k.weight+by, d.weight+by }

// shrink keeps the bounds after something was added to k.
func (d *Denials) shrink(k *denials) {
	rings, bytes := maxDenied, maxDenialBytes
	if d.rings > 0 {
		rings, bytes = d.rings, d.bytes
	}
	for len(k.list) > MaxDenials {
		d.drop(k)
	}
	for len(d.of) > rings {
		d.forget(d.oldest)
	}
	for d.weight > bytes {
		if over := d.over(bytes / len(d.of)); over != nil {
			for len(over.list) > 1 && over.weight > bytes/len(d.of) {
				d.drop(over)
			}
		} else if d.oldest == k { // one denial alone is kept, however large
			return
		} else {
			d.forget(d.oldest)
		}
	}
}

// over finds one with more than its share, and with denials to spare. Who causes many is soon found.
func (d *Denials) over(share int) *denials {
	for k := d.newest; k != nil; k = k.older {
		if k.weight > share && len(k.list) > 1 {
			return k
		}
	}
	return nil
}

func (d *Denials) forget(k *denials) {
	d.unlink(k)
	delete(d.of, k.whose)
	d.weight -= k.weight
}

// drop forgets the oldest denial of k.
func (d *Denials) drop(k *denials) {
	d.grow(k, -k.list[0].weight())
	k.list[0] = denialEntry{} // what it points to is not held by what is left of the list
	k.list = k.list[1:]
}

// Last returns up to n denials of whoever has this name or client identifier, the newest first.
func (d *Denials) Last(name string, n int) []Denial {
	d.mu.Lock()
	all := make([]*denials, 0, len(d.of))
	for k := d.newest; k != nil; k = k.older {
		all = append(all, k)
	}
	d.mu.Unlock()
	var out []Denial
	for _, k := range all { // the lock is held for a short time each
		d.mu.Lock()
		for i := range k.list {
			if e := &k.list[i]; k.whose.name == name && name != "" || e.Client.ClientID == name {
				if e.file != "" {
					e.Rule = fmt.Sprintf("%s:%d", e.file, e.line)
				}
				out = append(out, e.Denial)
			}
		}
		d.mu.Unlock()
	}
	slices.SortStableFunc(out, func(a, b Denial) int { return b.Request.Time.Compare(a.Request.Time) })
	return out[:min(max(n, 0), len(out))]
}

// Explain tells why it was refused, by a policy that may be another one than that which has refused it: if it allows the
// request, Allowed is true.
func (d *Denial) Explain(p *Policy) Explanation {
	e := Explanation{Request: d.Request}
	switch {
	case d.Request.Action == 0:
		if err := p.Admit(*d.Client); err != nil {
			e.Reason, e.Fix = err.(*auth.Refusal).Text, "use such a client identifier"
			return e
		}
		e.Allowed, e.Reason = true, "the client identifier is allowed"
	case d.Limited:
		e.Reason = d.Rule + " allows it, but not so often"
		e.Fix = "publish less often, or raise the rate"
	case d.Cut && d.Rule != "":
		e.Reason = d.Rule + " denies it"
	case d.Cut:
		e.Reason = "no rule allows it"
	default:
		return p.Explain(*d.Client, d.Request)
	}
	return e
}
