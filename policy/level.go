package policy

import (
	"strings"

	"github.com/sealmq/sealmq/topic"
)

// variable is a placeholder.
type variable uint8

const (
	varDevice variable = iota
	varUser
	varName // of Mosquitto's %u: of a device or a user
	varClient
	varGroup
	variables = iota
)

var variableNames = [variables]string{"device", "user", "%u", "client_id", "group"}

// level is a level of a rule's filter: a text, "+" or "#", or parts with placeholders.
type level struct {
	text  string
	parts []part // nil without placeholders
}

// part is a text or, if it is empty, a placeholder.
type part struct {
	text string
	v    variable
}

// placeholderNames says which placeholders there are.
const placeholderNames = "${device}, ${user}, ${client_id} and ${group}"

// compileLevels reads a filter with placeholders, or tells what is wrong with it.
func compileLevels(filter string) (levels []level, text, advice string) {
	for l := range strings.SplitSeq(filter, "/") {
		parts, text, advice := compileParts(l)
		if text != "" {
			return nil, text, advice
		}
		levels = append(levels, level{l, parts})
	}
	// Values have no / + or #, so that the filter is as valid as one with another text in their places.
	var sample strings.Builder
	for i, l := range levels {
		if i > 0 {
			sample.WriteByte('/')
		}
		if l.parts == nil {
			sample.WriteString(l.text)
			continue
		}
		for _, p := range l.parts {
			sample.WriteString(p.text + "x")
		}
		if s := l.text; strings.ContainsAny(s, "+#") {
			return nil, "the filter has a wildcard beside a placeholder", "a wildcard is alone in its level"
		}
	}
	if err := topic.ValidFilter(sample.String()); err != nil {
		return nil, "the filter " + err.Error(), "+ and # stand alone in their levels, # at the end"
	}
	if strings.HasPrefix(filter, "$share/") || filter == "$share" {
		return nil, "a shared subscription is no filter of a rule", "leave $share/GROUP/ out: the rule holds for shared subscriptions too"
	}
	return levels, "", ""
}

// compileParts splits a text at its placeholders; nil if it has none.
func compileParts(s string) (parts []part, text, advice string) {
	for rest := s; ; {
		i := strings.Index(rest, "${")
		if i < 0 {
			if parts != nil && rest != "" {
				parts = append(parts, part{text: rest})
			}
			return parts, "", ""
		}
		end := strings.IndexByte(rest[i:], '}')
		if end < 0 {
			return nil, "a ${ without its }", "there are " + placeholderNames
		}
		v := indexOf(variableNames[:], rest[i+2:i+end])
		if v < 0 || v == int(varName) {
			return nil, "no placeholder " + quote(rest[i:i+end+1]), "there are " + placeholderNames
		}
		if i > 0 {
			parts = append(parts, part{text: rest[:i]})
		}
		parts = append(parts, part{v: variable(v)})
		rest = rest[i+end+1:]
	}
}

func indexOf(all []string, s string) int {
	for i, x := range all {
		if x == s {
			return i
		}
	}
	return -1
}

// values are what the placeholders mean for one identity.
type values struct {
	one    [varGroup]string // empty: none
	bad    [variables]bool  // there is a value, and it must not stand in a topic
	groups []string         // those fit to stand in a topic
}

// newValues finds the values of an identity. proven says that its client identifier is not just its own claim.
func newValues(id *Identity, proven bool) values {
	var v values
	v.set(varDevice, id.device())
	v.set(varUser, id.user())
	v.set(varName, id.Name)
	if proven {
		v.set(varClient, id.ClientID)
	}
	for _, g := range id.Groups {
		if g == "" {
			continue
		}
		if usable(g) {
			v.groups = append(v.groups, g)
		} else {
			v.bad[varGroup] = true
		}
	}
	return v
}

func (v *values) set(which variable, s string) {
	if v.bad[which] = s != "" && !usable(s); !v.bad[which] {
		v.one[which] = s
	}
}

// usable reports whether a value may take the place of a placeholder: it must neither widen a filter, nor reach into
// another level, nor become a topic of the broker's own.
func usable(s string) bool {
	return s[0] != '$' && topic.ValidName(s) == nil && !strings.ContainsRune(s, '/') &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 })
}

// fit says whether a level with placeholders stands for the text s.
type fit uint8

const (
	fits    fit = iota + 1
	unlike      // another text, or a placeholder without value
	damaged     // a placeholder's value must not stand in a topic
)

// stands compares parts with s. group is the one that ${group} means, an index into v.groups, or -1.
func (v *values) stands(parts []part, s string, group int) fit {
	rest, f := v.begins(parts, s, group)
	if f == fits && rest != "" {
		return unlike
	}
	return f
}

// begins compares parts with the beginning of s, and returns what follows.
func (v *values) begins(parts []part, s string, group int) (rest string, f fit) {
	for _, p := range parts {
		if p.text == "" && v.bad[p.v] && (p.v != varGroup || group < 0) {
			return "", damaged
		}
	}
	for _, p := range parts {
		text := p.text
		switch {
		case text != "":
		case p.v != varGroup:
			text = v.one[p.v]
		case group >= 0:
			text = v.groups[group]
		}
		var ok bool
		if s, ok = strings.CutPrefix(s, text); text == "" || !ok {
			return "", unlike
		}
	}
	return s, fits
}

// grouped reports whether parts have ${group}.
func grouped(parts []part) bool {
	for _, p := range parts {
		if p.text == "" && p.v == varGroup {
			return true
		}
	}
	return false
}

// uses says which placeholders a list of levels has, a bit each.
func uses(levels []level) (set uint8) {
	for _, l := range levels {
		for _, p := range l.parts {
			if p.text == "" {
				set |= 1 << p.v
			}
		}
	}
	return set
}

// expand puts the values in. The result is meant to be read: it is made of unusable values too.
func (v *values) expand(levels []level, group int) string {
	var b strings.Builder
	for i, l := range levels {
		if i > 0 {
			b.WriteByte('/')
		}
		if l.parts == nil {
			b.WriteString(l.text)
		}
		for _, p := range l.parts {
			switch {
			case p.text != "":
				b.WriteString(p.text)
			case p.v == varGroup && group >= 0 && group < len(v.groups):
				b.WriteString(v.groups[group])
			case p.v != varGroup && v.one[p.v] != "":
				b.WriteString(v.one[p.v])
			default:
				b.WriteString("${" + variableNames[p.v] + "}")
			}
		}
	}
	return b.String()
}
