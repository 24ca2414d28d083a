package certs

import (
	"crypto/tls"
	"strings"
)

// table finds the certificate for a server name.
type table struct {
	exact map[string][]*tls.Certificate // of files, by name in lower case
	wild  map[string][]*tls.Certificate // of files, "*.example.org" under ".example.org"
	ours  map[string][]*tls.Certificate // of our own CA beside files
	first []*tls.Certificate            // for clients that name no server, or one that is nobody's; empty without files
	own   *tls.Certificate              // nil if it is not shown
}

func newTable(pairs []*tls.Certificate, own *tls.Certificate) *table {
	t := &table{exact: map[string][]*tls.Certificate{}, wild: map[string][]*tls.Certificate{}, first: pairs, own: own}
	for _, c := range pairs {
		for _, name := range c.Leaf.DNSNames {
			name = strings.ToLower(name)
			switch rest, wild := strings.CutPrefix(name, "*"); {
			case isAddress(name):
			case wild:
				t.wild[rest] = append(t.wild[rest], c)
			default:
				t.exact[name] = append(t.exact[name], c)
			}
		}
	}
	if own != nil && len(pairs) > 0 {
		t.ours = map[string][]*tls.Certificate{}
		for _, name := range own.Leaf.DNSNames {
			if name = strings.ToLower(name); !isAddress(name) {
				t.ours[name] = []*tls.Certificate{own}
			}
		}
	}
	return t
}

// find looks a client's certificate up: the exact name in files, the source, a wildcard in files, our own, the default.
func (t *table) find(h *tls.ClientHelloInfo, source Source) *tls.Certificate {
	name := h.ServerName
	if name == "" || isAddress(name) {
		if len(t.first) > 0 {
			return t.otherwise(h)
		}
		if source != nil {
			if c, ok := source.Get(h); ok {
				return c
			}
		}
		return t.otherwise(h)
	}
	name = strings.ToLower(name) // allocates for the few that shout
	if c := fitting(t.exact[name], h); c != nil {
		return c
	}
	if source != nil {
		if c, ok := source.Get(h); ok {
			return c
		}
	}
	if i := strings.IndexByte(name, '.'); i > 0 {
		if c := fitting(t.wild[name[i:]], h); c != nil {
			return c
		}
	}
	if c := fitting(t.ours[name], h); c != nil {
		return c
	}
	return t.otherwise(h)
}

func (t *table) otherwise(h *tls.ClientHelloInfo) *tls.Certificate {
	if len(t.first) == 0 {
		return t.own
	}
	first := t.first[0]
	// A second pair for the same name has another kind of key.
	if len(t.first) > 1 && len(first.Leaf.DNSNames) > 0 {
		if same := t.exact[strings.ToLower(first.Leaf.DNSNames[0])]; len(same) > 1 && same[0] == first {
			return fitting(same, h)
		}
	}
	return first
}

// fitting is the first certificate that the client can use, of several for one name.
func fitting(of []*tls.Certificate, h *tls.ClientHelloInfo) *tls.Certificate {
	switch len(of) {
	case 0:
		return nil
	case 1:
		return of[0]
	}
	for _, c := range of {
		if h.SupportsCertificate(c) == nil {
			return c
		}
	}
	return of[0]
}

// isAddress tells an IP address from a name: no top-level domain is a number.
func isAddress(name string) bool {
	if strings.IndexByte(name, ':') >= 0 {
		return true
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	for i := range len(last) {
		if last[i] < '0' || last[i] > '9' {
			return false
		}
	}
	return last != ""
}
