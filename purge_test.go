package sealmq_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/pki"
)

// A device that was purged while no server ran leaves no session to the next of its name.
func TestPurgeWithoutServer(t *testing.T) {
	cfg := sealmq.Config{Data: filepath.Join(t.TempDir(), "data"), Listeners: []sealmq.Listener{tlsListener("a")}}
	join := func(s *running, b *pki.Bundle) *client.Client {
		t.Helper()
		c, err := client.Connect(t.Context(), client.Config{
			Dial: s.dialer("a", b, s.Folder().CA()).Dial, ClientID: "pump-17", Version: mqtt.V5, SessionExpiry: 3600,
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	leave := func(s *running, c *client.Client) {
		t.Helper()
		c.Disconnect(mqtt.Success)
		c.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, cfg)
	c := join(s, s.device("pump-17"))
	leave(s, c)

	fleet, end, err := sealmq.OpenFleet(cfg, pki.KeyOptions{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	local := control.Local(fleet)
	if _, err := local.Purge(context.Background(), control.Selection{IDs: []string{"pump-17"}}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := local.AddDevice(context.Background(), control.AddRequest{ID: "pump-17"}); err != nil {
		t.Fatal(err)
	}
	local.Close()
	if err := end(); err != nil {
		t.Fatal(err)
	}

	s = start(t, cfg)
	c = join(s, s.device("pump-17"))
	if c.Server().SessionPresent {
		t.Error("the session of the device before is there")
	}
	leave(s, c)
}
