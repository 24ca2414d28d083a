package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/disk"
)

// TestFullDisk fills a small disk from outside, to the mark and to the last byte. Messages are refused with ErrDegraded
// meanwhile, or wait; acknowledgements are taken as long as there is a reserve. When there is space again the store goes
// on by itself, and nothing that was committed is lost.
func TestFullDisk(t *testing.T) {
	for _, leave := range []int64{8 << 20, 0} {
		t.Run(fmt.Sprintf("%d bytes left", leave), func(t *testing.T) { fullDisk(t, leave) })
	}
}

func fullDisk(t *testing.T, leave int64) {
	mount := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=64m,mode=0700"); err != nil {
		t.Skipf("a small file system can't be mounted here: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(mount, unix.MNT_DETACH) })
	at := filepath.Join(mount, "store")
	cfg := disk.Config{WriteBuffer: 1 << 20, MinFree: 16 << 20}
	h := newSeen()
	fatal := make(chan error, 10)
	s, err := disk.Open(at, cfg, disk.Options{Fatal: func(err error) { fatal <- err }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(h); err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 20<<10)
	var ops []*store.Op
	bytes := uint64(0)
	submit := func(op *store.Op) {
		op.Wait = 1
		op.Prepare()
		ops = append(ops, op)
		s.Submit(op)
	}
	publish := func() {
		m := store.NewMessage("t", payload, nil)
		bytes += uint64(m.Size())
		op := &store.Op{Kind: store.Publish, Message: m}
		op.Place(&store.Placement{Session: 1, Pos: uint64(len(ops)), Bytes: bytes, QoS: 1})
		submit(op)
	}
	result := func(i int) error {
		if err := h.await(i + 1); err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.errs[i]
	}
	submit(&store.Op{Kind: store.PutSession, Session: 1, State: &store.Session{ID: 1, ClientID: "c"}})
	for range 20 {
		publish()
	}
	if err := result(20); err != nil {
		t.Fatal(err)
	}
	usage, err := vfs.Default.GetDiskUsage(mount)
	if err != nil {
		t.Fatal(err)
	}
	filler, err := os.Create(filepath.Join(mount, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(filler.Fd()), 0, 0, int64(usage.AvailBytes)-leave); err != nil {
		t.Fatal(err)
	}
	filler.Close()
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s does not come", what)
			}
		}
	}
	until("the state", func() bool { return errors.Is(s.Ready(), store.ErrDegraded) })
	for range 10 {
		publish()
		if err := result(len(ops) - 1); !errors.Is(err, store.ErrDegraded) {
			t.Errorf("a message on a full disk: %v", err)
		}
	}
	submit(&store.Op{Kind: store.Acked, Session: 1, Positions: []uint64{1}})
	switch err := result(len(ops) - 1); {
	case leave > 0 && err != nil:
		t.Errorf("an acknowledgement, with the reserve left: %v", err)
	case leave == 0 && err != nil && !errors.Is(err, store.ErrDegraded):
		t.Errorf("an acknowledgement on a full disk: %v", err)
	}
	if err := os.Remove(filepath.Join(mount, "filler")); err != nil {
		t.Fatal(err)
	}
	until("the recovery", func() bool { return s.Ready() == nil })
	publish()
	if err := result(len(ops) - 1); err != nil {
		t.Errorf("with space again: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-fatal:
		t.Errorf("the store failed: %v", err)
	default:
	}

	m := newModel()
	for i, op := range ops {
		if h.errs[i] == nil {
			m.apply(op)
		}
	}
	h = newSeen()
	if s, err = disk.Open(at, cfg, disk.Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Load(h); err != nil {
		t.Fatal(err)
	}
	got, err := h.all(s)
	if err != nil {
		t.Fatal(err)
	}
	if want := m.String(); got != want {
		t.Error(difference(want, got))
	}
}
