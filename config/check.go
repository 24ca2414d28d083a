package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/certs"
	"github.com/sealmq/sealmq/config/internal/bind"
	"github.com/sealmq/sealmq/transport"
)

// Validate reports everything that is wrong with c, a line each, by the keys of the file.
func (c Config) Validate() error { return c.Effective().problems(nil, nil).Err() }

// problems checks an effective configuration. The document, if there is one, gives the lines; read are the problems
// found in reading it.
func (c Config) problems(doc *bind.Document, read bind.Problems) bind.Problems {
	p := top(doc)
	p.read = read
	p.join(broker.Config{PreAuthMemory: c.Broker.PreAuthMemory, OutboundMemory: c.Broker.OutboundMemory}.Validate())
	p.in("limits").join(c.Broker.Limits.Validate())
	if c.Policy != "" && c.ACLFile != "" {
		p.add("acl_file", "there is policy too: one of the two")
	}
	p.in("acme").join(c.ACME.Validate())
	p.in("gate").join(c.Gate.Validate())
	p.in("auth").auth(c)
	if a := c.CA.PublishAddress; a != "" {
		if _, _, err := net.SplitHostPort(a); err != nil {
			p.in("ca").add("publish_address", "%q is not host:port", a)
		}
	}
	log := p.in("log")
	log.word("level", c.Log.Level, "debug", "info", "warn", "error")
	log.word("format", c.Log.Format, "text", "json")
	for i, l := range c.Listeners {
		q := p.element("listener", i, l.Name)
		q.listener(l, c.Listeners[:i])
		if l.ACME && !c.ACME.Enabled() {
			q.add("acme", "needs names: [acme] names = [\"broker.example.org\"]")
		}
	}
	return *p.found
}

// listener checks one listener; before are those above it.
func (p *place) listener(l Listener, before []Listener) {
	p.join(l.Config.Validate())
	p.in("limits").join(l.Limits.Validate())
	if _, port, err := net.SplitHostPort(l.Address); err == nil {
		if _, err := net.LookupPort("tcp", port); err != nil {
			p.add("address", "%q is not a port: 0 to 65535", port)
		}
	}
	p.chain(l)
	for _, o := range before {
		if l.Name == o.Name {
			p.add("name", "%q is the name of two listeners", l.Name)
		}
		if overlap(l.Address, o.Address) {
			p.add("address", "%s is taken by the listener %s (%s)", l.Address, o.Name, o.Address)
			break
		}
	}
	if strings.ContainsFunc(l.Name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' }) || len(l.Name) > 64 {
		p.add("name", "%q: a name has at most 64 bytes, no blanks, quotes or control characters", l.Name)
	}
	if p.misread() {
		return // what follows compares keys, and one of them is not what was meant
	}
	if !l.WebSocket && len(l.WebSocketPaths) > 0 {
		p.add("websocket_paths", "has no effect without websocket = true")
	}
	if !l.WebSocket && len(l.WebSocketOrigins) > 0 {
		p.add("websocket_origins", "has no effect without websocket = true")
	}
	if l.Plain {
		if !l.Anonymous {
			p.add("tls", "a listener without TLS takes no credentials, so it must also say anonymous = true")
		}
		if l.ClientCertificates != transport.None || p.is("client_certificates", "required") {
			p.add("client_certificates", "there are none without TLS")
		}
		for _, o := range []struct {
			key string
			set bool
		}{
			{"certificate", l.Certificate != ""}, {"key", l.Key != ""}, {"more_certificates", len(l.MoreCertificates) > 0},
			{"more_keys", len(l.MoreKeys) > 0}, {"acme", l.ACME}, {"client_ca", l.ClientCA != ""}, {"own_clients", l.OwnClients},
			{"client_crl", len(l.ClientCRL) > 0}, {"enroll", l.Enroll}, {"identity", l.Identity != ""}, {"bind_client_id", l.BindClientID != "identity"},
		} {
			if o.set {
				p.add(o.key, "has no effect without TLS")
			}
		}
		return
	}
	if len(l.MoreCertificates) != len(l.MoreKeys) {
		p.add("more_keys", "%d certificates need as many keys, not %d", len(l.MoreCertificates), len(l.MoreKeys))
	}
	if len(l.MoreCertificates) > 0 && l.Certificate == "" {
		p.add("more_certificates", "needs a first one for all other names: certificate = \"FILE\"")
	}
	if l.OwnClients && l.ClientCA == "" {
		p.add("own_clients", "has no effect without client_ca: clients of the server's own CA are accepted")
	}
	if len(l.ClientCRL) > 0 && l.ClientCA == "" {
		p.add("client_crl", "has no effect without client_ca: the server keeps the list of its own CA itself")
	}
	for _, c := range l.ClientCRL {
		if err := certs.CheckCRL(c); err != nil {
			p.add("client_crl", "%v", err)
		}
	}
	if l.Enroll {
		if l.ClientCertificates != transport.Required {
			p.add("client_certificates", "a listener for enrolment takes clients with any certificate, or none")
		}
		if l.ClientCA != "" {
			p.add("client_ca", "a listener for enrolment is for devices of the server's own CA, and of their makers")
		}
		if l.Anonymous && len(l.Auth) == 0 {
			p.add("anonymous", "a listener for enrolment gives nothing else")
		}
		if len(l.Auth) > 0 {
			p.add("auth", "a listener for enrolment gives nothing else, to clients with any certificate, or none")
		}
		return
	}
	if l.Anonymous && len(l.Auth) == 0 && l.ClientCertificates == transport.Required {
		p.add("anonymous", "has no effect while client_certificates is required; say optional or none")
	}
	if l.ClientCA != "" && l.ClientCertificates == transport.None {
		p.add("client_ca", "has no effect while client_certificates is none")
	}
	if l.Certificate != "" && l.Key == "" {
		p.add("certificate", "needs its key: key = \"FILE\"")
	}
	if l.Key != "" && l.Certificate == "" {
		p.add("key", "needs its certificate: certificate = \"FILE\"")
	}
}

