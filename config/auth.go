package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/config/internal/bind"
	"github.com/sealmq/sealmq/transport"
)

// ways are the names that `auth` of a listener may have; only the first and the last need no table.
var ways = []string{"certificate", "password", "scram", "jwt", "http", "ldap", "anonymous"}

// Uses reports whether any listener takes one of these ways of authentication.
func (c *Config) Uses(names ...string) bool {
	return slices.ContainsFunc(c.Listeners, func(l Listener) bool {
		return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(l.Auth, name) })
	})
}

// auth checks the tables of the ways that are used, or that say anything.
func (p *place) auth(c Config) {
	check := func(used bool, key string, table interface{ Validate() error }) {
		if used || said(table) {
			p.in(key).join(table.Validate())
		}
	}
	uses := c.Uses("password", "scram")
	check(uses, "password", c.Auth.Password)
	if c.Auth.Password.File == "" && (uses || said(c.Auth.Password)) {
		p.in("password").add("file", "a file with users is wanted: sealmq passwd makes one")
	}
	check(c.Uses("jwt"), "jwt", c.Auth.JWT)
	check(c.Uses("http"), "http", c.Auth.HTTP)
	check(c.Uses("ldap"), "ldap", c.Auth.LDAP)
	check(true, "backoff", c.Auth.Backoff)
}

// said reports whether a table has anything that is not its default.
func said(table any) bool {
	plain := reflect.New(reflect.TypeOf(table))
	bind.Fill(plain.Interface())
	v := reflect.ValueOf(table)
	for _, f := range bind.Fields(v.Type()) {
		a, b := v.FieldByIndex(f.Index), plain.Elem().FieldByIndex(f.Index)
		if f.Shape() == bind.List && a.Len() > 0 || f.Shape() != bind.List && !a.Equal(b) {
			return true
		}
	}
	return false
}

// chain checks what a listener says about authentication.
func (p *place) chain(l Listener) {
	last := len(l.Auth) - 1
	if last >= 2*len(ways) {
		p.add("auth", "%d entries, and there are %d ways", last+1, len(ways))
		l.Auth = nil
	}
	for i, name := range l.Auth {
		switch {
		case !slices.Contains(ways, name):
			p.add("auth", "%q is none of %s", name, strings.Join(ways, ", "))
		case slices.Contains(l.Auth[:i], name):
			p.add("auth", "%q is there twice", name)
		case name == "anonymous" && i < last:
			p.add("auth", "anonymous comes last: whoever proves nothing is let in by it")
		case l.Plain && name != "anonymous":
			p.add("auth", "%q has no effect without TLS: credentials never travel in the clear", name)
		case l.Plain || l.Enroll:
		case name == "certificate" && l.ClientCertificates == transport.None:
			p.add("auth", "certificate has no effect while client_certificates is none")
		case i > 0 && l.ClientCertificates == transport.Required && slices.Contains(l.Auth[:i], "certificate"):
			p.add("auth", "%q is never asked: every client has a certificate while client_certificates is required; say optional", name)
		case name == "anonymous" && l.ClientCertificates == transport.Required:
			p.add("auth", "anonymous has no effect while client_certificates is required; say optional or none")
		}
	}
	if _, err := auth.ParseMapping(l.Identity); err != nil {
		p.add("identity", "%v", err)
	}
	p.word("bind_client_id", l.BindClientID, "identity", "cn", "dns", "uri", "none")
	if !l.Plain && l.ClientCA == "" {
		for _, o := range []struct {
			key string
			set bool
		}{{"identity", l.Identity != ""}, {"bind_client_id", l.BindClientID != "identity"}} {
			if o.set {
				p.add(o.key, "has no effect without client_ca: certificates of the server's own CA say who their holder is")
			}
		}
	}
}

// authFiles checks that the files of the ways that are used are there, and that the users can be read.
func (p *place) authFiles(c Config) {
	if c.Uses("password", "scram") {
		if q := p.in("password"); q.readable("file", c.Auth.Password.File) {
			_, err := password.Load(c.Auth.Password.File)
			q.lines("file", err)
		}
	}
	if c.Uses("jwt") {
		q := p.in("jwt")
		q.readable("ca_file", c.Auth.JWT.CAFile)
		for _, file := range c.Auth.JWT.Keys {
			q.readable("keys", file)
		}
	}
	if c.Uses("http") {
		q := p.in("http")
		q.readable("ca_file", c.Auth.HTTP.CAFile)
		q.readable("token_file", c.Auth.HTTP.TokenFile)
	}
	if c.Uses("ldap") {
		q := p.in("ldap")
		q.readable("ca_file", c.Auth.LDAP.CAFile)
		q.readable("password_file", c.Auth.LDAP.PasswordFile)
	}
}

// lines adds each line of an error by itself.
func (p *place) lines(key string, err error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			p.unusable(key, e)
		}
		return
	}
	p.unusable(key, err)
}
