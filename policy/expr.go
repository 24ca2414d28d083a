package policy

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"
)

// attributeNames says what an expression can speak of.
const attributeNames = "device, user, kind, method, client_id, groups, cert.cn, cert.issuer, cert.ou, cert.o, cert.uri, cert.dns, cert.serial, " +
	"cert.fingerprint, listener, transport, tls, address, jwt.NAME"

// nameAttribute is what Mosquitto calls the user: the name of a device or a user. The language has no such word.
const nameAttribute = " name"

// attribute gives the values of an attribute; none if the identity has none. ok says that there is such an attribute.
func attribute(id *Identity, name string) (values []string, ok bool) {
	one := func(s string) ([]string, bool) {
		if s == "" {
			return nil, true
		}
		return []string{s}, true
	}
	switch name {
	case nameAttribute:
		return one(id.Name)
	case "device":
		return one(id.device())
	case "user":
		return one(id.user())
	case "kind":
		return one(id.kind())
	case "method":
		return one(id.Method)
	case "client_id":
		if !id.Proven {
			return nil, true
		}
		return one(id.ClientID)
	case "groups":
		return id.Groups, true
	case "cert.cn":
		return one(id.Cert.CN)
	case "cert.issuer":
		return one(id.Cert.Issuer)
	case "cert.ou":
		return id.Cert.OU, true
	case "cert.o":
		return id.Cert.O, true
	case "cert.uri":
		return id.Cert.URI, true
	case "cert.dns":
		return id.Cert.DNS, true
	case "cert.serial":
		return one(id.Cert.Serial)
	case "cert.fingerprint":
		return one(id.Cert.Fingerprint)
	case "listener":
		return one(id.Listener)
	case "transport":
		return one(id.Transport)
	case "tls":
		return one(tlsName(id.TLS))
	}
	if claim, is := strings.CutPrefix(name, "jwt."); is && claim != "" {
		return id.Claims[claim], true
	}
	return nil, false
}

var tlsVersions = [...]string{"none", "1.0", "1.1", "1.2", "1.3"}

func tlsName(version uint16) string { return tlsVersions[tlsRank(version)] }

func tlsRank(version uint16) int {
	if version < tls.VersionTLS10 {
		return 0
	}
	return min(int(version-tls.VersionTLS10)+1, 4)
}

// match reports whether the expression is true for the identity.
func (e *Expr) match(id *Identity) bool {
	switch {
	case e.test != nil:
		return e.test(id)
	case e.All != nil:
		return !slices.ContainsFunc(e.All, func(x *Expr) bool { return !x.match(id) })
	}
	return slices.ContainsFunc(e.Any, func(x *Expr) bool { return x.match(id) })
}

// lists reports whether the expression names its members, or groups that are kept elsewhere, so that others can be added.
func (e *Expr) lists() bool {
	return e != nil && (e.Attr == "user" || e.Attr == "device" || e.Attr == "groups" ||
		slices.ContainsFunc(e.All, (*Expr).lists) || slices.ContainsFunc(e.Any, (*Expr).lists))
}

// compile makes the test of a comparison, or tells what is wrong with it.
func (e *Expr) compile() (text, advice string) {
	attr, values := e.Attr, e.Values
	for _, v := range values {
		if v == "" {
			return "the empty value of " + attr + " is nobody's", "leave the comparison out"
		}
	}
	switch attr {
	case "tls":
		rank := slices.Index(tlsVersions[:], values[0])
		if rank < 0 || len(values) > 1 || e.Op == "has" {
			return "no TLS version " + quote(values[0]), "write tls>=1.2, tls=1.3 or tls=none"
		}
		op := e.Op
		e.test = func(id *Identity) bool { return compare(tlsRank(id.TLS), rank, op) }
		return "", ""
	case "address":
		return e.address()
	}
	var none Identity
	if _, ok := attribute(&none, attr); !ok {
		return "no attribute " + quote(attr), "there are " + attributeNames
	}
	switch e.Op {
	case "=", "has":
		e.test = func(id *Identity) bool { return overlap(id, attr, values) }
	case "!=":
		e.test = func(id *Identity) bool { return !overlap(id, attr, values) }
	default:
		return attr + " has no order", "compare it with =, != or has"
	}
	return "", ""
}

// overlap reports whether the identity has one of the values.
func overlap(id *Identity, attr string, values []string) bool {
	have, _ := attribute(id, attr)
	return slices.ContainsFunc(have, func(v string) bool { return slices.Contains(values, v) })
}

func (e *Expr) address() (text, advice string) {
	var nets []netip.Prefix
	for _, v := range e.Values {
		p, err := netip.ParsePrefix(v)
		if err != nil {
			a, err := netip.ParseAddr(v)
			if err != nil || a.Zone() != "" {
				return "no address " + quote(v), "write address=10.0.0.0/8 or address=192.0.2.7"
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Addr().Is4In6() {
			return "an IPv4 address in IPv6 form: " + quote(v), "write it as IPv4"
		}
		nets = append(nets, p.Masked())
	}
	in := func(id *Identity) bool {
		return id.Address.IsValid() && slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(id.Address) })
	}
	switch e.Op {
	case "=":
		e.test = in
	case "!=":
		e.test = func(id *Identity) bool { return !in(id) }
	default:
		return "address has no order", "compare it with = or !="
	}
	return "", ""
}

// anchor is a value that an identity must have.
type anchor struct{ attr, value string }

// anchors returns values of which an identity has one if the expression is true for it; nil if that is not known. By them
// a policy finds the groups of an identity without asking all.
func (e *Expr) anchors() []anchor {
	switch {
	case e.All != nil:
		for _, x := range e.All {
			if a := x.anchors(); a != nil {
				return a
			}
		}
	case e.Any != nil:
		var all []anchor
		for _, x := range e.Any {
			a := x.anchors()
			if a == nil {
				return nil
			}
			all = append(all, a...)
		}
		return all
	case (e.Op == "=" || e.Op == "has") && slices.Contains(anchored[:], e.Attr):
		out := make([]anchor, len(e.Values))
		for i, v := range e.Values {
			out[i] = anchor{e.Attr, v}
		}
		return out
	}
	return nil
}

// anchored are the attributes that groups are found by.
var anchored = [...]string{nameAttribute, "device", "user", "groups", "cert.cn", "cert.ou"}

// String is the expression as the formatter writes it.
func (e *Expr) String() string {
	join := func(parts []*Expr, with string, paren bool) string {
		out := make([]string, len(parts))
		for i, p := range parts {
			out[i] = p.String()
			if paren && p.Any != nil {
				out[i] = "(" + out[i] + ")"
			}
		}
		return strings.Join(out, with)
	}
	switch {
	case e.All != nil:
		return join(e.All, " and ", true)
	case e.Any != nil:
		return join(e.Any, " or ", false)
	}
	return e.Attr + " " + e.Op + " " + list(e.Values)
}
