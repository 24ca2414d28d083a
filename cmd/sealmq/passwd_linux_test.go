package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/auth/password"
)

// At a terminal a password is asked for twice, and not shown.
func TestPasswdAsks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwords")
	cmd, terminal := atTerminal(t)
	shown := types(t, terminal, "correct horse", "correct horse")
	f := passwdFlags{create: true}
	if err := f.change(cmd, path, "alice"); err != nil {
		t.Fatal(err)
	}
	if s := shown(); strings.Contains(s, "horse") || !strings.Contains(s, "Password of alice: ") || !strings.Contains(s, "Once more: ") {
		t.Errorf("shown: %q", s)
	}
	users, err := password.Load(path)
	if err != nil || schemeOf(users, "alice") != password.Argon2id {
		t.Errorf("%v %v", users, err)
	}
	types(t, terminal, "one", "two")
	if err := (&passwdFlags{}).change(cmd, path, "alice"); exitCode(err) != exitUsage {
		t.Errorf("two that differ: %v", err)
	}
	back, err := password.Load(path)
	if err != nil || string(back.Text()) != string(users.Text()) {
		t.Errorf("the file has changed: %v", err)
	}
}
