package acme

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// script writes a shell script.
func script(t *testing.T, lines string) string {
	if runtime.GOOS == "windows" {
		t.Skip("there is no shell for scripts on Windows")
	}
	path := filepath.Join(t.TempDir(), "dns")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+lines), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExec(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	t.Setenv("DNS_TOKEN", "kept")
	t.Setenv("SEALMQ_PASSPHRASE", "secret")
	s := execSolver{script(t, `echo "$# $1 $2 $3 $DNS_TOKEN $SEALMQ_PASSPHRASE." >>`+out+"\n"), time.Minute}
	c := challenge(DNS01, "a.example; touch x", "token")
	if err := errors.Join(s.Present(t.Context(), c), s.CleanUp(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	v := c.DNS01KeyAuthorization()
	if want := "3 present _acme-challenge.a.example; touch x " + v + " kept .\n3 cleanup _acme-challenge.a.example; touch x " + v + " kept .\n"; string(b) != want {
		t.Errorf("got %q, wanted %q", b, want)
	}
}

func TestExecFails(t *testing.T) {
	c := challenge(DNS01, "a.example", "token")
	for _, f := range []struct {
		name, lines string
		timeout     time.Duration
		want        string
	}{
		{"status", "echo no such zone >&2; exit 3", time.Minute, `exit status 3: it says "no such zone"`},
		{"much output", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 1", time.Minute, "line 2999"},
		{"a child that stays", "sleep 600 & sleep 600", 200 * time.Millisecond, "not done within"},
	} {
		began := time.Now()
		err := execSolver{script(t, f.lines), f.timeout}.Present(t.Context(), c)
		var e *execError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), f.want) || len(err.Error()) > 8*execNoise {
			t.Errorf("%s: %v", f.name, err)
		}
		if time.Since(began) > 5*time.Minute {
			t.Errorf("%s: took %v", f.name, time.Since(began))
		}
	}
	if err := (execSolver{"/nonexistent/program", time.Minute}).Present(t.Context(), c); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
