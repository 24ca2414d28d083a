package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sealmq/sealmq/pki"
)

// naive is a registry kept in the most simple way.
type naive struct {
	devices map[string]*Device
	ended   map[string][]Certificate // of purged ones
}

func (m *naive) end(d *Device, to CertState, reason pki.Reason, now time.Time, pick func(*Certificate) bool) {
	for i := range d.Certificates {
		c := &d.Certificates[i]
		if !pick(c) || c.State == CertRevoked || c.State == to {
			continue
		}
		if c.RevokedAt.IsZero() {
			c.RevokedAt = now
		}
		c.State, c.Reason = to, reason
	}
}

func (m *naive) issue(id string, leaf *x509.Certificate, issuer string, now time.Time) {
	d := m.devices[id]
	if d == nil {
		d = &Device{ID: id, State: Active, Created: now, Certificates: m.ended[id]}
		delete(m.ended, id)
		m.devices[id] = d
	}
	d.Certificates = append(d.Certificates, Certificate{Serial: serialOf(leaf), Issuer: issuer, SPKI: KeyID(leaf), NotBefore: leaf.NotBefore,
		NotAfter: leaf.NotAfter, State: CertActive})
	slices.SortFunc(d.Certificates, func(a, b Certificate) int { return b.NotBefore.Compare(a.NotBefore) })
	d.Changed = now
}

