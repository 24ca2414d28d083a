package password

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

func credentials(user, password string) *auth.Credentials {
	return &auth.Credentials{Peer: auth.Peer{Secure: true}, HasUsername: true, Username: user, HasPassword: true, Password: []byte(password)}
}

func TestAuthenticate(t *testing.T) {
	f := parse(t, foreign)
	if err := f.Set("dave", "pass", SCRAM, least); err != nil {
		t.Fatal(err)
	}
	a := NewAuthenticator(Config{}, f)
	for user, password := range map[string]string{"alice": "secret", "bob": "hunter2", "carol": "secret", "dave": "pass"} {
		p, err := a.Authenticate(t.Context(), credentials(user, password))
		if err != nil || p.Name != user || p.Method != "password" || p.Bound || !p.Until.IsZero() {
			t.Errorf("%s: %+v, %v", user, p, err)
		}
		var no *auth.Refusal
		if p, err := a.Authenticate(t.Context(), credentials(user, password+"x")); p != nil || !errors.As(err, &no) || no.Code != mqtt.BadUserNameOrPassword {
			t.Errorf("%s with a wrong password: %+v, %v", user, p, err)
		}
	}
	alone := credentials("alice", "")
	alone.HasPassword = false
	token := credentials("", "secret")
	token.HasUsername = false
	for name, c := range map[string]*auth.Credentials{
		"unknown": credentials("mallory", "secret"), "another case": credentials("Alice", "secret"), "none": {Peer: auth.Peer{Secure: true}},
		"name alone": alone, "password alone": token, "too long": credentials("alice", string(make([]byte, 1025))),
	} {
		if p, err := a.Authenticate(t.Context(), c); p != nil || !errors.Is(err, auth.ErrUndecided) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	plain := credentials("alice", "secret")
	plain.Peer.Secure = false
	var no *auth.Refusal
	if p, err := a.Authenticate(t.Context(), plain); p != nil || !errors.As(err, &no) {
		t.Errorf("without TLS: %+v, %v", p, err)
	}
	a.Use(New())
	if p, err := a.Authenticate(t.Context(), credentials("alice", "secret")); p != nil || !errors.Is(err, auth.ErrUndecided) {
		t.Errorf("with an empty file: %+v, %v", p, err)
	}
}

// Whoever is not in the file costs the work of one who is: always the same one, so that a name tells nothing.
func TestUnknownUsersCostWork(t *testing.T) {
	f := parse(t, foreign)
	met := map[*hash]bool{}
	for _, user := range []string{"m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x", "y", "z", "aa", "bb", "cc", "dd", "ee", "ff"} {
		one, known := f.lookup(user)
		two, _ := f.lookup(user)
		if known || one != two {
			t.Errorf("%s: known %v", user, known)
		}
		met[one] = true
	}
	if len(met) < 2 {
		t.Error("all unknown users cost the same, those of the file do not")
	}
	if h, known := New().lookup("x"); known || h.scheme != Argon2id || h.memory != 12<<10 {
		t.Errorf("in an empty file: %+v, %v", h, known)
	}
}

// No more checks than allowed at a time.
func TestChecksAreBounded(t *testing.T) {
	a := NewAuthenticator(Config{AtOnce: 1}, parse(t, foreign))
	if err := a.turns.Take(t.Context()); err != nil { // a check that takes its time
		t.Fatal(err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	var no *auth.Refusal
	if _, err := a.Authenticate(late, credentials("alice", "secret")); !errors.As(err, &no) || no.Code != mqtt.ServerBusy {
		t.Errorf("late: %v", err)
	}
	a.turns.Leave()
	if _, err := a.Authenticate(t.Context(), credentials("alice", "secret")); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	for n, good := range map[int]bool{0: true, 1: true, 64: true, 65: false, -1: false} {
		if err := (Config{AtOnce: n}).Validate(); (err == nil) != good {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// What a check of a password costs that was set with the defaults.
func BenchmarkCheck(b *testing.B) {
	for _, s := range []Scheme{Argon2id, SCRAM} {
		b.Run(string(s), func(b *testing.B) {
			f := New()
			if err := f.Set("alice", "secret", s, Cost{}); err != nil {
				b.Fatal(err)
			}
			a := NewAuthenticator(Config{}, f)
			c := credentials("alice", "secret")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Authenticate(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
