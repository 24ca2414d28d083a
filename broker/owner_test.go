package broker

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store/memory"
)

// whoever makes a client the principal whose number its user name is.
type whoever []*auth.Principal

func (w whoever) Authenticate(_ context.Context, c *auth.Credentials) (*auth.Principal, error) {
	i, err := strconv.Atoi(c.Username)
	return w[i], err
}

// A session belongs to who has begun it. Nobody else takes its client identifier, resumes it or clears it, while it is
// connected, while it is away, and after a restart: names that are equal are not enough. The NATS server restored sessions of
// other client identifiers.
func TestSessionsHaveOwners(t *testing.T) {
	people := whoever{
		{Name: "x", Method: "certificate", Kind: "device", Bound: true},
		{Name: "x", Method: "certificate", Kind: "operator"},
		{Name: "x", Method: "certificate"}, // a common name
		{Name: "", Method: "anonymous"},
		{Name: "x", Method: "anonymous"},
		{Name: "x", Method: "password"},
		{Name: "x", Method: "jwt"},
		{Name: "x", Method: "http"},
		{Name: "x", Method: "ldap"},
		{Name: "y", Method: "password"},
		{Name: "y", Method: "certificate", Kind: "operator"},
		{Name: "x", Method: "certificate", Kind: "device", Bound: true, Transient: true}, // has come to enrol
	}
	// An operator's certificate and one that does not say whose it is may be one person's, before and after a new one.
	same := func(a, b *auth.Principal) bool {
		return a == b || a.Name == b.Name && a.Method == b.Method && a.Bound == b.Bound && a.Kind+b.Kind == "operator"
	}
	st := memory.New()
	begin := func() *Broker {
		b, err := New(Config{SysInterval: -1}, Options{Store: st, Auth: people})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	open := func(b *Broker, who int, clean bool) (*Conn, mqtt.ReasonCode) {
		c := b.NewConn(&sink{}, auth.Peer{}, Limits{})
		p := mqtt.Connect{Version: mqtt.V5, ClientID: []byte("x"), CleanStart: clean, HasUsername: true, Username: strconv.AppendInt(nil, int64(who), 10)}
		p.Props.SessionExpiry = 1000
		p.Props.Set(mqtt.PropSessionExpiry)
		r := once(p.Append(nil, mqtt.V5))
		err := c.Open(&r)
		var e *mqtt.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
		if e != nil {
			return nil, e.Code
		}
		return c, mqtt.Success
	}
	for owner, p := range people {
		if p.Transient { // its session is gone with its connection, and in nobody's way before
			continue
		}
		b := begin()
		c, code := open(b, owner, true)
		if code != mqtt.Success {
			t.Fatal(code)
		}
		s := c.sess
		others := func(when string) {
			for i, q := range people {
				for _, clean := range []bool{false, true} {
					if same(p, q) {
						continue
					}
					if _, code := open(b, i, clean); code != mqtt.ClientIDNotValid {
						t.Errorf("%s: %+v as the owner %+v, clean=%v: %v", when, q, p, clean, code)
					}
				}
			}
		}
		others("connected")
		if s.current() != c || s.dead {
			t.Errorf("%+v has lost its connection", p)
		}
		c.Closed(nil)
		others("away")
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		b = begin()
		others("after a restart")
		if c, code = open(b, owner, false); code != mqtt.Success || c.sess.dur.id != s.dur.id {
			t.Errorf("%+v does not get its own session back: %v", p, code)
		}
		if code == mqtt.Success {
			c.Closed(nil)
		}
		if c, code = open(b, owner, true); code == mqtt.Success { // out of the next one's way
			c.expiry, c.sess.expiry = 0, 0
			c.Closed(nil)
		}
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