// TestModel: whatever is done, opened again or not, the registry and a naive one say the same.
func TestModel(t *testing.T) {
	ids := []string{"a", "b", "c", "operator/a"}
	issuer := newCA(t, "device CA")
	leaves := map[string][]*x509.Certificate{}
	for _, id := range ids {
		kind, name := "device", id
		if len(id) > 1 {
			kind, name = "operator", "a"
		}
		for n := range 4 {
			leaves[id] = append(leaves[id], issuer.issue(t, kind, name, n))
		}
	}
	groups := []string{"g", "h", "i"}
	rapid.Check(t, func(rt *rapid.T) {
		fs, clk := vfs.NewMem(), newClock()
		o := Options{Issuers: []*x509.Certificate{issuer.cert}, Now: clk.now}
		s := diskStore(t, fs)
		r, err := Open(s, o)
		if err != nil {
			rt.Fatal(err)
		}
		ctx := context.Background()
		m := &naive{devices: map[string]*Device{}, ended: map[string][]Certificate{}}
		var live map[string]*Device // from events
		watch := func() {
			live = map[string]*Device{}
			for id := range m.devices {
				live[id] = nil
			}
			r.Watch(func(e Event) {
				delete(live, e.Device)
				if e.State != "" {
					live[e.Device] = nil
				}
			})
		}
		watch()
		defer func() {
			r.Close()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		n := rapid.IntRange(1, 40).Draw(rt, "steps")
		for range n {
			clk.advance(time.Duration(rapid.IntRange(0, 3).Draw(rt, "minutes")) * time.Minute)
			now := clk.now()
			id := rapid.SampledFrom(ids).Draw(rt, "id")
			d := m.devices[id]
			leaf := rapid.SampledFrom(leaves[id]).Draw(rt, "leaf")
			var err, want error
			switch what := rapid.IntRange(0, 11).Draw(rt, "what"); what {
			case 0:
				group := rapid.SampledFrom(groups).Draw(rt, "group")
				err = r.Add(ctx, Device{ID: id, Groups: []string{group}})
				if want = ErrExists; d == nil {
					want = nil
					m.devices[id] = &Device{ID: id, State: Active, Groups: []string{group}, Created: now, Changed: now, Certificates: m.ended[id]}
					delete(m.ended, id)
				}
			case 1, 2:
				err = r.Issued(ctx, id, leaf)
				certs := m.ended[id]
				if d != nil {
					certs = d.Certificates
				}
				i := slices.IndexFunc(certs, func(c Certificate) bool { return c.Serial == serialOf(leaf) })
				switch {
				case d != nil && d.State == Revoked:
					want = ErrRevoked
				case i >= 0 && certs[i].State != CertActive:
					want = ErrEnded
				case i < 0:
					m.issue(id, leaf, KeyID(issuer.cert), now)
				}
			case 3:
				if want = ErrUnknown; d != nil {
					want = nil
					d.Note, d.Changed = fmt.Sprint("note ", now.Unix()), now
				}
				err = r.Update(ctx, id, func(d *Device) error { d.Note = fmt.Sprint("note ", now.Unix()); return nil })
			case 4, 5, 6:
				state := []State{Disabled, Active, Quarantined}[what-4]
				f := []func(context.Context, ...string) error{r.Disable, r.Enable, r.Quarantine}[what-4]
				err = f(ctx, id, id)
				switch {
				case d == nil:
					want = ErrUnknown
				case d.State == Revoked:
					want = ErrRevoked
				case d.State != state:
					d.State, d.Changed = state, now
				}
			case 7:
				if rapid.IntRange(0, 2).Draw(rt, "revoke") > 0 {
					continue
				}
				if want = ErrUnknown; d != nil {
					want = nil
					if d.State != Revoked {
						d.Changed = now
					}
					d.State = Revoked
					m.end(d, CertRevoked, pki.Unspecified, now, func(*Certificate) bool { return true })
				}
				err = r.Revoke(ctx, pki.Unspecified, id)
			case 8:
				if want = ErrUnknown; d != nil {
					want = nil
					m.end(d, CertRevoked, pki.CessationOfOperation, now, func(c *Certificate) bool { return c.State == CertActive })
					m.ended[id] = d.Certificates
					delete(m.devices, id)
				}
				err = r.Purge(ctx, id)
			case 9:
				if d == nil || d.State == Revoked {
					continue
				}
				i := slices.IndexFunc(d.Certificates, func(c Certificate) bool { return c.Serial == serialOf(leaf) && c.State == CertActive })
				if i < 0 {
					continue
				}
				before, _ := r.Get(id)
				err = r.Supersede(ctx, id, serialOf(leaf))
				m.end(d, CertSuperseded, pki.Superseded, now, func(c *Certificate) bool {
					return c.Serial != serialOf(leaf) && !c.NotBefore.After(leaf.NotBefore)
				})
				if !cmp.Equal(before.Certificates, d.Certificates) {
					d.Changed = now
				}
			case 10:
				r.Saw(id, Seen{Address: fmt.Sprint("192.0.2.", rapid.IntRange(1, 9).Draw(rt, "address"))})
				if d != nil {
					got, _ := r.Get(id)
					d.Seen = Seen{At: now.Truncate(time.Millisecond), Address: got.Seen.Address}
				}
			case 11:
				if rapid.IntRange(0, 2).Draw(rt, "open") > 0 {
					continue
				}
				r.Close()
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				s = diskStore(t, fs)
				if r, err = Open(s, o); err != nil {
					rt.Fatal(err)
				}
				watch()
			}
			if !errors.Is(err, want) || want == nil && err != nil {
				rt.Fatalf("%v, want %v", err, want)
			}
			if diff := m.compare(r, ids, leaves, KeyID(issuer.cert), now); diff != "" {
				rt.Fatal(diff)
			}
			if a, b := slices.Sorted(maps.Keys(live)), slices.Sorted(maps.Keys(m.devices)); !slices.Equal(a, b) {
				rt.Fatalf("events say that there are %q, and not %q", a, b)
			}
		}
	})
}

// compare returns how a registry differs from the naive one.
func (m *naive) compare(r *Registry, ids []string, leaves map[string][]*x509.Certificate, issuer string, now time.Time) string {
	listed := map[string]bool{}
	for _, id := range ids {
		got, ok := r.Get(id)
		want := m.devices[id]
		if ok != (want != nil) {
			return fmt.Sprintf("%s is there: %v", id, ok)
		}
		certs := m.ended[id]
		if want != nil {
			if diff := cmp.Diff(*want, got); diff != "" {
				return id + ": " + diff
			}
			certs = want.Certificates
		}
		for _, c := range certs {
			if c.State != CertActive {
				listed[c.Serial] = true
			}
		}
		for _, leaf := range leaves[id] {
			i := slices.IndexFunc(certs, func(c Certificate) bool { return c.Serial == serialOf(leaf) })
			if i < 0 {
				continue // Check would register it
			}
			d := Refuse
			if want != nil && certs[i].State == CertActive {
				d = map[State]Decision{Active: Allow, Quarantined: Quarantine}[want.State]
			}
			if v := r.Check(leaf); v.Decision != d || !v.Known {
				return fmt.Sprintf("%s: %+v, want %d", id, v, d)
			} else if again := standing(r, leaf); again != v {
				return fmt.Sprintf("%s stands as %+v, and not %+v", id, again, v)
			}
			if holder, _ := r.Holder(leafKey(leaf)); holder != id {
				return fmt.Sprintf("the key of %s is held by %q", id, holder)
			}
		}
	}
	list := r.Revoked(issuer)
	for _, e := range list {
		b, _ := packSerial(e.Serial)
		if !listed[serialText(b)] {
			return fmt.Sprintf("%s is in the revocation list", serialText(b))
		}
	}
	if len(list) != len(listed) || !slices.IsSortedFunc(list, func(a, b pki.Revoked) int { return a.At.Compare(b.At) }) {
		return fmt.Sprintf("%d in the revocation list, want %d, in order", len(list), len(listed))
	}
	if all, err := r.IDs(Query{}); err != nil || len(all) > len(m.devices) || r.Len() != len(m.devices) {
		return fmt.Sprintf("%d devices, want %d", r.Len(), len(m.devices))
	}
	return ""
}

func leafKey(c *x509.Certificate) pki.SPKI {
	k, _ := pki.SPKIOf(c.PublicKey)
	return k
}

// Many change and read the same few devices; nothing is lost, and what is read is never half a change.
func TestConcurrency(t *testing.T) {
	fs := vfs.NewMem()
	s := diskStore(t, fs)
	issuer := newCA(t, "device CA")
	o := Options{Issuers: []*x509.Certificate{issuer.cert}}
	r, err := Open(s, o)
	if err != nil {
		t.Fatal(err)
	}
	const devices, writers, rounds = 8, 4, 40
	id := func(i int) string { return fmt.Sprint("d", i%devices) }
	var leaves []*x509.Certificate
	for i := range devices {
		leaves = append(leaves, issuer.issue(t, "device", id(i), 0))
		if err := r.Issued(context.Background(), id(i), leaves[i]); err != nil {
			t.Fatal(err)
		}
	}
	var told, refused atomic.Int64
	r.Watch(func(Event) { told.Add(1) })
	var writing, reading sync.WaitGroup
	stop := make(chan struct{})
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				ctx := As(context.Background(), fmt.Sprint("writer ", w))
				err := r.change(ctx, action{what: "count"}, []string{id(i), id(i + w + 1), id(i + 3)}, must(func(e *entry) error {
					n := 0
					_, _ = fmt.Sscan(e.note, &n)
					e.note = fmt.Sprint(n + 1)
					// State and group go together, so that a torn read shows.
					if e.state = Active; n%2 == 0 {
						e.state = Disabled
					}
					e.groups = []string{string(e.state)}
					return nil
				}))
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		reading.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if v := r.Check(leaves[i%devices]); v.Decision == Refuse {
					refused.Add(1)
				}
				if groups, state := r.Groups(id(i)); len(groups) == 1 && groups[0] != string(state) {
					t.Errorf("state %s with group %v", state, groups)
				}
				r.Saw(id(i), Seen{Address: fmt.Sprint(i)})
				if i%16 == 0 {
					_, _ = r.List(Query{State: Active})
					r.Revoked(KeyID(issuer.cert))
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	reading.Wait()
	sum := 0
	for i := range devices {
		d, _ := r.Get(id(i))
		n := 0
		_, _ = fmt.Sscan(d.Note, &n)
		sum += n
	}
	if int64(sum) != told.Load() || sum < writers*rounds {
		t.Errorf("%d changes are counted, %d told", sum, told.Load())
	}
	before, err := r.List(Query{})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = diskStore(t, fs)
	defer s.Close()
	if r, err = Open(s, o); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	after, err := r.List(Query{})
	if diff := cmp.Diff(before, after); err != nil || diff != "" {
		t.Error(err, diff)
	}
}
