package sealmq

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/config"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
)

// usersFile writes a password file with these users, each with the password secret.
func usersFile(t *testing.T, path string, names ...string) {
	t.Helper()
	f := password.New()
	for _, n := range names {
		if err := f.Set(n, "secret", password.SCRAM, password.Cost{Iterations: 4096}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Write(path); err != nil {
		t.Fatal(err)
	}
}

func parsed(t *testing.T, dir, text string) Config {
	t.Helper()
	cfg, err := config.Parse(filepath.Join(dir, "sealmq.toml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

const byPassword = `
[auth.password]
file = "users"
[[listener]]
name = "tls"
client_certificates = "optional"
auth = ["certificate", "password", "scram"]
`

// What is put in force and what is not: by reload, and by changes of the password file.
func TestAuthenticationChanges(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	usersFile(t, users, "alice", "bob")
	records := memory.New()
	defer records.Close()
	if _, err := records.Load(recordsOnly{}); err != nil {
		t.Fatal(err)
	}
	open := func() (store.Store, error) { return records, nil }
	reviewed := 0
	a := newAuthentication(nil, slog.New(slog.DiscardHandler), func() { reviewed++ })
	defer func() { a.close() }()
	plan := func(text string) error {
		t.Helper()
		w, err := a.plan(parsed(t, dir, text), open)
		if err == nil {
			a.use(w)
		}
		return err
	}
	try := func(user, pass string) mqtt.ReasonCode {
		t.Helper()
		_, err := a.chains.Authenticate(t.Context(), &auth.Credentials{
			Peer: auth.Peer{Listener: "tls", Secure: true, Addr: "192.0.2.1:5000"}, HasUsername: true, Username: user, HasPassword: true, Password: []byte(pass)})
		var no *auth.Refusal
		if errors.As(err, &no) {
			return no.Code
		}
		if err != nil {
			t.Fatal(err)
		}
		return mqtt.Success
	}
	stands := func(name string) bool {
		return a.standing(&auth.Principal{Name: name, Method: "password"}).Refused == 0
	}
	if !stands("anybody") {
		t.Error("an authenticator of the embedding program is overruled")
	}
	if err := plan(byPassword); err != nil {
		t.Fatal(err)
	}
	if try("alice", "secret") != mqtt.Success || try("alice", "wrong") != mqtt.BadUserNameOrPassword || !stands("alice") || stands("eve") {
		t.Error("users are not those of the file")
	}
	if st := a.standing(&auth.Principal{Name: "eve", Method: "jwt"}); st.Refused != 0 {
		t.Errorf("the file judges others: %+v", st)
	}

	// A reload with anything wrong changes nothing.
	first := a.current.Load()
	if err := plan(byPassword + "[auth.jwt]\nkeys = [\"missing.pem\"]\naudience = [\"a\"]\n[[listener]]\naddress = \":1\"\nclient_certificates = \"none\"\nauth = [\"jwt\"]\n"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing key file: %v", err)
	}
	if err := os.WriteFile(users, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := plan(byPassword); err == nil || !strings.Contains(err.Error(), "users:1: no colon") {
		t.Errorf("a bad file: %v", err)
	}
	if a.current.Load() != first || try("bob", "secret") != mqtt.Success || reviewed != 0 {
		t.Error("a reload that failed has changed something")
	}

	// The same while it runs, and somebody is told of it until it is good again.
	a.look()
	a.look()
	if all := a.Trouble(); len(all) != 1 || !strings.Contains(all[0], "users from before stay") {
		t.Errorf("trouble: %q", all)
	}
	usersFile(t, users, "alice")
	a.look()
	a.look()
	if all := a.Trouble(); len(all) != 0 || reviewed != 1 || stands("bob") || !stands("alice") {
		t.Errorf("after the file is good: trouble %q, %d reviews", all, reviewed)
	}

	// Who guesses does not begin anew with a reload that says nothing about it.
	backoff := a.current.Load().backoff
	if err := plan(byPassword); err != nil || a.current.Load().backoff != backoff || reviewed != 2 {
		t.Errorf("reload: %v, %d reviews", err, reviewed)
	}
	if err := plan(byPassword + "[auth.backoff]\nfree_failures = 1\n"); err != nil || a.current.Load().backoff == backoff {
		t.Errorf("reload with another back-off: %v", err)
	}

	// What has been made up about unknown users stays the same in the next run.
	next := newAuthentication(nil, slog.New(slog.DiscardHandler), func() {})
	w, err := next.plan(parsed(t, dir, byPassword), open)
	if err != nil {
		t.Fatal(err)
	}
	w.close()
	if len(a.secret) != 32 || !bytes.Equal(a.secret, next.secret) {
		t.Errorf("secrets %x and %x", a.secret, next.secret)
	}
	if err := plan("[[listener]]\nname = \"tls\"\n"); err != nil || stands("alice") {
		t.Errorf("without passwords their users still stand: %v", err)
	}
}

// run looks at the file by itself, and ends.
func TestAuthenticationRuns(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	usersFile(t, filepath.Join(dir, "users"), "alice")
	changed := make(chan struct{}, 1)
	a := newAuthentication(nil, slog.New(slog.DiscardHandler), func() { changed <- struct{}{} })
	w, err := a.plan(parsed(t, dir, strings.Replace(byPassword, `, "scram"`, "", 1)), nil)
	if err != nil {
		t.Fatal(err)
	}
	a.use(w)
	defer a.close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		a.run(ctx)
		close(done)
	}()
	usersFile(t, filepath.Join(dir, "users"), "bob")
	select {
	case <-changed:
	case <-time.After(time.Minute):
		t.Error("the file has changed, and nobody looked")
	}
	if !a.current.Load().users.File().Has("bob") {
		t.Error("the file from before is in use")
	}
	cancel()
	<-done
}
