package acme

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/sealmq/sealmq/store"
)

// The storage does what a map with folders does, over restarts of the store too.
func TestStorageModel(t *testing.T) {
	ctx := t.Context()
	rapid.Check(t, func(r *rapid.T) {
		mem := vfs.NewMem()
		disk := diskStore(t, mem)
		defer func() { _ = disk.Close() }()
		clock := time.UnixMilli(1_800_000_000_000)
		s := newStorage(disk, func() time.Time { return clock })
		model := map[string][]byte{}
		written := map[string]time.Time{}
		part := rapid.SampledFrom([]string{"a", "ab", "b", "a.crt", "c"})
		key := rapid.Custom(func(r *rapid.T) string {
			return strings.Join(rapid.SliceOfN(part, 1, 3).Draw(r, "parts"), "/")
		})
		below := func(dir string) (keys []string) {
			for k := range model {
				if dir == "" || strings.HasPrefix(k, dir+"/") {
					keys = append(keys, k)
				}
			}
			return keys
		}
		list := func(dir string, recursive bool) (all []string) {
			for _, k := range below(dir) {
				for ; k != dir && k != "."; k = path.Dir(k) {
					if parent := path.Dir(k); recursive || parent == dir || dir == "" && parent == "." {
						all = append(all, k)
					}
				}
			}
			slices.Sort(all)
			return slices.Compact(all)
		}
		r.Repeat(map[string]func(*rapid.T){
			"store": func(r *rapid.T) {
				k, v := key.Draw(r, "key"), rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(r, "value")
				clock = clock.Add(time.Second)
				if err := s.Store(ctx, k, v); err != nil {
					r.Fatal(err)
				}
				model[k], written[k] = v, clock
			},
			"load": func(r *rapid.T) {
				k := key.Draw(r, "key")
				v, err := s.Load(ctx, k)
				if want, ok := model[k]; ok != (err == nil) || !bytes.Equal(v, want) || !ok && !errors.Is(err, fs.ErrNotExist) {
					r.Fatalf("%s: %q %v, wanted %q", k, v, err, want)
				}
			},
			"delete": func(r *rapid.T) {
				k := key.Draw(r, "key")
				if err := s.Delete(ctx, k); err != nil {
					r.Fatal(err)
				}
				for _, b := range append(below(k), k) {
					delete(model, b)
				}
			},
			"list": func(r *rapid.T) {
				dir, recursive := rapid.OneOf(key, rapid.Just("")).Draw(r, "dir"), rapid.Bool().Draw(r, "recursive")
				got, err := s.List(ctx, dir, recursive)
				slices.Sort(got)
				want := list(dir, recursive)
				if !slices.Equal(got, want) || errors.Is(err, fs.ErrNotExist) != (len(want) == 0) {
					r.Fatalf("%q %v: %q %v, wanted %q", dir, recursive, got, err, want)
				}
			},
			"stat": func(r *rapid.T) {
				k := key.Draw(r, "key")
				info, err := s.Stat(ctx, k)
				v, file := model[k]
				dir := len(below(k)) > 0
				if exists := file || dir; exists != (err == nil) || exists != s.Exists(ctx, k) {
					r.Fatalf("%s: %v, file %v, folder %v", k, err, file, dir)
				}
				if err == nil && (info.Key != k || info.IsTerminal != file) || file && (info.Size != int64(len(v)) || !info.Modified.Equal(written[k])) {
					r.Fatalf("%s: %+v", k, info)
				}
			},
			"restart": func(r *rapid.T) {
				if err := disk.Close(); err != nil {
					r.Fatal(err)
				}
				disk = diskStore(t, mem)
				s = newStorage(disk, s.now)
			},
		})
	})
}

func TestStorageLimits(t *testing.T) {
	ctx := t.Context()
	mem := memoryStore(t)
	s := newStorage(mem, time.Now)
	for _, key := range []string{"", "/a", "a/", "a//b", "../a", "a/../b", ".", strings.Repeat("a", store.MaxRecordKey)} {
		if err := s.Store(ctx, key, nil); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("store %.20q: %v", key, err)
		}
		if _, err := s.Load(ctx, key); err == nil {
			t.Errorf("load %.20q: no error", key)
		}
	}
	if err := s.Store(ctx, "a", make([]byte, maxValue+1)); err == nil {
		t.Error("a value that is too large was stored")
	}
	if err := s.Store(ctx, "a", make([]byte, maxValue)); err != nil {
		t.Error(err)
	}
	if err := s.Delete(ctx, "nothing"); err != nil {
		t.Error(err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Store(over, "b", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	op, done := store.NewRecord(prefix+"bad", []byte{9, 1, 2})
	mem.Submit(op)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(ctx, "bad"); !errors.Is(err, errDamaged) {
		t.Error(err)
	}
	if err := s.Delete(ctx, "bad"); err != nil || s.Exists(ctx, "bad") {
		t.Errorf("a damaged record stays: %v", err)
	}
}

// A store that refuses or cannot be read is an error, never a missing value.
func TestStorageFails(t *testing.T) {
	broken := fmt.Errorf("broken: %w", store.ErrDegraded)
	s := newStorage(failing{broken}, time.Now)
	ctx := t.Context()
	if err := s.Store(ctx, "a", nil); !errors.Is(err, store.ErrDegraded) {
		t.Error(err)
	}
	if _, err := s.Load(ctx, "a"); !errors.Is(err, errRead) || errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := s.List(ctx, "", true); !errors.Is(err, errRead) {
		t.Error(err)
	}
	if err := s.Delete(ctx, "a"); !errors.Is(err, errRead) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Records(string, func(string, []byte) bool) error { return f.err }
func (f failing) Ready() error                                    { return f.err }
func (f failing) Submit(ops ...*store.Op) {
	for _, op := range ops {
		op.Wait.(chan error) <- f.err
	}
}

func TestStorageLocks(t *testing.T) {
	s := newStorage(memoryStore(t), time.Now)
	ctx := t.Context()
	var wg sync.WaitGroup
	n := 0
	for range 20 {
		wg.Go(func() {
			if err := s.Lock(ctx, "x"); err != nil {
				t.Error(err)
				return
			}
			n++ // the race detector looks
			if err := s.Unlock(ctx, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := s.Unlock(ctx, "x"); n != 20 || err == nil {
		t.Errorf("%d held it; unlocked twice: %v", n, err)
	}
	if err := s.Lock(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if err := s.Lock(ctx, "y"); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Lock(over, "x"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
