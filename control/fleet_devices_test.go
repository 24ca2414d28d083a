//go:build unix

package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store"
)

func TestDeviceLife(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		if cert, err := b.AddDevice(ctx, AddRequest{ID: "plain", Groups: []string{"sensors"}, State: registry.Pending}); err != nil || cert != nil {
			t.Fatalf("add: %+v %v", cert, err)
		}
		if _, err := b.AddDevice(ctx, AddRequest{ID: "plain"}); !errors.Is(err, registry.ErrExists) {
			t.Errorf("add twice: %v", err)
		}
		if _, err := b.SignDevice(ctx, SignRequest{ID: "plain", CSR: newCSR(t)}); !errors.Is(err, identity.ErrDisabled) {
			t.Errorf("sign for a pending device: %v", err)
		}

		key := newKey(t)
		cert, err := b.AddDevice(ctx, AddRequest{ID: "pump-17", Groups: []string{"sensors"}, Attributes: map[string]string{"site": "north"},
			CSR: csrOf(t, key, "another"), Life: 48 * 3600})
		b.do(err)
		leaves, err := pki.ParseCertificates([]byte(cert.Cert))
		b.do(err)
		leaf := leaves[0]
		if !cert.New || cert.ID != "pump-17" || leaf.Subject.CommonName != "pump-17" || !key.PublicKey.Equal(leaf.PublicKey) || cert.CA == "" ||
			!cert.NotAfter.Equal(leaf.NotAfter) || time.Until(cert.NotAfter) > 49*time.Hour || cert.RenewAt.After(cert.NotAfter) {
			t.Errorf("certificate %+v", cert)
		}
		d, err := b.Device(ctx, "pump-17")
		b.do(err)
		if d.Certificates[0].Serial != cert.Serial || d.Attributes["site"] != "north" || d.State != registry.Active {
			t.Errorf("device %+v", d)
		}

		// A key serves one device.
		var refusal *pki.Refusal
		if _, err := b.AddDevice(ctx, AddRequest{ID: "other", CSR: csrOf(t, key, "")}); !errors.As(err, &refusal) || refusal.Code != pki.CodeKeyUsed || hint(err) == "" {
			t.Errorf("add with the key of another: %v", err)
		}
		if _, err := b.SignDevice(ctx, SignRequest{ID: "other", CSR: "nonsense"}); !errors.As(err, &refusal) || refusal.Code != pki.CodeCSR {
			t.Errorf("sign nonsense: %v", err)
		}
		if b.state("other") != "" {
			t.Error("what was refused is registered")
		}

		if _, err := b.RenewDevice(ctx, SignRequest{ID: "nobody", CSR: newCSR(t)}); !errors.Is(err, registry.ErrUnknown) {
			t.Errorf("renew nobody: %v", err)
		}
		next, err := b.RenewDevice(ctx, SignRequest{ID: "pump-17", CSR: newCSR(t)})
		b.do(err)
		if next.New || next.Serial == cert.Serial {
			t.Errorf("renewed %+v", next)
		}
		if o, err := b.Revoke(ctx, RevokeRequest{Serial: cert.Serial, Reason: "superseded"}, nil); err != nil || o.Done != 1 {
			t.Errorf("revoke certificate: %+v %v", o, err)
		}
		d, err = b.Device(ctx, "pump-17")
		b.do(err)
		if d.State != registry.Active || d.Certificates[0].State != registry.CertActive || d.Certificates[1].State != registry.CertRevoked {
			t.Errorf("device %+v", d)
		}

		fresh, err := b.SignDevice(ctx, SignRequest{ID: "valve-3", CSR: newCSR(t)})
		b.do(err)
		if !fresh.New {
			t.Errorf("signed for a new device: %+v", fresh)
		}
		if o, err := b.Revoke(ctx, RevokeRequest{Selection: Selection{IDs: []string{"valve-3"}}, Reason: "key-compromise"}, nil); err != nil || o.Done != 1 {
			t.Errorf("revoke: %+v %v", o, err)
		}
		if _, err := b.RenewDevice(ctx, SignRequest{ID: "valve-3", CSR: newCSR(t)}); !errors.Is(err, registry.ErrRevoked) {
			t.Errorf("renew a revoked device: %v", err)
		}
		if _, err := b.Device(ctx, "nobody"); !errors.Is(err, registry.ErrUnknown) {
			t.Errorf("show nobody: %v", err)
		}
		if !strings.Contains(b.log.String(), fmt.Sprintf("who=%q", me(t))) {
			t.Errorf("the log does not name %q:\n%s", me(t), b.log)
		}
	})
}

