package differential

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// pair is the two brokers side by side.
type pair struct {
	ours, theirs *side
	lenience     time.Duration // how long brokers may take to become equal
	list         explanations
}

// difference is what one step made the two brokers do otherwise.
type difference struct {
	step   int // the index in the sequence; len(sequence): at its end
	text   string
	before string // the steps before it, as "actor: step; peer: step; "
	shape  string // text without what is random
	detail string
	mild   bool // both are in the same state afterwards
}

// fault is a broker that does not work any more.
type fault struct {
	side *side
	err  error
}

func (f *fault) Error() string { return f.err.Error() }

// explained is how long a difference must last that is known.
const explained = 15 * time.Millisecond

func newPair(ours, theirs *broker, list explanations, patience, lenience time.Duration) (*pair, error) {
	p := &pair{lenience: lenience, list: list}
	for to, b := range map[**side]*broker{&p.ours: ours, &p.theirs: theirs} {
		*to = &side{broker: b, patience: patience, ids: make(map[string]bool)}
		if err := (*to).ready(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// ready connects the observer and waits for it to be alone with nothing retained.
func (s *side) ready() error {
	if err := s.watch(); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	s.forget()
	return nil
}

// both does the same on both sides at once.
func (p *pair) both(do func(*side) error) error {
	done := make(chan error, 1)
	try := func(s *side) error {
		if err := do(s); err != nil {
			return &fault{s, err}
		}
		return nil
	}
	go func() { done <- try(p.theirs) }()
	err := try(p.ours)
	return errors.Join(err, <-done)
}

// run plays a sequence from a clean state and leaves a clean state. It calls note
// with each difference, and ends at the first that is not mild.
func (p *pair) run(steps []step, note func(*difference)) error {
	played, err := p.play(steps, note)
	if err != nil {
		return err
	}
	if err := p.both((*side).end); err != nil {
		return err
	}
	d, err := p.compare(step{kind: drop, label: "at the end"}, nil)
	if err != nil {
		return err
	}
	if d != nil && played {
		d.step, d.before = len(steps), history(steps, 0)
		note(d)
	}
	return p.both((*side).wipe)
}

// play reports whether it has played all steps.
func (p *pair) play(steps []step, note func(*difference)) (bool, error) {
	for i, st := range steps {
		if err := p.both(func(s *side) error { return s.play(st) }); err != nil {
			return false, err
		}
		d, err := p.compare(st, steps[:i])
		if err != nil {
			return false, err
		}
		if d != nil {
			note(d)
			if !d.mild {
				return false, nil
			}
		}
		p.ours.forget()
		p.theirs.forget()
	}
	return true, nil
}

// compare waits for both to be quiet after a step, and if they differ, whether
// that lasts.
func (p *pair) compare(st step, before []step) (*difference, error) {
	began := time.Now()
	for pause := time.Millisecond; ; pause *= 2 {
		if err := p.both((*side).settle); err != nil {
			return nil, err
		}
		d := tell(st, p.ours.seen(), p.theirs.seen())
		if d == nil {
			return nil, nil
		}
		d.step, d.before = len(before), history(before, st.client)
		limit := p.lenience
		if p.list.find(d) != nil {
			limit = min(limit, explained)
		}
		if d.mild {
			limit = min(limit, explained/2)
		}
		if time.Since(began) > limit {
			return d, nil
		}
		time.Sleep(pause)
	}
}

// history tells the steps before, seen from the client that acts.
func history(steps []step, actor int) string {
	var b strings.Builder
	for _, s := range steps {
		who := "peer"
		if s.client == actor {
			who = "actor"
		}
		fmt.Fprintf(&b, "%s: %s%s; ", who, s.String()[2:], s.diagnosis())
	}
	return b.String()
}

// tell puts what differs into words: one line, of which patterns speak.
func tell(st step, ours, theirs [3][]event) *difference {
	var text, shape, detail []string
	mild := true
	for n, i := range []int{st.client, 1 - st.client, 2} {
		a, b := without(ours[i], theirs[i]), without(theirs[i], ours[i])
		if len(a)+len(b) == 0 {
			continue
		}
		mild = mild && isMild(a, b)
		who := []string{"actor", "peer", "observer"}[n]
		text = append(text, fmt.Sprintf("%s: ours [%s] mosquitto [%s]", who, join(a, event.String), join(b, event.String)))
		kinds := func(e event) string { return e.kind }
		shape = append(shape, fmt.Sprintf("%s: ours [%s] mosquitto [%s]", who, join(a, kinds), join(b, kinds)))
		detail = append(detail, fmt.Sprintf("%s:\n  ours      %s\n  mosquitto %s\n  equal     %s", who, join(a, event.whole), join(b, event.whole), join(without(ours[i], a), event.whole)))
	}
	if text == nil {
		return nil
	}
	what := st.String()[2:] + st.diagnosis()
	return &difference{text: what + " | " + strings.Join(text, " | "), mild: mild,
		shape: regexp.MustCompile(`^\S+ \S+( \S+)?`).FindString(what) + " | " + strings.Join(shape, " | "), detail: strings.Join(detail, "\n")}
}

func join(all []event, what func(event) string) string {
	var texts []string
	for _, e := range all {
		texts = append(texts, what(e))
	}
	return strings.Join(texts, ", ")
}

// isMild tells differences that leave both brokers in the same state: whether and
// with which code a client is told of its end, why it is refused, and with which
// code of the same meaning a handshake goes on.
func isMild(a, b []event) bool {
	// What of each kind may differ freely, and what only in its code.
	free := func(e event) bool {
		return e.kind == "DISCONNECT" || e.kind == "CONNACK" && strings.HasPrefix(e.text, "0x8")
	}
	rest := func(all []event) (kinds []string, ok bool) {
		for _, e := range all {
			switch {
			case free(e):
			case slices.Contains([]string{"UNSUBACK", "PUBACK", "PUBREL", "PUBCOMP"}, e.kind):
				kinds = append(kinds, e.kind)
			default:
				return nil, false
			}
		}
		slices.Sort(kinds)
		return kinds, true
	}
	x, ok1 := rest(a)
	y, ok2 := rest(b)
	return ok1 && ok2 && slices.Equal(x, y)
}
