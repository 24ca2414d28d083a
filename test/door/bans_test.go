package door

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sealmq/sealmq/control"
)

// Who sends garbage again and again is banned, and nobody else; an operator sees it, ends it, and bans by hand, over a
// restart, too.
func TestBans(t *testing.T) {
	t.Parallel()
	h := newHome(t, "[gate]\nexempt = [\"127.9.0.1\"]\nban_after = 5\nban_network_after = 0\n")
	b := h.start(t)
	const scanner, neighbour = "127.66.0.9", "127.66.0.10"
	tries := 0
	eventually(t, func() error {
		nc, err := b.dial(scanner, "tls")
		if err == nil {
			nc.Write([]byte("\x00\x01garbage that is not TLS\r\n"))
			io.Copy(io.Discard, nc)
			nc.Close()
		}
		if tries++; tries > 40 {
			t.Fatal("not banned")
		}
		if len(bansOf(t, h)) == 0 {
			return io.ErrNoProgress
		}
		return nil
	})
	b.awaitLog(t, "address banned", scanner, "not_tls")
	if all := h.sealmq(t, "gate", "list"); !strings.Contains(all, scanner) || !strings.Contains(all, "failures, the first not_tls") {
		t.Errorf("gate list: %s", all)
	}
	if b.letsIn(t, scanner) {
		t.Error("who is banned gets in")
	}
	if !b.letsIn(t, neighbour) {
		t.Error("the neighbour does not get in")
	}
	if out := h.sealmq(t, "gate", "unban", scanner); !strings.Contains(out, "no longer banned: "+scanner) {
		t.Errorf("unban: %s", out)
	}
	if !b.letsIn(t, scanner) {
		t.Error("who is no longer banned does not get in")
	}

	h.sealmq(t, "gate", "ban", "127.66.0.0/16", "--note", "hall 3")
	h.sealmq(t, "gate", "ban", "127.9.0.1", "--for", "1d")
	b.stop(t)
	b = h.start(t)
	for _, out := range []string{scanner, neighbour, "127.9.0.1"} {
		if b.letsIn(t, out) {
			t.Errorf("%s gets in, though it is banned by hand", out)
		}
	}
	if out := h.sealmq(t, "gate", "unban", scanner); !strings.Contains(out, "still banned with 127.66.0.0/16") {
		t.Errorf("unban: %s", out)
	}
	h.sealmq(t, "gate", "unban", "127.0.0.0/8")
	if all := bansOf(t, h); len(all) != 0 {
		t.Errorf("bans %v", all)
	}
	if out := h.sealmq(t, "gate", "stats"); !strings.Contains(out, "connections refused: banned") {
		t.Errorf("gate stats: %s", out)
	}
	if out := h.sealmq(t, "status"); !strings.Contains(out, "front door") {
		t.Errorf("status: %s", out)
	}
}

func bansOf(t *testing.T, h *home) []control.Ban {
	t.Helper()
	c, err := control.Dial(h.dir + "/data")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := c.Bans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// letsIn tells whether a client from an address is connected.
func (b *broker) letsIn(t *testing.T, from string) bool {
	t.Helper()
	nc, err := b.dial(from, "plain")
	if err != nil {
		return false
	}
	defer nc.Close()
	_, err = connect(nc, "visitor-"+from)
	return err == nil
}

// Bounds change by SIGHUP; who is connected stays.
func TestReload(t *testing.T) {
	t.Parallel()
	h := newHome(t, "[gate]\nexempt = [\"none\"]\n")
	b := h.start(t)
	nc, err := b.dial("127.66.1.1", "plain")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c, err := connect(nc, "first")
	if err != nil {
		t.Fatal(err)
	}
	h.configure(t, "[gate]\nexempt = [\"none\"]\naddress_connections = 1\n")
	b.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, func() error {
		if b.letsIn(t, "127.66.1.1") {
			return os.ErrExist
		}
		return nil
	})
	if err := c.publish("still/there", 1, "x"); err != nil {
		t.Error(err)
	}
	b.awaitLog(t, "connections refused", "address_connections")
}

// What a load balancer says is the peer's address, in the log and for bans.
func TestLoadBalancer(t *testing.T) {
	t.Parallel()
	h := newHome(t, "[gate]\nproxies = [\"127.66.2.1\"]\nban_after = 3\n")
	b := h.start(t)
	through := func(client, listener string) net.Conn {
		t.Helper()
		nc, err := b.dial("127.66.2.1", listener)
		if err != nil {
			t.Fatal(err)
		}
		// Version 2, PROXY, TCP over IPv4, 12 bytes.
		header := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), net.ParseIP(client).To4()...)
		nc.Write(append(header, 10, 0, 0, 1, 0x12, 0x67, 0x22, 0xb3))
		return nc
	}
	nc := through("203.0.113.7", "open")
	c, err := connect(tls.Client(nc, b.tls(t)), "behind")
	if err != nil {
		t.Fatal(err)
	}
	b.awaitLog(t, "client connected", "behind", `"203.0.113.7:4711"`)
	c.Close()
	for range 10 {
		nc := through("203.0.113.8", "plain")
		nc.Write(bytes.Repeat([]byte{0xff}, 8))
		isOut(t, nc)
		nc.Close()
	}
	b.awaitLog(t, "address banned", "203.0.113.8")
	nc = through("203.0.113.8", "plain")
	if _, err := connect(nc, "bad"); err == nil {
		t.Error("who is banned behind the load balancer gets in")
	}
	nc.Close()
	nc = through("203.0.113.9", "plain")
	if _, err := connect(nc, "good"); err != nil {
		t.Errorf("others behind the load balancer: %v", err)
	}
	nc.Close()

	// Without a header, and one from somebody who is no load balancer.
	nc, err = b.dial("127.66.2.1", "plain")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connect(nc, "headless"); err == nil {
		t.Error("let in without a header")
	}
	nc.Close()
	b.awaitLog(t, `"cause":"proxy"`, "E-TLS-050")
	if nc, err = b.dial("127.0.0.1", "open"); err != nil {
		t.Fatal(err)
	}
	io.WriteString(nc, "PROXY TCP4 203.0.113.9 10.0.0.1 4711 8883\r\n")
	if !isOut(t, nc) {
		t.Error("a header of somebody else is believed")
	}
	nc.Close()
	h.awaitEmpty(t, 0)
}
