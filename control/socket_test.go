//go:build unix

package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func options(data string) Options {
	p := &parts{}
	return Options{Data: data, Broker: testBroker{p}, Store: testStore{p}}
}

func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func TestSocketIsTheOwners(t *testing.T) {
	data := shortDir(t)
	s, err := Serve(options(data))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, SocketName)
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}

	// One folder, one broker; the message names the other.
	_, err = Serve(options(data))
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) || hint(err) == "" {
		t.Errorf("second server: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
	if _, err := Dial(data); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dial after the end: %v", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	data := shortDir(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(data, SocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as after kill -9
	if _, err := Dial(data); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dial of an ended broker: %v", err)
	}
	s, err := Serve(options(data))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestSocketPaths(t *testing.T) {
	data := shortDir(t)
	if err := os.WriteFile(filepath.Join(data, SocketName), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Serve(options(data)); err == nil || hint(err) != "move it away" {
		t.Errorf("a file in its place: %v", err)
	}
	if b, _ := os.ReadFile(filepath.Join(data, SocketName)); string(b) != "mine" {
		t.Error("the file is gone")
	}

	long := filepath.Join(shortDir(t), strings.Repeat("d", maxSocketPath))
	for _, err := range []error{func() error { _, err := Serve(options(long)); return err }(), func() error { _, err := Dial(long); return err }()} {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the system takes %d", maxSocketPath)) || hint(err) == "" {
			t.Errorf("long path: %v", err)
		}
	}

	// The longest one works.
	base := shortDir(t)
	longest := filepath.Join(base, strings.Repeat("d", maxSocketPath-len(base)-len(SocketName)-2))
	if err := os.Mkdir(longest, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Serve(options(longest))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := Dial(longest)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()

	if _, err := Dial(filepath.Join(data, "missing")); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := Serve(Options{Data: data}); err == nil {
		t.Error("a server of nothing")
	}
}
