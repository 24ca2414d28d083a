package registry

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/store"
)

// counting counts the records that are written under a prefix.
type counting struct {
	Store
	n atomic.Int64
}

func (s *counting) Submit(ops ...*store.Op) {
	for _, op := range ops {
		if strings.HasPrefix(op.Record.Key, seenPrefix) && op.Record.Value != nil {
			s.n.Add(1)
		}
	}
	s.Store.Submit(ops...)
}

// What is seen is written once in ten minutes, the last of it in time, and is read again.
func TestSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &counting{Store: memoryStore(t)}
		r, err := Open(s, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Add(t.Context(), Device{ID: "d"}); err != nil {
			t.Fatal(err)
		}
		wrote := func(want int64, address string) {
			t.Helper()
			synctest.Wait()
			if got := s.n.Load(); got != want {
				t.Errorf("written %d times, want %d", got, want)
			}
			if d, _ := r.Get("d"); d.Seen.Address != address {
				t.Errorf("seen at %q", d.Seen.Address)
			}
			again, err := Open(s, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if d, _ := again.Get("d"); want > 0 && d.Seen.At.IsZero() {
				t.Error("nothing is read again")
			}
		}
		r.Saw("d", Seen{Address: "one"})
		wrote(1, "one")
		for range 5 {
			time.Sleep(time.Minute)
			r.Saw("d", Seen{Address: "two"})
		}
		wrote(1, "two")
		time.Sleep(6 * time.Minute)
		wrote(2, "two")
		time.Sleep(time.Hour)
		wrote(2, "two")
		r.Saw("d", Seen{Address: "three"})
		wrote(3, "three")
		r.Saw("d", Seen{Address: "four", Firmware: "1.2\x00" + strings.Repeat("x", 1000), Serial: strings.Repeat("9", 1000)})
		r.Saw("nobody", Seen{Address: "four"})
		wrote(3, "four")
		r.Close()
		r.Close()
		wrote(4, "four")
		again, err := Open(s, Options{})
		if err != nil {
			t.Fatal(err)
		}
		d, _ := again.Get("d")
		if d.Seen.Address != "four" || len(d.Seen.Firmware) > maxFirmware || len(d.Seen.Serial) > maxSeen || !strings.HasPrefix(d.Seen.Firmware, "1.2\uFFFD") {
			t.Errorf("%+v", d.Seen)
		}
		r.Saw("d", Seen{Address: "after the end"})
		wrote(4, "four")
	})
}

// What was seen goes with the device, also when it is to be written later, and what a crash leaves of it at the next start.
func TestSeenOfPurged(t *testing.T) {
	b := newBench(t, Options{})
	b.device("d")
	b.Saw("d", Seen{Address: "one"})
	b.Saw("d", Seen{Address: "two"})
	old := b.index.get("d")
	b.do(b.Purge(b.ctx, "d"))
	b.Saw("d", Seen{Address: "three"})
	b.do(b.Add(b.ctx, Device{ID: "d"}))
	if d, _ := b.Get("d"); !d.Seen.At.IsZero() {
		t.Errorf("%+v", d.Seen)
	}
	b.seen.Lock()
	if b.seen.flush(true); old.last.dirty || !old.last.dead {
		t.Error("it is to be written still")
	}
	b.seen.Unlock()
	op, done := store.NewRecord(seenPrefix+"gone", appendSeen(nil, sampleSeen(), ""))
	b.s.Submit(op)
	b.do(<-done)
	b.reopen()
	b.reopen()
	if err := b.s.Records(seenPrefix, func(key string, _ []byte) bool { t.Errorf("%s is left", key); return true }); err != nil {
		t.Error(err)
	}
}
