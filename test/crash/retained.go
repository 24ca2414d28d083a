package crash

// value is what a topic's retained message may be. One publisher at a time sends
// them, in the order of their numbers.
type value struct {
	settled messageID    // the newest that is acknowledged, to the end of its handshake
	empty   bool         // and that one removes the retained message
	later   map[int]bool // numbers after it that were sent; true: removes
}

// mayBe reports whether message n may be the retained one.
func (v *value) mayBe(n int) bool {
	removes, sent := v.later[n]
	return n == v.settled.n && !v.empty || sent && !removes
}

func (v *value) mayBeAbsent() bool {
	for _, removes := range v.later {
		if removes {
			return true
		}
	}
	return v.settled.n == 0 || v.empty
}

// values are the retained messages, by topic.
type values map[string]*value

func retainedIn(events []event) values {
	v := make(values)
	for _, e := range events {
		v.observe(e)
	}
	return v
}

func (vs values) observe(e event) {
	v := vs[e.topic]
	switch e.kind {
	case publish:
		if !e.retain {
			return
		}
		if v == nil {
			v = &value{later: make(map[int]bool)}
			vs[e.topic] = v
		}
		v.later[e.message.n] = e.clear
	case puback, pubcomp:
		if v == nil {
			return
		}
		v.settled, v.empty = e.message, v.later[e.message.n]
		for n := range v.later {
			if n <= v.settled.n {
				delete(v.later, n)
			}
		}
	}
}
