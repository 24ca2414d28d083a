package policy

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/topic"
)

// assert reads what follows the word: assert allow { device = "pump-17" } publish dt/pump-17/temp qos=1
func (p *parser) assert(at Pos) (*Assert, bool) {
	const advice = `write assert allow { device = "pump-17" } publish dt/pump-17/temp`
	a := &Assert{Pos: at}
	switch t := p.next(); {
	case t.kind == tokWord && t.text == "allow":
		a.Allow = true
	case t.kind != tokWord || t.text != "deny":
		p.unexpected(t, "allow or deny", advice)
		return nil, false
	}
	if !p.sign("{", advice) {
		return nil, false
	}
	var ok bool
	if a.id, a.Identity, ok = p.identity(token{kind: tokSign, text: "}"}); !ok {
		return nil, false
	}
	if a.Request.Action, ok = p.action(); !ok {
		return nil, false
	}
	t, ok := p.topic()
	if !ok {
		return nil, false
	}
	a.Request.Topic = t.text
	if text := validRequest(&a.Request); text != "" {
		p.errs.add(p.file.Name, t.pos, "write the topic as a client would", "%s", text)
	}
	places, ok := p.conds(&a.with)
	if !ok {
		return nil, false
	}
	for i, c := range a.with {
		if text, advice := a.Request.set(c); text != "" {
			p.errs.add(p.file.Name, places[i], advice, "%s", text)
		}
	}
	return a, true
}

// identity reads attributes up to end, which is } or nothing, and makes an identity of them.
func (p *parser) identity(end token) (id Identity, attrs []Cond, ok bool) {
	const advice = "write device = pump-17 groups = [sensors]"
	var places []Pos
	for {
		t := p.next()
		if t.kind == end.kind && t.text == end.text {
			break
		}
		if t.kind != tokWord {
			p.unexpected(t, "an attribute", advice)
			return id, nil, false
		}
		if t.text == "and" && len(attrs) > 0 {
			continue
		}
		c, ok := p.cond(t)
		if !ok {
			return id, nil, false
		}
		attrs, places = append(attrs, c), append(places, t.pos)
	}
	for i, c := range attrs {
		if text := id.set(c); text != "" {
			p.errs.add(p.file.Name, places[i], "there are "+attributeNames, "%s", text)
		}
	}
	return id, attrs, true
}

// ParseIdentity reads a client as an assertion has it in its braces: device = pump-17 cert.ou = sensors. Who has a device
// or user name is authenticated, and a device is bound to its name. The error is Errors.
func ParseIdentity(text string) (Identity, error) {
	p := &parser{file: &File{Name: "client"}}
	if !p.acceptable([]byte(text)) {
		return Identity{}, p.errs.err()
	}
	p.lexer = newLexer(text)
	id, _, _ := p.identity(token{})
	return id, p.errs.err()
}

// set applies one of qos, retain, size and time of an assertion.
func (r *Request) set(c Cond) (text, advice string) {
	advice = "write qos=1, retain=yes, size=2KiB or time=2026-01-05T10:00:00Z"
	v := c.Values[0]
	if c.Op != "=" || len(c.Values) > 1 {
		return "an assertion's request has one value for " + c.Key, advice
	}
	ok := true
	switch c.Key {
	case "qos":
		if ok = v == "0" || v == "1" || v == "2"; ok {
			r.QoS = v[0] - '0'
		}
	case "retain":
		r.Retain, ok = v == "yes", v == "yes" || v == "no"
	case "size":
		r.Size, ok = parseSize(v)
	case "time":
		var err error
		r.Time, err = time.Parse(time.RFC3339, v)
		ok = err == nil
	default:
		return "a request has no " + c.Key, advice
	}
	if !ok {
		return "no value of " + c.Key + ": " + quote(v), advice
	}
	return "", ""
}

