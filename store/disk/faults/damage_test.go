package faults

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// files are the contents of a store's folder.
func files(t *testing.T, fs vfs.FS) map[string][]byte {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]byte)
	for _, name := range names {
		f, err := fs.Open(path.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		fi, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, fi.Size())
		if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
			t.Fatal(err)
		}
		f.Close()
		all[name] = b
	}
	return all
}

// folderOf makes a file system with those files, one of them with another content; nil: without it.
func folderOf(t *testing.T, all map[string][]byte, name string, content []byte) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for n, b := range all {
		if n == name {
			if b = content; b == nil {
				continue
			}
		}
		f, err := fs.Create(path.Join(dir, n), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(bytes.Clone(b))
		f.Close()
	}
	return fs
}

// locked is a buffer for a log.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// read opens a store and reads everything in it.
func read(fs vfs.FS) (got, said string, err error) {
	var log locked
	s, err := openSoon(fs, slog.New(slog.NewTextHandler(&log, nil)))
	if err == nil {
		got, err = s.h.all(s)
		s.Close()
	}
	return got, log.String(), err
}

// TestDamage changes a bit, or cuts the end off, in every file of a store. Whatever is served then is right, or else the
// damage is found and the file or the kind of value is named.
func TestDamage(t *testing.T) {
	mem := vfs.NewMem()
	out := run(mem, script(3, 120, 40<<10), nil)
	if out.openErr != nil || out.closeErr != nil || out.failed() > 0 {
		t.Fatal(out.openErr, out.closeErr, out.failed())
	}
	all := files(t, mem)
	want, said, err := read(folderOf(t, all, "", nil))
	if err != nil {
		t.Fatal(err, said)
	}
	newest := ""
	for name := range all {
		if strings.HasSuffix(name, ".log") {
			newest = max(newest, name)
		}
	}
	samples := 2
	if soak() {
		samples = 300
	}
	rng := rand.New(rand.NewPCG(11, 11))
	counts := make(map[string]int)
	judge := func(name, what string, content []byte) {
		got, said, err := read(folderOf(t, all, name, content))
		kind := regexp.MustCompile(`[0-9.]+`).ReplaceAllString(name, "") + ": "
		switch {
		case err != nil:
			if text := err.Error() + said; names(text, name) {
				counts[kind+"found"]++
			} else {
				counts[kind+"found, not named"]++
				t.Errorf("%s: %s: the damage is found, but the file is not named: %v", name, what, err)
			}
		case got == want:
			counts[kind+"harmless"]++
		case name == newest && out.after(got, 0) == "":
			counts[kind+"looks like a crash"]++
		default:
			t.Errorf("%s: %s: wrong data is served:\n%s", name, what, difference(want, got))
		}
	}
	order := slices.Sorted(maps.Keys(all))
	for _, name := range order {
		b := all[name]
		if len(b) == 0 {
			continue
		}
		for range samples {
			at, bit := rng.IntN(len(b)), rng.IntN(8)
			flipped := bytes.Clone(b)
			flipped[at] ^= 1 << bit
			judge(name, fmt.Sprintf("bit %d of byte %d of %d is changed", bit, at, len(b)), flipped)
			if at := rng.IntN(len(b)); at%2 == 0 || soak() {
				judge(name, fmt.Sprintf("cut to %d of %d bytes", at, len(b)), b[:at])
			}
		}
	}
	for _, name := range order {
		if strings.HasSuffix(name, ".sst") || strings.HasPrefix(name, "MANIFEST") {
			judge(name, "is missing", nil)
		}
	}
	var lines []string
	for what, n := range counts {
		lines = append(lines, fmt.Sprintf("%s %d", what, n))
	}
	slices.Sort(lines)
	t.Log(strings.Join(lines, "\n"))
}

// names reports whether a text tells which file, or which kind of value, is damaged. Of a damaged list of files Pebble
// tells a table that is in it or is not; of damaged options the line that it does not understand.
func names(text, name string) bool {
	if regexp.MustCompile(`[0-9]{6}`).MatchString(text) || strings.HasPrefix(name, "OPTIONS") && strings.Contains(text, "key=value") {
		return true
	}
	for _, word := range []string{"MANIFEST", "session", "subscription", "queue", "message", "state of the store", "version", "WAL"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}