func TestOperators(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		b.add("alice")
		cert, err := b.IssueOperator(ctx, SignRequest{ID: "alice", CSR: newCSR(t)})
		b.do(err)
		leaves, err := pki.ParseCertificates([]byte(cert.Cert))
		b.do(err)
		if u := leaves[0].URIs; len(u) != 1 || !strings.HasSuffix(u[0].String(), ":operator:alice") {
			t.Errorf("identity %v", u)
		}
		all, err := b.Operators(ctx)
		b.do(err)
		if len(all) != 1 || all[0].ID != "operator/alice" || all[0].Certificates[0].Serial != cert.Serial {
			t.Errorf("operators %+v", all)
		}
		b.do(b.RevokeOperator(ctx, "alice", "affiliation-changed"))
		if b.state("operator/alice") != registry.Revoked || b.state("alice") != registry.Active {
			t.Error("not the operator was revoked")
		}
		if err := b.RevokeOperator(ctx, "bob", ""); !errors.Is(err, registry.ErrUnknown) {
			t.Errorf("revoke nobody: %v", err)
		}
	})
}

func TestListDevices(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		b.many(2000)
		_, err := b.AddDevice(ctx, AddRequest{ID: "short", CSR: newCSR(t), Life: 7200})
		b.do(err)
		_, err = b.Disable(ctx, Selection{IDs: []string{"d-00003"}}, nil)
		b.do(err)
		list := func(q Query) (ids []string) {
			t.Helper()
			b.do(b.Devices(ctx, q, func(d registry.Device) error {
				ids = append(ids, d.ID)
				return nil
			}))
			return ids
		}
		if ids := list(Query{}); len(ids) != 2001 || !slices.IsSorted(ids) {
			t.Errorf("%d devices", len(ids))
		}
		for _, c := range []struct {
			q    Query
			want int
		}{
			{Query{Group: "g3"}, 200},
			{Query{State: registry.Disabled}, 1},
			{Query{ID: "d-0001?"}, 10},
			{Query{ID: "d-0001", Group: "g1"}, 1},
			{Query{ExpiringBefore: time.Now().Add(3 * time.Hour)}, 1},
			{Query{ExpiringBefore: time.Now().Add(time.Hour)}, 0},
			{Query{Group: "a&b=c;d \x00"}, 0},
		} {
			if ids := list(c.q); len(ids) != c.want {
				t.Errorf("%+v chooses %d, want %d", c.q, len(ids), c.want)
			}
		}
		var e *Error
		if err := b.Devices(ctx, Query{ID: "["}, nil); !errors.As(err, &e) || e.Status != http.StatusBadRequest {
			t.Errorf("bad pattern: %v", err)
		}
		enough := errors.New("enough")
		n := 0
		if err := b.Devices(ctx, Query{}, func(registry.Device) error {
			if n++; n == 10 {
				return enough
			}
			return nil
		}); err != enough || n != 10 {
			t.Errorf("%d devices: %v", n, err)
		}
	})
}

