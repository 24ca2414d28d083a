package sealmq_test

import (
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/transport"
)

// Reload adds and removes listeners and changes their terms; connections live on.
func TestReload(t *testing.T) {
	testkit.NoLeaks(t)
	cfg := sealmq.Config{
		Data:      filepath.Join(t.TempDir(), "data"),
		Listeners: []sealmq.Listener{plainListener("a"), plainListener("b")},
	}
	s := start(t, cfg)
	a, b := s.Addr("a").String(), s.Addr("b").String()
	c := connect(t, s.dialer("b", nil, nil), client.Config{ClientID: "c"})

	next := cfg
	next.Listeners = []sealmq.Listener{plainListener("a"), tlsListener("t")}
	next.Listeners[0].Limits.MaxQoS = 1
	if err := s.Reload(next); err != nil {
		t.Fatal(err)
	}
	if got := s.Addr("a").String(); got != a {
		t.Errorf("listener a moved from %s to %s", a, got)
	}
	if s.Addr("b") != nil {
		t.Error("listener b is still there")
	}
	if conn, err := net.Dial("tcp", b); err == nil {
		conn.Close()
		t.Error("listener b still accepts")
	}
	if _, err := c.Publish(t.Context(), &client.Message{Topic: "x", QoS: 1}); err != nil {
		t.Errorf("a connection of the listener that is gone: %v", err)
	}
	limited := connect(t, s.dialer("a", nil, nil), client.Config{})
	if q := limited.Server().MaximumQoS; q != 1 {
		t.Errorf("maximum QoS %d after reload, want 1", q)
	}
	connect(t, s.dialer("t", s.operator(), s.Folder().CA()), client.Config{})
}

// A configuration that cannot be put in force changes nothing.
func TestReloadKeepsTheOldOnError(t *testing.T) {
	testkit.NoLeaks(t)
	cfg := sealmq.Config{
		Data:      filepath.Join(t.TempDir(), "data"),
		Listeners: []sealmq.Listener{plainListener("a"), tlsListener("t")},
	}
	s := start(t, cfg)
	a := s.Addr("a").String()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name   string
		change func(c *sealmq.Config)
		want   string
	}{
		{"invalid", func(c *sealmq.Config) { c.Listeners[0].Anonymous = false }, "anonymous"},
		{"data folder", func(c *sealmq.Config) { c.Data += "2" }, "data: a change needs a restart"},
		{"$SYS interval", func(c *sealmq.Config) { c.Broker.SysInterval = time.Minute }, "sys_interval: a change needs a restart"},
		{"missing certificate", func(c *sealmq.Config) {
			c.Listeners[1].Certificate, c.Listeners[1].Key = "/missing.pem", "/missing.key"
		}, "listener t: open /missing.pem"},
		{"address in use", func(c *sealmq.Config) { c.Listeners[1].Address = taken.Addr().String() }, "in use"},
		{"address in use, another moved", func(c *sealmq.Config) {
			c.Listeners[0].Address = a
			c.Listeners[0].MaxConnections = 7
			c.Listeners[1].Address = taken.Addr().String()
		}, "in use"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bad := cfg
			bad.Listeners = slices.Clone(cfg.Listeners)
			test.change(&bad)
			if err := s.Reload(bad); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if got := s.Addr("a").String(); got != a {
				t.Errorf("listener a moved from %s to %s", a, got)
			}
			connect(t, s.dialer("a", nil, nil), client.Config{})
			connect(t, s.dialer("t", s.operator(), s.Folder().CA()), client.Config{})
		})
	}
}

