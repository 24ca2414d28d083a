package authn

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/client"
)

var measure = flag.Duration("measure", 0, "how long to measure clients that come by password; 0: not at all")

var atOnce = flag.Int("checks", 0, "checks_at_once while measuring")

// cpu is the processor time that the broker has used.
func (b *broker) cpu(t *testing.T) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	if err != nil {
		t.Skipf("skipped: %v", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may have spaces
	var user, system int64
	for i, dst := range map[int]*int64{11: &user, 12: &system} {
		if *dst, err = strconv.ParseInt(strings.Fields(rest)[i], 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return time.Duration(user+system) * 10 * time.Millisecond // ticks of Linux
}

// How many clients a second get in by a password as sealmq keeps it, and how long messages of others take meanwhile.
func TestMeasurePassword(t *testing.T) {
	if *measure == 0 {
		t.Skip("skipped: -measure 10s measures")
	}
	b := prepare(t, strings.Replace(byPassword, "[auth.backoff]", fmt.Sprintf("checks_at_once = %d\n[auth.backoff]", *atOnce), 1))
	f := password.New()
	for _, s := range []password.Scheme{password.Argon2id, password.SCRAM} {
		if err := f.Set(string(s), "secret", s, password.Cost{}); err != nil {
			t.Fatal(err)
		}
	}
	b.write(t, "passwords", string(f.Text()))
	b.start(t)
	var mu sync.Mutex
	var took []time.Duration
	began := time.Now()
	cfg := user(string(password.Argon2id), "secret")
	cfg.OnMessage = func(m *client.Message) {
		d := time.Since(began) - time.Duration(binary.BigEndian.Uint64(m.Payload))
		mu.Lock()
		took = append(took, d)
		mu.Unlock()
	}
	c := b.connect(t, cfg)
	if _, err := c.Subscribe(t.Context(), client.Subscription{Filter: "ticks"}); err != nil {
		t.Fatal(err)
	}
	// latency publishes 200 messages a second, and returns the median and the 99th of 100.
	latency := func() (p50, p99 time.Duration) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(*measure); time.Now().Before(end); <-tick.C {
			now := binary.BigEndian.AppendUint64(nil, uint64(time.Since(began)))
			if _, err := c.Publish(t.Context(), &client.Message{Topic: "ticks", Payload: now}); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(took)
		p50, p99 = took[len(took)/2], took[len(took)*99/100]
		took = took[:0]
		return p50, p99
	}
	p50, p99 := latency()
	t.Logf("quiet: latency %v, p99 %v", p50, p99)
	for name, cfg := range map[string]client.Config{
		"by password, argon2id": {Username: string(password.Argon2id), Password: []byte("secret")},
		"by password, SCRAM's":  {Username: string(password.SCRAM), Password: []byte("secret")},
	} {
		cfg.CleanStart, cfg.Dial, cfg.AckTimeout = true, b.dial(t, "tls"), *patience
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				for ctx.Err() == nil {
					c, err := client.Connect(ctx, cfg)
					if err != nil {
						if ctx.Err() == nil {
							t.Error(err)
						}
						return
					}
					n.Add(1)
					c.Close()
					c.Wait()
				}
			})
		}
		before, busy, first := time.Now(), b.cpu(t), n.Load()
		p50, p99 := latency()
		came, cpu := n.Load()-first, b.cpu(t)-busy
		rate := float64(came) / time.Since(before).Seconds()
		cancel()
		all.Wait()
		t.Logf("%s: %.0f clients a second, %v of processor time each; latency of others %v, p99 %v", name, rate,
			cpu/time.Duration(max(came, 1)), p50, p99)
	}
}