// overlap tells whether two addresses cannot be listened on together. Port 0 is a free one each time.
func overlap(a, b string) bool {
	ah, ap, aerr := net.SplitHostPort(a)
	bh, bp, berr := net.SplitHostPort(b)
	if aerr != nil || berr != nil || ap != bp || ap == "0" {
		return false
	}
	all := func(h string) bool { ip := net.ParseIP(h); return h == "" || ip != nil && ip.IsUnspecified() }
	return all(ah) || all(bh) || strings.EqualFold(ah, bh)
}

// Warnings are what an operator should know of a configuration that is valid, a sentence each.
func (c Config) Warnings() []string {
	c = c.Effective()
	var ws []string
	if c.Uses("ldap") && c.Auth.LDAP.Plaintext {
		ws = append(ws, "auth.ldap.allow_plaintext: every password is readable on the way to the directory")
	}
	for _, l := range c.Listeners {
		warn := func(format string, a ...any) {
			ws = append(ws, fmt.Sprintf("listener %s (%s): %s", l.Name, l.Address, fmt.Sprintf(format, a...)))
		}
		switch {
		case l.Plain:
			warn("no TLS: whoever reaches it may publish and subscribe, and everything can be read on the way")
		case l.Anonymous:
			warn("anonymous: whoever reaches it may publish and subscribe")
		case l.ClientCertificates == transport.None && slices.Equal(l.Chain(), []string{"certificate"}):
			warn("client_certificates is none and anonymous is not set: no client can prove who it is, and none gets in")
		}
		if l.WebSocket && slices.Contains(l.WebSocketOrigins, "*") {
			warn("websocket_origins allows every web page: any page that a user visits may connect as that user")
		}
		if int64(l.MaxBacklog) < 2*l.Limits.MaxOutbound {
			warn("max_backlog is less than twice limits.max_outbound_bytes: slow clients are cut off early")
		}
		if l.Limits.MaxConnectSize > c.Broker.PreAuthMemory {
			warn("limits.max_connect_size is more than preauth_memory: a CONNECT of that size cannot be taken")
		}
	}
	return ws
}

// place is a table of the configuration that is being checked.
type place struct {
	doc   *bind.Document
	at    *bind.Node
	path  string
	read  bind.Problems
	found *bind.Problems
}

// top is the whole file; without a document there are keys but no lines.
func top(doc *bind.Document) *place {
	p := &place{doc: doc, found: new(bind.Problems)}
	if doc != nil {
		p.at = doc.Root
	}
	return p
}

func (p *place) in(key string) *place {
	q := p.child(key)
	q.at = p.at.Get(key)
	return q
}

// element is a table of a list; without a document it is told by its name.
func (p *place) element(key string, i int, name string) *place {
	if p.doc == nil {
		return p.child(fmt.Sprintf("%s[%s]", key, name))
	}
	q := p.child(key)
	if list := p.at.Get(key); list != nil && i < len(list.Items) {
		q.at = list.Items[i]
	}
	return q
}

func (p *place) child(key string) *place {
	q := *p
	q.at, q.path = nil, p.path+key+"."
	return &q
}

func (p *place) add(key, format string, args ...any) {
	pr := bind.Problem{Key: p.path + key, Text: fmt.Sprintf(format, args...), Line: p.at.LineOf(key)}
	if p.doc != nil {
		pr.File = p.doc.File
	}
	*p.found = append(*p.found, pr)
}

// is tells whether the file itself sets the key to the word.
func (p *place) is(key, word string) bool {
	n := p.at.Get(key)
	return n != nil && n.Text == word
}

// misread tells whether a key of this table could not be read.
func (p *place) misread() bool {
	if p.doc == nil || p.at == nil {
		return false
	}
	return p.doc.Broken || slices.ContainsFunc(p.at.Keys, func(key string) bool {
		line := p.at.LineOf(key)
		return slices.ContainsFunc(p.read, func(pr bind.Problem) bool { return pr.Line == line })
	})
}

func (p *place) word(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.add(key, "%q is none of %s", value, strings.Join(allowed, ", "))
	}
}

// join takes the errors of a package's Validate, each of which begins with its key.
func (p *place) join(err error) {
	if err == nil {
		return
	}
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		for _, e := range many.Unwrap() {
			p.join(e)
		}
		return
	}
	key, text, _ := strings.Cut(err.Error(), ": ")
	p.add(key, "%s", text)
}