// A limit of the table [limits] that is lifted holds no longer for connections accepted from then on.
func TestReloadLiftsLimits(t *testing.T) {
	testkit.NoLeaks(t)
	cfg := sealmq.Config{Memory: true, Listeners: []sealmq.Listener{plainListener("a")}}
	cfg.Broker.Limits = broker.Limits{MaxKeepAlive: time.Minute, NoRetain: true, MaxQueued: -1}
	s := start(t, cfg)
	server := connect(t, s.dialer("a", nil, nil), client.Config{}).Server()
	if server.KeepAlive != 60 || !server.NoRetain {
		t.Fatalf("keep alive %d, no retain %v before the reload", server.KeepAlive, server.NoRetain)
	}
	next := cfg
	next.Broker.Limits = broker.Limits{}
	if err := s.Reload(next); err != nil {
		t.Fatal(err)
	}
	server = connect(t, s.dialer("a", nil, nil), client.Config{}).Server()
	if server.KeepAlive != 0 || server.NoRetain {
		t.Errorf("keep alive %d, no retain %v after the reload", server.KeepAlive, server.NoRetain)
	}
}

// A listener whose settings change takes its own port over.
func TestReloadOnTheSamePort(t *testing.T) {
	testkit.NoLeaks(t)
	cfg := sealmq.Config{Memory: true, Listeners: []sealmq.Listener{plainListener("a")}}
	s := start(t, cfg)
	addr := s.Addr("a").String()
	cfg.Listeners = []sealmq.Listener{plainListener("a")}
	cfg.Listeners[0].Address = addr
	if err := s.Reload(cfg); err == nil || !strings.Contains(err.Error(), "in use") {
		// The port was chosen by the system, so the old address was another one.
		t.Fatalf("a listener took a port that is not known to change hands: %v", err)
	}

	s2 := start(t, func() sealmq.Config {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer free.Close()
		c := cfg
		c.Listeners = slices.Clone(cfg.Listeners)
		c.Listeners[0].Address = free.Addr().String()
		return c
	}())
	next := s2.Config()
	next.Listeners = slices.Clone(next.Listeners)
	next.Listeners[0].MaxConnections = 1
	next.Listeners[0].Name = "renamed"
	if err := s2.Reload(next); err != nil {
		t.Fatal(err)
	}
	connect(t, s2.dialer("renamed", nil, nil), client.Config{})
}

// Names added by a reload are in the certificate of the next handshake.
func TestReloadReissuesForHosts(t *testing.T) {
	cfg := sealmq.Config{Data: filepath.Join(t.TempDir(), "data"), Listeners: []sealmq.Listener{tlsListener("t")}}
	s := start(t, cfg)
	presented := func() []string {
		d := s.dialer("t", s.operator(), s.Folder().CA())
		conn, err := tls.Dial("tcp", d.Address, &tls.Config{RootCAs: d.TLS.RootCAs, ServerName: "127.0.0.1", Certificates: d.TLS.Certificates})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].DNSNames
	}
	if slices.Contains(presented(), "broker.example.org") {
		t.Fatal("the name is there already")
	}
	cfg.Hosts = []string{"broker.example.org"}
	if err := s.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(presented(), "broker.example.org") {
		t.Error("the name is not in the certificate")
	}
}

// Options of TLS listeners: with optional and none, anonymous clients get in
// where the listener says so.
func TestClientCertificateModes(t *testing.T) {
	optional, none, closed := tlsListener("optional"), tlsListener("none"), tlsListener("closed")
	optional.ClientCertificates, optional.Anonymous = transport.Optional, true
	none.ClientCertificates, none.Anonymous = transport.None, true
	closed.ClientCertificates = transport.Optional
	s := start(t, sealmq.Config{Data: filepath.Join(t.TempDir(), "data"), Listeners: []sealmq.Listener{optional, none, closed}})
	ca := s.Folder().CA()
	connect(t, s.dialer("optional", nil, ca), client.Config{})
	connect(t, s.dialer("optional", s.device("pump-17"), ca), client.Config{ClientID: "pump-17"})
	connect(t, s.dialer("none", nil, ca), client.Config{})
	connect(t, s.dialer("closed", s.device("pump-18"), ca), client.Config{ClientID: "pump-18"})
	if err := refused(t, s.dialer("closed", nil, ca), client.Config{}); errors.As(err, new(*client.HandshakeError)) {
		t.Errorf("refused by TLS, not by CONNACK: %v", err)
	}
}
