// Package ldap authenticates clients by binding to a directory (RFC 4511) with their user name and password, either by a
// template of the name or after a search for the entry, and takes their groups from there.
//
// Connections use TLS, LDAPS or StartTLS, unless the configuration does without; a few are kept, and each has goroutines of
// go-ldap that Close ends. What a client says never gets into a name or filter without being escaped.
package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/auth/internal/secret"
	"github.com/sealmq/sealmq/auth/internal/web"
)

const queue = 1024 // clients that wait for a connection

// Authenticator asks the directory. Principals have the method "ldap", the name that the directory has for them, and their
// groups.
type Authenticator struct {
	cfg      Config
	server   server
	tls      *tls.Config
	password string // of cfg.BindDN
	dialer   net.Dialer
	turns    *auth.Turns
	idle     chan *conn

	mu     sync.Mutex
	closed bool
}

// New makes an Authenticator. It opens no connection yet. Close it.
func New(c Config) (*Authenticator, error) {
	c = c.effective()
	fail := func(err error) (*Authenticator, error) { return nil, fmt.Errorf("set up LDAP authentication: %w", err) }
	if err := c.Validate(); err != nil {
		return fail(err)
	}
	a := &Authenticator{cfg: c, turns: auth.NewTurns(c.Conns, queue), idle: make(chan *conn, c.Conns)}
	a.server, _ = parseURL(c.URL)
	roots, err := web.Roots(c.CAFile)
	if err != nil {
		return fail(err)
	}
	a.tls = &tls.Config{ServerName: a.server.host, RootCAs: roots, MinVersion: tls.VersionTLS12}
	if c.PasswordFile != "" {
		if a.password, err = secret.Read(c.PasswordFile); err != nil {
			return fail(err)
		}
	}
	return a, nil
}

// Close ends the connections that are idle; those in use end with their client.
func (a *Authenticator) Close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	for {
		select {
		case c := <-a.idle:
			c.Close()
		default:
			return
		}
	}
}

