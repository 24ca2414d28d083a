package acme

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/sealmq/sealmq/store"
)

// Store is what is needed of a store.Store that was loaded. Whoever handles its commits must send what has become of an op
// to its Wait, a chan error.
type Store interface {
	Records(prefix string, fn func(key string, value []byte) bool) error
	Submit(ops ...*store.Op)
	Ready() error
}

const (
	prefix   = "acme/"
	maxValue = 256 << 10 // bytes; a chain with its metadata has about 10 KiB

	valueVersion = 1
	valueHeader  = 1 + 8 // version, time of writing in milliseconds since 1970
)

var (
	errDamaged = errors.New("the record is damaged")
	errRead    = errors.New("the store cannot be read")
)

// storage is a certmagic.Storage in the store's records: a key is the record acme/KEY. Its locks are of this process, which
// is the only one that has the store.
type storage struct {
	s   Store
	now func() time.Time

	mu    sync.Mutex
	locks map[string]chan struct{} // closed when the lock is free again
}

var _ certmagic.Storage = (*storage)(nil)

func newStorage(s Store, now func() time.Time) *storage {
	return &storage{s: s, now: now, locks: make(map[string]chan struct{})}
}

func checkKey(key string) error {
	if key == "" || len(prefix)+len(key) > store.MaxRecordKey || key[0] == '/' || path.Clean(key) != key || key == "." || key == ".." || strings.HasPrefix(key, "../") {
		return fmt.Errorf("key %.100q: %w", key, fs.ErrInvalid)
	}
	return nil
}

// Store implements certmagic.Storage. The value is durable when it returns nil.
func (s *storage) Store(ctx context.Context, key string, value []byte) error {
	if err := checkKey(key); err != nil {
		return fmt.Errorf("store %w", err)
	}
	if len(value) > maxValue {
		return fmt.Errorf("store key %q: %d bytes, at most %d wanted", key, len(value), maxValue)
	}
	b := binary.BigEndian.AppendUint64(append(make([]byte, 0, valueHeader+len(value)), valueVersion), uint64(s.now().UnixMilli()))
	if err := s.put(ctx, []string{key}, append(b, value...)); err != nil {
		return fmt.Errorf("store key %q: %w", key, err)
	}
	return nil
}

// put writes records, or deletes them when value is nil, and waits until that is durable.
func (s *storage) put(ctx context.Context, keys []string, value []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ops := make([]*store.Op, len(keys))
	waits := make([]<-chan error, len(keys))
	for i, key := range keys {
		ops[i], waits[i] = store.NewRecord(prefix+key, value)
	}
	s.s.Submit(ops...)
	var errs []error
	for _, w := range waits {
		select {
		case err := <-w:
			errs = append(errs, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.Join(errs...)
}

// entry is a stored value.
type entry struct {
	key     string
	written time.Time
	value   []byte
}

// read calls fn with the entries whose keys begin with p, in their order, until it returns false. One that is damaged comes
// without value.
func (s *storage) read(ctx context.Context, p string, fn func(e entry, err error) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.s.Records(prefix+p, func(key string, b []byte) bool {
		e := entry{key: strings.TrimPrefix(key, prefix)}
		if len(b) < valueHeader || b[0] != valueVersion || len(b) > valueHeader+maxValue {
			return fn(e, fmt.Errorf("%w: %d bytes", errDamaged, len(b)))
		}
		e.written = time.UnixMilli(int64(binary.BigEndian.Uint64(b[1:])))
		e.value = b[valueHeader:]
		return fn(e, nil)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errRead, err)
	}
	return nil
}

// load returns the entry of exactly this key, its value copied.
func (s *storage) load(ctx context.Context, key string) (found entry, err error) {
	if err := checkKey(key); err != nil {
		return found, fmt.Errorf("load %w", err)
	}
	missing := true
	var damaged error
	err = s.read(ctx, key, func(e entry, err error) bool {
		if e.key == key { // the first, if it is there: the others are longer
			missing, damaged, found = false, err, e
			found.value = append([]byte{}, e.value...)
		}
		return false
	})
	switch {
	case err != nil:
	case damaged != nil:
		err = damaged
	case missing:
		err = fs.ErrNotExist
	default:
		return found, nil
	}
	return found, fmt.Errorf("load key %q: %w", key, err)
}

// Load implements certmagic.Storage.
func (s *storage) Load(ctx context.Context, key string) ([]byte, error) {
	e, err := s.load(ctx, key)
	return e.value, err
}

// below returns the keys of what is stored in a folder, at whatever depth. The folder "" is all.
func (s *storage) below(ctx context.Context, dir string) (keys []string, err error) {
	if dir != "" {
		if err := checkKey(dir); err != nil {
			return nil, err
		}
		dir += "/"
	}
	err = s.read(ctx, dir, func(e entry, _ error) bool {
		keys = append(keys, e.key)
		return true
	})
	return keys, err
}

// Delete implements certmagic.Storage: the key, and what is below it.
func (s *storage) Delete(ctx context.Context, key string) error {
	keys, err := s.below(ctx, key)
	if err != nil {
		return fmt.Errorf("delete key %q: %w", key, err)
	}
	if _, err := s.load(ctx, key); !errors.Is(err, fs.ErrNotExist) {
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil
	}
	if err := s.put(ctx, keys, nil); err != nil {
		return fmt.Errorf("delete key %q: %w", key, err)
	}
	return nil
}

// Exists implements certmagic.Storage.
func (s *storage) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// List implements certmagic.Storage. Folders are listed too, as in a file system.
func (s *storage) List(ctx context.Context, dir string, recursive bool) ([]string, error) {
	keys, err := s.below(ctx, dir)
	if err == nil && len(keys) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("list key %q: %w", dir, err)
	}
	base := 0
	if dir != "" {
		base = len(dir) + 1
	}
	var all []string
	seen := make(map[string]bool)
	add := func(key string) {
		if !seen[key] {
			seen[key] = true
			all = append(all, key)
		}
	}
	for _, key := range keys {
		for i := base; i < len(key); i++ {
			if key[i] == '/' {
				add(key[:i])
				if !recursive {
					break
				}
			}
		}
		if recursive || !strings.Contains(key[base:], "/") {
			add(key)
		}
	}
	return all, nil
}

// Stat implements certmagic.Storage.
func (s *storage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	e, err := s.load(ctx, key)
	if err == nil {
		return certmagic.KeyInfo{Key: key, Modified: e.written, Size: int64(len(e.value)), IsTerminal: true}, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		if keys, err := s.below(ctx, key); err == nil && len(keys) > 0 {
			return certmagic.KeyInfo{Key: key}, nil
		}
	}
	return certmagic.KeyInfo{}, err
}

// Lock implements certmagic.Locker.
func (s *storage) Lock(ctx context.Context, name string) error {
	for {
		s.mu.Lock()
		held, taken := s.locks[name]
		if !taken {
			s.locks[name] = make(chan struct{})
		}
		s.mu.Unlock()
		if !taken {
			return nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Unlock implements certmagic.Locker.
func (s *storage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, taken := s.locks[name]
	if !taken {
		return fmt.Errorf("unlock %q: it is not locked", name)
	}
	delete(s.locks, name)
	close(held)
	return nil
}