// validRequest tells why nobody can ask this.
func validRequest(r *Request) string {
	if r.Action != auth.Subscribe {
		if err := topic.ValidName(r.Topic); err != nil {
			return "the topic " + err.Error()
		}
		return ""
	}
	if err := topic.ValidFilter(r.Topic); err != nil {
		return "the filter " + err.Error()
	}
	if _, _, _, err := topic.ParseShare(r.Topic); err != nil {
		return "the filter " + err.Error()
	}
	return ""
}

// set gives the identity an attribute, or tells what is wrong with it.
func (id *Identity) set(c Cond) (text string) {
	v := c.Values[0]
	if c.Op != "=" && c.Op != "has" {
		return "an assertion's client has a value, not a comparison, for " + c.Key
	}
	switch c.Key {
	case "device":
		id.Name, id.Kind, id.Method = v, "device", "certificate"
		id.ClientID, id.Proven = v, true
	case "user":
		id.Name, id.Method = v, "password"
	case "kind":
		id.Kind = v
	case "method":
		id.Method = v
	case "client_id":
		id.ClientID = v
	case "groups":
		id.Groups = c.Values
	case "cert.cn":
		id.Cert.CN = v
	case "cert.issuer":
		id.Cert.Issuer = v
	case "cert.ou":
		id.Cert.OU = c.Values
	case "cert.o":
		id.Cert.O = c.Values
	case "cert.uri":
		id.Cert.URI = c.Values
	case "cert.dns":
		id.Cert.DNS = c.Values
	case "cert.serial":
		id.Cert.Serial = v
	case "cert.fingerprint":
		id.Cert.Fingerprint = v
	case "listener":
		id.Listener = v
	case "transport":
		id.Transport = v
	case "tls":
		rank := indexOf(tlsVersions[:], v)
		if rank < 0 {
			return "no TLS version " + quote(v)
		}
		if rank > 0 {
			id.TLS = tls.VersionTLS10 + uint16(rank-1)
		}
	case "address":
		a, err := netip.ParseAddr(v)
		if err != nil {
			return "no address " + quote(v)
		}
		id.Address = a.Unmap().WithZone("")
	default:
		claim, ok := strings.CutPrefix(c.Key, "jwt.")
		if !ok || claim == "" {
			return "no attribute " + quote(c.Key)
		}
		if id.Claims == nil {
			id.Claims = map[string][]string{}
		}
		id.Claims[claim] = c.Values
	}
	if len(c.Values) > 1 && !multiple(c.Key) {
		return c.Key + " has one value"
	}
	return ""
}

// multiple reports whether an attribute can have several values.
func multiple(attr string) bool {
	switch attr {
	case "groups", "cert.ou", "cert.o", "cert.uri", "cert.dns":
		return true
	}
	return strings.HasPrefix(attr, "jwt.")
}

// Failure is an assertion that does not hold.
type Failure struct {
	File        string
	Assert      *Assert
	Explanation Explanation
}

// Error says what was asserted, and why it is otherwise.
func (f *Failure) Error() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Assert.Pos.Line, f.Assert.Text(), f.Explanation)
}

// Test checks the assertions of the policy's file and returns those that do not hold.
func (p *Policy) Test() []*Failure {
	var out []*Failure
	for _, d := range p.file.Decls {
		if d.Assert == nil {
			continue
		}
		a := d.Assert
		if e := p.Explain(a.id, a.Request); e.Allowed != a.Allow {
			out = append(out, &Failure{p.file.Name, a, e})
		}
	}
	return out
}

// Text is the assertion as the formatter writes it.
func (a *Assert) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "assert %s {", verdict(a.Allow))
	for _, c := range a.Identity {
		fmt.Fprintf(&b, " %s %s %s", c.Key, c.Op, list(c.Values))
	}
	fmt.Fprintf(&b, " } %s %s", a.Request.Action.String(), word(a.Request.Topic, true))
	for _, c := range a.with {
		b.WriteString(" " + c.Key + c.Op + list(c.Values))
	}
	return b.String()
}