func TestActionsOverMany(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		b.many(3*batch + 7)
		total := 3*batch + 7
		var told []Progress
		progress := func(p Progress) { told = append(told, p) }
		o, err := b.Disable(ctx, Selection{All: true}, progress)
		if err != nil || o.Done != total || len(o.Failed) != 0 {
			t.Errorf("disable: %+v %v", o, err)
		}
		want := []Progress{{batch, total}, {2 * batch, total}, {3 * batch, total}, {total, total}}
		if d := cmp.Diff(want, told); d != "" {
			t.Error(d)
		}
		if o, err = b.Disable(ctx, Selection{All: true}, nil); err != nil || o.Done != total {
			t.Errorf("disable again: %+v %v", o, err)
		}
		o, err = b.Enable(ctx, Selection{Query: &Query{Group: "g3"}}, nil)
		if err != nil || o.Done != (total+6)/10 || b.state("d-00003") != registry.Active || b.state("d-00004") != registry.Disabled {
			t.Errorf("enable: %+v %v", o, err)
		}

		// What fails is told of each, and keeps no other from being changed.
		if _, err := b.Revoke(ctx, RevokeRequest{Selection: Selection{IDs: []string{"d-00001", "d-00002"}}}, nil); err != nil {
			t.Error(err)
		}
		o, err = b.Quarantine(ctx, Selection{IDs: []string{"nobody", "d-00001", "d-00000", "d-00002", "d-00000", "no\nid"}}, nil)
		var partial *PartialError
		if !errors.As(err, &partial) || !errors.Is(err, registry.ErrUnknown) || !errors.Is(err, registry.ErrRevoked) || errors.Is(err, registry.ErrExists) {
			t.Errorf("quarantine: %v", err)
		}
		got := map[string]string{}
		for _, f := range o.Failed {
			got[f.ID] = f.Code
		}
		if d := cmp.Diff(map[string]string{"nobody": CodeUnknown, "no\nid": CodeUnknown, "d-00001": CodeRevoked, "d-00002": CodeRevoked}, got); d != "" {
			t.Error(d)
		}
		if o.Done != 1 || len(partial.Failed) != 4 || b.state("d-00000") != registry.Quarantined || !strings.Contains(err.Error(), "1 done, 4 failed") {
			t.Errorf("quarantine: %+v %v", o, err)
		}

		o, err = b.Purge(ctx, Selection{IDs: []string{"d-00005", "nobody", "d-00006"}}, nil)
		if !errors.Is(err, registry.ErrUnknown) || o.Done != 2 || len(o.Failed) != 1 || o.Failed[0].ID != "nobody" || b.state("d-00006") != "" {
			t.Errorf("purge: %+v %v", o, err)
		}
		o, err = b.Purge(ctx, Selection{IDs: []string{"d-00005"}}, nil)
		if !errors.Is(err, registry.ErrUnknown) || o.Done != 0 {
			t.Errorf("purge again: %+v %v", o, err)
		}
		o, err = b.Revoke(ctx, RevokeRequest{Selection: Selection{All: true}}, nil)
		if err != nil || o.Done != total-2 || b.state("d-00007") != registry.Revoked {
			t.Errorf("revoke: %+v %v", o, err)
		}
		if o, err := b.Enable(ctx, Selection{Query: &Query{ID: "nothing*"}}, nil); err != nil || o.Done != 0 {
			t.Errorf("enable none: %+v %v", o, err)
		}
	})
}

