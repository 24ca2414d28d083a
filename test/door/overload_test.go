package door

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// When memory gets short new connections are refused, and who is connected goes on; when it is no longer short all is as before.
func TestOverload(t *testing.T) {
	t.Parallel()
	h := newHome(t, "")
	b := h.start(t, "GOMEMLIMIT=4GiB")
	nc, err := b.dial("127.0.0.1", "plain")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c, err := connect(nc, "stays")
	if err != nil {
		t.Fatal(err)
	}
	await := func(level string) {
		t.Helper()
		eventually(t, func() error {
			if s := h.figures(t); s.Level != level {
				return fmt.Errorf("level %s with %d of %d bytes, %s wanted", s.Level, s.MemoryUsed, s.MemoryLimit, level)
			}
			return nil
		})
	}
	await("calm")
	if s := h.figures(t); s.MemoryLimit != 4<<30 || s.MemoryUsed < 1<<20 || s.MemoryUsed > 1<<30 {
		t.Errorf("%d of %d bytes are used", s.MemoryUsed, s.MemoryLimit)
	}

	h.configure(t, "[gate]\nmemory_limit = \"1MiB\"\n") // which is less than any broker needs
	b.cmd.Process.Signal(syscall.SIGHUP)
	await("shed_qos0")
	b.awaitLog(t, "memory is short", "shed_qos0")
	if b.letsIn(t, "127.0.0.1") {
		t.Error("a new connection is let in")
	}
	if err := c.publish("still/there", 1, "x"); err != nil {
		t.Errorf("who is connected: %v", err)
	}
	if out := h.sealmq(t, "status"); !strings.Contains(out, "attention") || !strings.Contains(out, "shed_qos0") {
		t.Errorf("status: %s", out)
	}

	h.configure(t, "")
	b.cmd.Process.Signal(syscall.SIGHUP)
	await("calm")
	b.awaitLog(t, "memory is no longer short")
	eventually(t, func() error {
		if !b.letsIn(t, "127.0.0.1") {
			return errors.New("new connections are refused")
		}
		return nil
	})
	if err := c.publish("still/there", 2, "x"); err != nil {
		t.Error(err)
	}
}
