package password

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A file that changes is taken when it is whole; one that is bad, missing, empty or open to others changes nothing.
func TestSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	users := func(names ...string) *File {
		f := New()
		for _, n := range names {
			if err := f.Set(n, "secret", Argon2id, least); err != nil {
				t.Fatal(err)
			}
		}
		return f
	}
	old := time.Now().Add(-time.Hour)
	put := func(text string) { // a time of its own for each, longer ago than youngest
		t.Helper()
		old = old.Add(time.Second)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a missing file: %v", err)
	}
	alice := string(users("alice").Text())
	put(alice)
	s, f, err := Open(path)
	if err != nil || !f.Has("alice") {
		t.Fatal(f, err)
	}
	nothing := func(when string) {
		t.Helper()
		if f, err := s.Poll(); f != nil || err != nil {
			t.Errorf("%s: %v, %v", when, f, err)
		}
	}
	fails := func(when, want string) {
		t.Helper()
		nothing(when + ", at first sight")
		if f, err := s.Poll(); f != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q", when, f, err, want)
		}
		nothing(when + ", told before")
	}
	nothing("the same file")

	bob := string(users("bob").Text())
	put(bob[:20])
	nothing("half a file")
	put(bob)
	nothing("a file that has changed since the last look")
	if f, err := s.Poll(); err != nil || f == nil || !f.Has("bob") || f.Has("alice") {
		t.Errorf("the new file: %v, %v", f, err)
	}
	nothing("the new file again")

	put("nonsense")
	fails("a bad file", "users:1: no colon")
	put("")
	fails("an empty file", "is empty")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fails("no file", "no such file")
	put(bob)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	fails("a file open to others", "open to others")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	nothing("the good file, at first sight")
	if f, err := s.Poll(); err != nil || f == nil || !f.Has("bob") {
		t.Errorf("the good file: %v, %v", f, err)
	}
	put("# nobody\n")
	nothing("no users, at first sight")
	if f, err := s.Poll(); err != nil || f == nil || len(f.Users()) != 0 {
		t.Errorf("no users, as the comment says: %v, %v", f, err)
	}
	if err := os.WriteFile(path, []byte(alice), 0o600); err != nil {
		t.Fatal(err)
	}
	nothing("a young file, at first sight")
	if f, err := s.Poll(); err != nil || f == nil || !f.Has("alice") {
		t.Errorf("a young file: %v, %v", f, err)
	}
	nothing("a young file, read again")
}