// A store that takes no more changes ends an action at once, with what was done until then.
func TestActionsWhileTheStoreIsFull(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		b.many(4 * batch)
		n := 0
		b.s.submit = func(ops []*store.Op) error {
			if n += len(ops); n > 2 {
				return fmt.Errorf("%w: the disk is full", store.ErrDegraded)
			}
			return nil
		}
		few, err := b.Purge(t.Context(), Selection{IDs: []string{"d-00002", "d-00001", "d-00000"}}, nil)
		if !errors.Is(err, store.ErrDegraded) || few.Done != 0 || len(few.Failed) != 0 || b.state("d-00000") == "" {
			t.Errorf("purge: %+v %v", few, err)
		}
		n = 0
		b.s.submit = func(ops []*store.Op) error {
			if n += len(ops); n > 2*batch {
				return fmt.Errorf("%w: the disk is full", store.ErrDegraded)
			}
			return nil
		}
		o, err := b.Disable(t.Context(), Selection{All: true}, nil)
		if !errors.Is(err, store.ErrDegraded) || o.Done != 2*batch || len(o.Failed) != 0 {
			t.Errorf("disable: %+v %v", o, err)
		}
		var e *Error
		if _, err := b.AddDevice(t.Context(), AddRequest{ID: "more"}); !errors.As(err, &e) || e.Code != CodeStore || e.Status != http.StatusServiceUnavailable {
			t.Errorf("add: %v", err)
		}
	})
}

// One that goes away stops the rest; what is done stays done.
func TestActionsEndWithWhoAsked(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		b.many(20 * batch)
		ctx, cancel := context.WithCancel(t.Context())
		var once sync.Once
		gone := make(chan struct{})
		n := 0
		b.s.submit = func(ops []*store.Op) error {
			if n += len(ops); n > 3*batch {
				once.Do(func() { cancel(); close(gone) })
			}
			if n > 4*batch { // the server notices that nobody listens, sooner or later
				time.Sleep(20 * time.Millisecond)
			}
			return nil
		}
		if _, err := b.Disable(ctx, Selection{All: true}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("disable: %v", err)
		}
		<-gone
		b.until(func() bool { return strings.Contains(b.log.String(), "control request failed") })
		left, err := b.f.Registry.IDs(registry.Query{State: registry.Active})
		b.do(err)
		if len(left) == 0 || len(left) > 17*batch {
			t.Errorf("%d of %d are active", len(left), 20*batch)
		}
		if _, err := b.Device(t.Context(), "d-00000"); err != nil {
			t.Error(err)
		}
	})
}

// A server that ends does not wait for the rest of an action.
func TestCloseDuringAnAction(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		b.many(8 * batch)
		begun, end := make(chan struct{}), make(chan struct{})
		n := 0
		b.s.submit = func(ops []*store.Op) error {
			if n += len(ops); n == 2*batch {
				close(begun)
				<-end
			}
			return nil
		}
		asked := make(chan error, 1)
		go func() {
			_, err := b.Disable(context.Background(), Selection{All: true}, nil)
			asked <- err
		}()
		<-begun
		closed := make(chan error, 1)
		go func() { closed <- b.server.Close() }()
		if err := <-asked; err == nil {
			t.Error("the action was answered")
		}
		close(end)
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if left, err := b.f.Registry.IDs(registry.Query{State: registry.Disabled}); err != nil || len(left) != 2*batch {
			t.Errorf("%d are disabled: %v", len(left), err)
		}
	})
}

// until waits for a condition.
func (b *bench) until(ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatal("waited in vain")
		}
	}
}

func TestConcurrentCommands(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		b.many(1000)
		var wg sync.WaitGroup
		won := make(chan string, 4)
		for i := range 4 {
			csr := newCSR(t)
			wg.Go(func() {
				if _, err := b.AddDevice(t.Context(), AddRequest{ID: "one", CSR: csr}); err == nil {
					won <- "one"
				} else if !errors.Is(err, registry.ErrExists) {
					t.Error(err)
				}
				if o, err := b.Disable(t.Context(), Selection{Query: &Query{Group: fmt.Sprintf("g%d", i%2)}}, nil); err != nil || o.Done != 100 {
					t.Errorf("disable: %+v %v", o, err)
				}
				n := 0
				if err := b.Devices(t.Context(), Query{Group: "g5"}, func(registry.Device) error { n++; return nil }); err != nil || n != 100 {
					t.Errorf("list: %d %v", n, err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Errorf("%d have added the device", len(won))
		}
	})
}
