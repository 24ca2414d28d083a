package broker

import (
	"slices"
	"testing"

	"github.com/sealmq/sealmq/store"
	"pgregory.net/rapid"
)

// clauses: MQTT5 [MQTT-2.2.1-4] [MQTT-4.4.0-1] MQTT311 [MQTT-2.3.1-4] [MQTT-4.4.0-1]
// Against a plain list: identifiers in use are never given out again, every one is found at its place until its
// handshake ends, the order of sending is kept for a resend, and the counts agree.
func TestInflightModel(t *testing.T) {
	type entry struct {
		id       uint16
		m        *store.Message
		released bool
		sent     bool
	}
	rapid.Check(t, func(t *rapid.T) {
		var f inflight
		var model []entry
		window := rapid.IntRange(1, 40).Draw(t, "window")
		check := func() {
			var bytes int64
			active := 0
			for _, e := range model {
				i := f.find(e.id)
				if i < 0 {
					t.Fatalf("identifier %d is not found", e.id)
				}
				if fl := f.at(i); fl.m != e.m || (fl.state == released) != e.released || f.id(i) != e.id {
					t.Fatalf("identifier %d: %+v, want %+v", e.id, fl, e)
				}
				if e.m != nil {
					bytes += e.m.Size()
				}
				if e.sent {
					active++
				}
			}
			if f.bytes != bytes || f.active != active {
				t.Fatalf("%d bytes and %d active, want %d and %d", f.bytes, f.active, bytes, active)
			}
			if f.n > 4*f.active+4*window+200 {
				t.Fatalf("the ring has %d slots for %d messages", f.n, f.active)
			}
		}
		resend := func() {
			next := 0
			for f.resend < f.len() {
				i := f.resend
				f.resend++
				if f.at(i).state == done {
					continue
				}
				f.active++
				for next < len(model) && model[next].sent {
					next++
				}
				if next == len(model) || model[next].id != f.id(i) {
					t.Fatalf("identifier %d is out of order", f.id(i))
				}
				model[next].sent = true
			}
		}
		stuck := rapid.Bool().Draw(t, "oldest is never acknowledged")
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				f.rewind()
				for i := range model {
					model[i].sent = false
				}
				resend()
			case 1, 2, 3:
				if i := len(model); i > 0 {
					k := rapid.IntRange(0, i-1).Draw(t, "acknowledged")
					if stuck && k == 0 {
						continue
					}
					f.finish(f.find(model[k].id))
					model = slices.Delete(model, k, k+1)
				}
			case 4:
				if i := len(model); i > 0 {
					k := rapid.IntRange(0, i-1).Draw(t, "released")
					if !model[k].released {
						f.release(f.find(model[k].id))
						model[k].released, model[k].m = true, nil
					}
				}
			default:
				if !f.room(window, 1<<30) {
					continue
				}
				m := store.NewMessage("t", []byte("x"), nil)
				id := f.add(flight{m: m, qos: 2, state: published, sent: true})
				if id == 0 || slices.ContainsFunc(model, func(e entry) bool { return e.id == id }) {
					t.Fatalf("identifier %d is in use", id)
				}
				model = append(model, entry{id: id, m: m, sent: true})
			}
			check()
		}
	})
}

// A message that is never acknowledged holds up neither the identifiers of others nor memory, once round and more.
func TestInflightWraps(t *testing.T) {
	var f inflight
	m := store.NewMessage("t", nil, nil)
	stuck := f.add(flight{m: m, qos: 1, state: published, sent: true})
	for range 3 * maxIDs {
		if !f.room(5, 1<<20) {
			t.Fatal("no room")
		}
		id := f.add(flight{m: m, qos: 1, state: published, sent: true})
		if id == stuck || id == 0 {
			t.Fatalf("identifier %d was given out", id)
		}
		f.finish(f.find(id))
	}
	if f.find(stuck) < 0 || len(f.ring) > 256 {
		t.Errorf("stuck at %d, ring of %d", f.find(stuck), len(f.ring))
	}
}
