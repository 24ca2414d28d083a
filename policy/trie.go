package policy

import "strings"

// node is a place in the trie of the rules of one group and one action: a path of filter levels.
type node struct {
	literal   map[string]*node
	plus      *node
	templates []template
	here      []*Rule // whose filter ends here
	below     []*Rule // whose filter ends with /# below here
}

// template is the way on for a level with placeholders.
type template struct {
	text  string
	parts []part
	node  *node
}

// insert adds a rule.
func (n *node) insert(levels []level, r *Rule) {
	for i := range levels {
		l := &levels[i]
		switch {
		case l.parts != nil:
			n = n.template(l)
		case l.text == "#":
			n.below = append(n.below, r)
			return
		case l.text == "+":
			if n.plus == nil {
				n.plus = &node{}
			}
			n = n.plus
		default:
			next := n.literal[l.text]
			if next == nil {
				if n.literal == nil {
					n.literal = map[string]*node{}
				}
				next = &node{}
				n.literal[l.text] = next
			}
			n = next
		}
	}
	n.here = append(n.here, r)
}

func (n *node) template(l *level) *node {
	for _, t := range n.templates {
		if t.text == l.text {
			return t.node
		}
	}
	next := &node{}
	n.templates = append(n.templates, template{l.text, l.parts, next})
	return next
}

// search goes through a trie for one question.
type search struct {
	who *subject
	q   *question
	out *outcome
}

// find puts what the rules say that match a topic name, or contain a filter, into the outcome.
func (s *search) find(root *node, path string) {
	if s.q.wild {
		// No name is without a level, nor one empty level alone.
		switch path {
		case "#":
			path = "+/#"
		case "/#":
			path = "/+/#"
		}
	}
	s.down(root, path, true, true, -1)
}

// down goes on from n with the levels in rest; more is false when none is left. group is the one that ${group} means on
// this way, an index into the subject's, -1 while it may be any.
func (s *search) down(n *node, rest string, more, first bool, group int) {
	op := s.who.policy.testOnlyFlip
	if !more {
		s.take(n.here)
		if op != opParent {
			s.take(n.below) // a/# is a as well
		}
		return
	}
	l, after, further := strings.Cut(rest, "/")
	reserved := op.ask(opReserved, first && l != "" && l[0] == '$') // [MQTT-4.7.2-1]
	if !reserved {
		s.take(n.below)
	}
	if op.ask(opWildHash, s.q.wild && l == "#") {
		return
	}
	if n.plus != nil && !reserved {
		s.down(n.plus, after, further, false, group)
	}
	if op.ask(opWildPlus, s.q.wild && l == "+") {
		for i := range n.templates {
			if t := &n.templates[i]; s.who.values.stands(t.parts, "", group) == damaged {
				s.denials(t.node)
			}
		}
		return
	}
	if next := n.literal[l]; next != nil {
		s.down(next, after, further, false, group)
	}
	for i := range n.templates {
		t := &n.templates[i]
		if group < 0 && grouped(t.parts) {
			for g := range s.who.values.groups {
				if s.who.values.stands(t.parts, l, g) == fits {
					s.down(t.node, after, further, false, g)
				}
			}
		}
		switch f := s.who.values.stands(t.parts, l, group); {
		case f == damaged && op != opDamaged:
			s.denials(t.node)
		case op.ask(opValue, f == fits):
			s.down(t.node, after, further, false, group)
		}
	}
}

// denials takes what n and all below it deny: nobody knows what a rule means with a value that cannot be in a topic, so
// that it denies all that it could mean.
func (s *search) denials(n *node) {
	for _, rules := range [...][]*Rule{n.here, n.below} {
		for _, r := range rules {
			if !r.Allow {
				s.out.add(r, s.who, s.q)
			}
		}
	}
	for _, next := range n.literal {
		s.denials(next)
	}
	if n.plus != nil {
		s.denials(n.plus)
	}
	for i := range n.templates {
		s.denials(n.templates[i].node)
	}
}

func (s *search) take(rules []*Rule) {
	for _, r := range rules {
		s.out.add(r, s.who, s.q)
	}
}