// Authenticate implements auth.Authenticator. An empty password is wrong: a directory takes it for an anonymous bind, which
// succeeds (RFC 4513 section 5.1.2).
func (a *Authenticator) Authenticate(ctx context.Context, c *auth.Credentials) (*auth.Principal, error) {
	if !c.HasUsername || !c.HasPassword || len(c.Password) > 1024 {
		return nil, auth.ErrUndecided
	}
	if err := auth.InTheClear(c); err != nil {
		return nil, err
	}
	if !plausible(c.Username) || len(c.Password) == 0 {
		return nil, auth.Wrong()
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	if err := a.turns.Take(ctx); err != nil {
		return nil, fmt.Errorf("ask directory: %w", err)
	}
	defer a.turns.Leave()
	var p *auth.Principal
	err := a.borrow(ctx, func(d *conn) (err error) {
		p, err = a.ask(d, strings.Clone(c.Username), string(c.Password))
		return err
	})
	var no *auth.Refusal
	if err != nil && !errors.Is(err, auth.ErrUndecided) && !errors.As(err, &no) {
		return nil, fmt.Errorf("ask directory %s: %w", a.server.addr, err)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// ask finds and binds the user, and reads the entry and the groups.
func (a *Authenticator) ask(d *conn, user, password string) (*auth.Principal, error) {
	var entry *goldap.Entry
	var dn string
	if a.cfg.UserDN != "" {
		name, ok := bindName(a.cfg.UserDN, user)
		if !ok {
			return nil, auth.Wrong()
		}
		if err := bindUser(d, name, password); err != nil {
			return nil, err
		}
		var err error
		switch {
		case a.cfg.Base != "":
			if entry, err = a.find(d, user); entry == nil && err == nil {
				err = errors.New("the user's entry is not below search_base, or the user may not read it")
			}
		case strings.Contains(a.cfg.UserDN, "="):
			dn = name
			entry, err = a.read(d, name)
		}
		if err != nil {
			return nil, err
		}
	} else {
		if err := a.bindSelf(d); err != nil {
			return nil, err
		}
		var err error
		if entry, err = a.find(d, user); err != nil {
			return nil, err
		}
		if entry == nil {
			return nil, auth.ErrUndecided
		}
		if err := bindUser(d, entry.DN, password); err != nil {
			return nil, err
		}
		if a.cfg.GroupBase != "" {
			if err := a.bindSelf(d); err != nil {
				return nil, err
			}
		}
	}
	name, ok := nameOf(entry, a.cfg.NameAttribute, user)
	if !ok {
		return nil, fmt.Errorf("the user has no %s that can be a name", a.cfg.NameAttribute)
	}
	var names []string
	if entry != nil {
		dn = entry.DN
		for _, g := range entry.GetEqualFoldAttributeValues(a.cfg.GroupAttribute) {
			names = append(names, groupName(g))
		}
	}
	if a.cfg.GroupBase != "" {
		more, err := a.groups(d, user, dn)
		if err != nil {
			return nil, err
		}
		names = append(names, more...)
	}
	all, err := groups(names)
	if err != nil {
		return nil, err
	}
	return &auth.Principal{Name: name, Method: "ldap", Groups: all}, nil
}

// bindSelf binds as the account that searches, or as nobody.
func (a *Authenticator) bindSelf(d *conn) error {
	var err error
	if a.cfg.BindDN == "" {
		err = d.UnauthenticatedBind("")
	} else {
		err = d.Bind(a.cfg.BindDN, a.password)
	}
	if err != nil {
		return fmt.Errorf("bind as %q: %w", a.cfg.BindDN, err)
	}
	return nil
}

// bindUser tells a wrong password from a directory that cannot say.
func bindUser(d *conn, name, password string) error {
	err := d.Bind(name, password)
	if err != nil && goldap.IsErrorAnyOf(err, goldap.LDAPResultInvalidCredentials, goldap.LDAPResultInappropriateAuthentication,
		goldap.LDAPResultInsufficientAccessRights, goldap.LDAPResultConstraintViolation, goldap.LDAPResultNoSuchObject,
		goldap.LDAPResultInvalidDNSyntax) {
		return auth.Wrong()
	}
	return err
}

// find searches the user's entry; nil if there is none.
func (a *Authenticator) find(d *conn, user string) (*goldap.Entry, error) {
	found, err := a.search(d, a.cfg.Base, goldap.ScopeWholeSubtree, 2, filter(a.cfg.Filter, user, ""), a.cfg.NameAttribute, a.cfg.GroupAttribute)
	if err != nil {
		return nil, fmt.Errorf("search user: %w", err)
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		if found[0].DN == "" {
			return nil, errors.New("search user: an entry without a name")
		}
		return found[0], nil
	}
	return nil, errors.New("search user: more than one entry has this user name")
}

// read reads the entry of a user who is bound; nil if the user may not.
func (a *Authenticator) read(d *conn, dn string) (*goldap.Entry, error) {
	found, err := a.search(d, dn, goldap.ScopeBaseObject, 1, "(objectClass=*)", a.cfg.NameAttribute, a.cfg.GroupAttribute)
	if goldap.IsErrorAnyOf(err, goldap.LDAPResultInsufficientAccessRights) {
		return nil, nil
	}
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// groups searches the user's groups.
func (a *Authenticator) groups(d *conn, user, dn string) ([]string, error) {
	if dn == "" && strings.Contains(a.cfg.GroupFilter, dnHere) {
		return nil, errors.New("search groups: the user's entry is not known, and group_filter wants its name")
	}
	found, err := a.search(d, a.cfg.GroupBase, goldap.ScopeWholeSubtree, maxGroups+1, filter(a.cfg.GroupFilter, user, dn), a.cfg.GroupName)
	if err != nil {
		return nil, fmt.Errorf("search groups: %w", err)
	}
	var names []string
	for _, e := range found {
		names = append(names, e.GetEqualFoldAttributeValues(a.cfg.GroupName)...)
	}
	return names, nil
}

// search returns at most limit entries; where nothing is there it finds nothing.
func (a *Authenticator) search(d *conn, base string, scope, limit int, filter string, attributes ...string) ([]*goldap.Entry, error) {
	r, err := d.Search(goldap.NewSearchRequest(base, scope, goldap.NeverDerefAliases, limit, int(a.cfg.Timeout.Seconds())+1, false, filter, attributes, nil))
	switch {
	case goldap.IsErrorWithCode(err, goldap.LDAPResultNoSuchObject):
		return nil, nil
	case goldap.IsErrorWithCode(err, goldap.LDAPResultSizeLimitExceeded) && r != nil && len(r.Entries) >= limit:
		return r.Entries, nil
	case err != nil:
		return nil, err
	}
	return r.Entries, nil
}
