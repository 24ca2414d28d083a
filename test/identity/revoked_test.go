package identity

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/mqtt"
)

// TestRevokedSessions measures how long connections of revoked devices live, one
// device after another and all the rest at once, while all are connected.
func TestRevokedSessions(t *testing.T) {
	n, singly := size(300, 10_000), size(60, 500)
	h := newHome(t, twoListeners)
	h.sealmq(t, "init")
	begin := time.Now()
	all := h.fleet(t, n)
	t.Logf("%d certificates issued in %v", n, time.Since(begin).Round(time.Millisecond))
	b := h.start(t)
	roots := pool(t, b.read(t, "data/ca/root.pem"))

	begin = time.Now()
	ends := make([]chan closed, n)
	each(n, func(i int) {
		pair, err := tls.LoadX509KeyPair(all[i].cert, all[i].key)
		if err != nil {
			t.Error(err)
			return
		}
		c, err := connect(b.tls, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, ServerName: "localhost"}, version(i), all[i].id)
		if err != nil {
			t.Errorf("connect %s: %v", all[i].id, err)
			return
		}
		ends[i] = make(chan closed, 1)
		go func() { ends[i] <- awaitEnd(c) }()
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("%d sessions connected in %v", n, time.Since(begin).Round(time.Millisecond))

	ended := func(i int) time.Time {
		t.Helper()
		select {
		case c := <-ends[i]:
			if version(i) == mqtt.V5 && !strings.HasPrefix(string(c.disconnect), "\xe0") || version(i) != mqtt.V5 && len(c.disconnect) > 0 {
				t.Errorf("%s was told % x at its end", all[i].id, c.disconnect)
			} else if len(c.disconnect) > 2 && c.disconnect[2] != byte(mqtt.AdministrativeAction) {
				t.Errorf("%s was told % x at its end, want reason 0x98", all[i].id, c.disconnect)
			}
			return c.at
		case <-time.After(*patience):
			t.Fatalf("the connection of %s lives %v after its device was revoked", all[i].id, *patience)
		}
		panic("unreachable")
	}

	ctl, err := control.Dial(h.path("data"))
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	var took []time.Duration
	for i := range singly {
		begin := time.Now()
		_, err := ctl.Revoke(t.Context(), control.RevokeRequest{Selection: control.Selection{IDs: []string{all[i].id}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, ended(i).Sub(begin))
	}
	p50, p99, most := spread(took)
	t.Logf("of %d sessions, %d revoked one at a time: request to socket closed p50 %v, p99 %v, most %v", n, singly, p50, p99, most)
	if *long && p99 > time.Second {
		t.Errorf("p99 is %v, want under a second", p99)
	}

	from := b.mark()
	begin = time.Now()
	command := spawn(t, b.dir, program, "device", "revoke", "--all", "--yes")
	at := make(map[string]time.Time)
	took = nil
	for i := singly; i < n; i++ {
		at[all[i].id] = ended(i)
		took = append(took, at[all[i].id].Sub(begin))
	}
	command.await(t, fmt.Sprintf("revoked %d devices", n))
	p50, p99, most = spread(took)
	t.Logf("%d revoked at once: command to socket closed p50 %v, p99 %v, most %v", n-singly, p50, p99, most)
	took = nil
	for line := range strings.Lines(b.logged()[from:]) {
		var l struct {
			Time              time.Time
			Msg, What, Device string
		}
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "device changed" && l.What == "revoke" && !at[l.Device].IsZero() {
			took = append(took, at[l.Device].Sub(l.Time))
		}
	}
	p50, p99, most = spread(took)
	t.Logf("%d revoked at once: entry in the registry to socket closed p50 %v, p99 %v, most %v", len(took), p50, p99, most)
}

// version has half a fleet speak version 5, the other half 3.1.1.
func version(i int) mqtt.Version {
	if i%2 == 0 {
		return mqtt.V5
	}
	return mqtt.V311
}

// A device that connects again and again while it is revoked keeps none of its
// connections, at whatever step the revocation finds them.
func TestRevokedWhileConnecting(t *testing.T) {
	t.Parallel()
	n := size(12, 100)
	h := newHome(t, twoListeners)
	h.sealmq(t, "init")
	all := h.fleet(t, n)
	b := h.start(t)
	roots := pool(t, b.read(t, "data/ca/root.pem"))
	ctl, err := control.Dial(h.path("data"))
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	connected := 0
	for i, d := range all {
		cfg := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{d.pair(t)}, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
		var connecting, living sync.WaitGroup
		var mu sync.Mutex
		var open int
		first := make(chan bool, 4)
		for j := range 4 {
			connecting.Go(func() {
				for k := 0; ; k++ {
					c, err := connect(b.tls, cfg, version(i+j), fmt.Sprintf("%s/%d-%d", d.id, j, k))
					if err != nil {
						if k == 0 {
							t.Errorf("%s does not get in: %v", d.id, err)
							first <- false
						} else if !errors.Is(err, errRefused) && !errors.Is(err, io.EOF) {
							t.Errorf("%s: %v, want a refusal", d.id, err)
						}
						return
					}
					mu.Lock()
					open++
					mu.Unlock()
					living.Go(func() { awaitEnd(c) })
					if k == 0 {
						first <- true
					}
				}
			})
		}
		for range 4 {
			<-first
		}
		if _, err := ctl.Revoke(t.Context(), control.RevokeRequest{Selection: control.Selection{IDs: []string{d.id}}}, nil); err != nil {
			t.Fatal(err)
		}
		connecting.Wait()
		ended := make(chan struct{})
		go func() { living.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(*patience):
			t.Fatalf("a connection of %s lives %v after the device was revoked", d.id, *patience)
		}
		connected += open
	}
	t.Logf("%d connections of %d devices ended", connected, n)
}
