package sealmq

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/policy"
	"github.com/sealmq/sealmq/store/memory"
)

// wire is a link that counts what it is given.
type wire struct{ bytes int }

func (w *wire) Write(p []byte) error { w.bytes += len(p); return nil }
func (w *wire) Backlog() int         { return 0 }
func (w *wire) Close(bool)           {}

// byUser makes a client whoever its user name says.
type byUser struct{}

func (byUser) Authenticate(_ context.Context, c *auth.Credentials) (*auth.Principal, error) {
	return &auth.Principal{Name: c.Username, Method: "password"}, nil
}

// A message on its way through a broker with a policy of 10,000 rules costs no allocation: the decisions that it may be
// published, to topics that change, and that each of its receivers may have it.
func TestDecisionsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	var text strings.Builder
	text.WriteString("policy everybody { allow publish, subscribe home/${user}/#\n allow subscribe home/+/open/#\n deny publish home/+/x size>100\n")
	for i := range 9_997 {
		fmt.Fprintf(&text, "allow publish other%d/+/${user}\n", i)
	}
	f, err := policy.Parse("p", []byte(text.String()+"}"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	perms := newPermissions(p, func(*auth.Principal) []string { return nil }, slog.New(slog.DiscardHandler))
	b, err := broker.New(broker.Config{SysInterval: -1}, broker.Options{
		Store: memory.New(), Auth: byUser{}, Authorize: perms.authorize, Denied: perms.note,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(t.Context())
	connect := func(user, filter string) (*broker.Conn, *wire) {
		l := &wire{}
		c := b.NewConn(l, auth.Peer{}, broker.Limits{})
		hello := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte(user), HasUsername: true, Username: []byte(user)}
		if err := c.Open(bytes.NewReader(hello.Append(nil, mqtt.V5))); err != nil {
			t.Fatal(err)
		}
		if filter != "" {
			sub := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{{Filter: []byte(filter)}}}
			c.Data(sub.Append(nil, mqtt.V5))
			c.Flush()
		}
		return c, l
	}
	alice, _ := connect("alice", "")
	_, heard := connect("bob", "home/+/open/#")
	var packets [][]byte
	for i := range 20 {
		m := mqtt.Publish{Topic: fmt.Appendf(nil, "home/alice/open/%d", i), Payload: make([]byte, 64)}
		packets = append(packets, m.Append(nil, mqtt.V5))
	}
	before := heard.bytes
	i := 0
	if n := testing.AllocsPerRun(400, func() {
		alice.Data(packets[i%len(packets)])
		alice.Flush()
		i++
	}); n > 0 {
		t.Errorf("%v allocations for a message", n)
	}
	if heard.bytes-before < 400*64 {
		t.Errorf("%d bytes have been received", heard.bytes-before)
	}
}
