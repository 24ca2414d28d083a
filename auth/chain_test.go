package auth

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// users is a link that knows passwords, and a method "PLAIN" whose data are name:password.
type users struct {
	name      string // of the method of its principals
	passwords map[string]string
	down      bool
	asked     *[]string
}

func (u users) Authenticate(_ context.Context, c *Credentials) (*Principal, error) {
	if u.asked != nil {
		*u.asked = append(*u.asked, u.name)
	}
	if u.down {
		return nil, errors.New("connection refused")
	}
	password, ok := u.passwords[c.Username]
	if !ok || !c.HasPassword {
		return nil, ErrUndecided
	}
	if password != string(c.Password) {
		return nil, Wrong()
	}
	return &Principal{Name: c.Username, Method: u.name}, nil
}

func (u users) Exchange(method string, c *Credentials) Exchange {
	if method != "PLAIN" {
		return nil
	}
	return &plain{u: u}
}

type plain struct {
	u    users
	user string
}

func (x *plain) User() string { return x.user }

func (x *plain) Next(ctx context.Context, data []byte) ([]byte, *Principal, error) {
	if x.user == "" {
		x.user = string(data)
		return []byte("password?"), nil, nil
	}
	p, err := x.u.Authenticate(ctx, &Credentials{HasUsername: true, Username: x.user, HasPassword: true, Password: data})
	if errors.Is(err, ErrUndecided) {
		err = &Refusal{mqtt.NotAuthorized, "wrong"}
	}
	return nil, p, err
}

func secure() Peer { return Peer{Addr: "192.0.2.1:1000", Listener: "tls", Secure: true} }

func with(p Peer, user, password string) *Credentials {
	return &Credentials{Peer: p, HasUsername: user != "", Username: user, HasPassword: password != "", Password: []byte(password)}
}

// outcome is the principal as name/method, or the reason code of the refusal, or "error".
func outcome(p *Principal, err error) string {
	var no *Refusal
	switch {
	case err == nil && p != nil:
		return p.Name + "/" + p.Method
	case p != nil || err == nil:
		return "neither or both"
	case errors.As(err, &no):
		return no.Code.String()
	}
	return "error"
}

// The first link that decides has decided, and what nobody takes does not make its sender anonymous.
func TestChain(t *testing.T) {
	var asked []string
	file := Link{"password", users{name: "password", passwords: map[string]string{"alice": "a", "both": "1"}, asked: &asked}}
	other := Link{"ldap", users{name: "ldap", passwords: map[string]string{"bob": "b", "both": "2"}, asked: &asked}}
	down := Link{"http", users{name: "http", down: true, asked: &asked}}
	cert := Link{"certificate", ByCertificate{}}
	anyone := Link{"anonymous", Anonymous{}}
	open := secure()
	open.Anonymous = true
	clear := open
	clear.Secure = false
	device := secure()
	device.Cert = holder("x", "urn:mqtts:t:device:pump")
	enrol := secure()
	enrol.Enrolment = true
	const bad, no = "Bad User Name or Password", "Not authorized"
	for _, test := range []struct {
		name  string
		chain []Link
		c     *Credentials
		want  string
		asked string
	}{
		{"first", []Link{file, other}, with(secure(), "alice", "a"), "alice/password", "password"},
		{"second", []Link{file, other}, with(secure(), "bob", "b"), "bob/ldap", "password ldap"},
		{"refused by the first", []Link{file, other}, with(secure(), "both", "2"), bad, "password"},
		{"order", []Link{other, file}, with(secure(), "both", "2"), "both/ldap", "ldap"},
		{"nobody", []Link{file, other}, with(secure(), "eve", "e"), bad, "password ldap"},
		{"no password", []Link{file, other}, with(secure(), "alice", ""), no, "password ldap"},
		{"one that cannot tell", []Link{down, file}, with(secure(), "alice", "a"), "error", "http"},
		{"one that cannot tell, not needed", []Link{file, down}, with(secure(), "alice", "a"), "alice/password", "password"},
		{"certificate", []Link{cert, file}, with(device, "", ""), "pump/certificate", ""},
		{"certificate and password", []Link{cert, file}, with(device, "alice", "x"), "pump/certificate", ""},
		{"password before certificate", []Link{file, cert}, with(device, "alice", "x"), bad, "password"},
		{"password, then certificate", []Link{file, cert}, with(device, "eve", "x"), "pump/certificate", "password"},
		{"neither", []Link{cert, file}, with(secure(), "", ""), no, "password"},
		{"anonymous", []Link{cert, file, anyone}, with(open, "", ""), "/anonymous", "password"},
		{"anonymous with a name", []Link{cert, file, anyone}, with(open, "alice", ""), "/anonymous", "password"},
		{"anonymous with a wrong password", []Link{cert, file, anyone}, with(open, "eve", "x"), bad, "password"},
		{"anonymous with a password nobody looks at", []Link{cert, anyone}, with(open, "eve", "x"), "/anonymous", ""},
		{"anonymous where it is not allowed", []Link{cert, anyone}, with(secure(), "", ""), no, ""},
		{"anonymous in the clear", []Link{cert, anyone}, with(clear, "eve", ""), "/anonymous", ""},
		{"password in the clear", []Link{file, anyone}, with(clear, "alice", "a"), bad, ""},
		{"password in the clear that nobody looks at", []Link{anyone}, with(clear, "alice", "a"), bad, ""},
		{"enrolment", []Link{file, cert, anyone}, &Credentials{Peer: enrol, ClientID: "pump", HasPassword: true, HasUsername: true, Username: "alice", Password: []byte("a")},
			"/enrolment", ""},
		{"enrolment without a certificate link", []Link{file}, with(enrol, "alice", "a"), no, ""},
		{"empty", nil, with(open, "alice", "a"), no, ""},
		{"a link with no answer", []Link{{"broken", broken{}}}, with(open, "alice", "a"), "error", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked = nil
			ch := NewChain(test.chain, NewBackoff(BackoffConfig{}, nil), nil)
			if got := outcome(ch.Authenticate(t.Context(), test.c)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if got := strings.Join(asked, " "); got != test.asked {
				t.Errorf("asked %q, want %q", got, test.asked)
			}
		})
	}
}

type broken struct{}

func (broken) Authenticate(context.Context, *Credentials) (*Principal, error) { return nil, nil }

// What a refused client is told.
func TestChainSaysWhatIsMissing(t *testing.T) {
	ch := NewChain([]Link{{"certificate", ByCertificate{}}, {"password", users{}}, {"anonymous", Anonymous{}}}, nil, nil)
	_, err := ch.Authenticate(t.Context(), with(secure(), "alice", ""))
	if want := "this listener wants to know who you are, by: certificate, password; a user name alone proves nothing"; !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v", err)
	}
	if _, err := NewChain(nil, nil, nil).Authenticate(t.Context(), with(secure(), "", "")); !strings.HasSuffix(err.Error(), "this listener lets nobody in") {
		t.Errorf("got %v", err)
	}
}

// converse runs a method to its end.
func converse(t *testing.T, ch Enhanced, method string, p Peer, data ...string) string {
	x := ch.Exchange(method, &Credentials{Peer: p})
	if x == nil {
		return "no such method"
	}
	for _, d := range data {
		_, p, err := x.Next(t.Context(), []byte(d))
		if p != nil || err != nil {
			return outcome(p, err)
		}
	}
	return "not over"
}

// Methods: whose they are, and when none is spoken.
func TestChainExchange(t *testing.T) {
	file := Link{"scram", users{name: "password", passwords: map[string]string{"alice": "a"}}}
	cert := Link{"certificate", ByCertificate{}}
	device := secure()
	device.Cert = holder("x", "urn:mqtts:t:device:pump")
	clear := secure()
	clear.Secure = false
	enrol := secure()
	enrol.Enrolment = true
	for _, test := range []struct {
		name   string
		chain  []Link
		method string
		peer   Peer
		data   string
		want   string
	}{
		{"right", []Link{cert, file}, "PLAIN", secure(), "alice a", "alice/password"},
		{"wrong", []Link{cert, file}, "PLAIN", secure(), "alice b", "Bad User Name or Password"},
		{"half", []Link{cert, file}, "PLAIN", secure(), "alice", "not over"},
		{"unknown method", []Link{cert, file}, "OTHER", secure(), "alice a", "no such method"},
		{"none speaks", []Link{cert}, "PLAIN", secure(), "alice a", "no such method"},
		{"certificate before", []Link{cert, file}, "PLAIN", device, "alice a", "Bad authentication method"},
		{"certificate behind", []Link{file, cert}, "PLAIN", device, "alice a", "alice/password"},
		{"in the clear", []Link{file}, "PLAIN", clear, "alice a", "Not authorized"},
		{"enrolment", []Link{file}, "PLAIN", enrol, "alice a", "no such method"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := converse(t, NewChain(test.chain, NewBackoff(BackoffConfig{}, nil), nil), test.method, test.peer, strings.Fields(test.data)...); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// Guessing is slowed down over all links and methods, and only guessing.
func TestChainBackoff(t *testing.T) {
	now := time.Unix(1e9, 0)
	var log bytes.Buffer
	ch := NewChain([]Link{
		{"certificate", ByCertificate{Devices: admission{err: errors.New("revoked")}}},
		{"password", users{name: "password", passwords: map[string]string{"alice": "a", "bob": "b"}}},
	}, NewBackoff(BackoffConfig{Free: 2, Longest: time.Minute}, func() time.Time { return now }), slog.New(slog.NewTextHandler(&log, nil)))
	try := func(user, password string) string {
		return outcome(ch.Authenticate(t.Context(), with(secure(), user, password)))
	}
	const bad, later = "Bad User Name or Password", "Connection rate exceeded"
	device := secure()
	device.Cert = &x509.Certificate{}
	for range 5 {
		try("alice", "same") // counts once
		if got := outcome(ch.Authenticate(t.Context(), with(device, "alice", "x"))); got != "Not authorized" {
			t.Errorf("revoked: %s", got)
		}
	}
	if got := converse(t, ch, "PLAIN", secure(), "alice", "two"); got != bad {
		t.Errorf("second failure: %s", got)
	}
	if got := try("alice", "three\nlevel=ERROR"); got != bad {
		t.Errorf("third failure: %s", got)
	}
	if got := try("alice", "a"); got != later {
		t.Errorf("right, but too early: %s", got)
	}
	if got := converse(t, ch, "PLAIN", secure(), "alice", "a"); got != later {
		t.Errorf("by a method, too early: %s", got)
	}
	if got := try("bob", "b"); got != "bob/password" {
		t.Errorf("another user: %s", got)
	}
	now = now.Add(time.Second)
	if got := try("alice", "a"); got != "alice/password" {
		t.Errorf("after the time: %s", got)
	}
	if got := try("alice", "four"); got != bad {
		t.Errorf("a failure after success: %s", got)
	}
	if got := try("alice", "a"); got != "alice/password" {
		t.Errorf("success forgets failures: %s", got)
	}
	text := log.String()
	for _, want := range []string{
		`level=INFO msg="authentication refused" by=password user=alice peer=192.0.2.1:1000 listener=tls reason="Bad User Name or Password"`,
		`level=WARN msg="authentication slowed down after failures" by=password user=alice peer=192.0.2.1:1000 listener=tls wait=1s`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the log has no %s:\n%s", want, text)
		}
	}
	if strings.Contains(text, "three") {
		t.Error("the log shows passwords")
	}
}

// queued is users behind a queue: each waits for its turn.
type queued struct {
	users
	waiting, turn chan struct{}
}

func (q queued) Authenticate(ctx context.Context, c *Credentials) (*Principal, error) {
	q.waiting <- struct{}{}
	<-q.turn
	if err := again(ctx); err != nil {
		return nil, err
	}
	return q.users.Authenticate(ctx, c)
}

// Guesses that wait together are not all made when their turn comes.
func TestCrowdOfGuesses(t *testing.T) {
	const crowd = 20
	q := queued{users{name: "password", passwords: map[string]string{"alice": "a"}}, make(chan struct{}, crowd), make(chan struct{})}
	ch := NewChain([]Link{{"password", q}}, NewBackoff(BackoffConfig{Free: 3}, func() time.Time { return time.Unix(1e9, 0) }), nil)
	outcomes := make(chan string, crowd)
	for i := range crowd {
		go func() {
			outcomes <- outcome(ch.Authenticate(context.Background(), with(secure(), "alice", strings.Repeat("x", i+1))))
		}()
	}
	for range crowd {
		<-q.waiting
	}
	made := 0
	for range crowd {
		q.turn <- struct{}{}
		if got := <-outcomes; got == "Bad User Name or Password" {
			made++
		} else if got != "Connection rate exceeded" {
			t.Errorf("got %s", got)
		}
	}
	if made != 4 {
		t.Errorf("%d guesses were made", made)
	}
	if err := again(t.Context()); err != nil {
		t.Errorf("without a chain: %v", err)
	}
}

// signed is users whose proofs cannot be guessed.
type signed struct{ users }

func (signed) Unguessable() {}

// Refused tokens make nobody wait, and do not make their senders anonymous.
func TestChainOfTokens(t *testing.T) {
	ch := NewChain([]Link{{"jwt", signed{users{name: "jwt", passwords: map[string]string{"alice": "a"}}}}, {"anonymous", Anonymous{}}},
		NewBackoff(BackoffConfig{Free: 1}, nil), nil)
	open := secure()
	open.Anonymous = true
	for i := range 5 {
		if got := outcome(ch.Authenticate(t.Context(), with(open, "alice", strings.Repeat("x", i+1)))); got != "Bad User Name or Password" {
			t.Errorf("refused: %s", got)
		}
		if got := converse(t, ch, "PLAIN", open, "alice", "x"); got != "Bad User Name or Password" {
			t.Errorf("refused by its method: %s", got)
		}
		if got := outcome(ch.Authenticate(t.Context(), with(open, "bob", strings.Repeat("x", i+1)))); got != "Bad User Name or Password" {
			t.Errorf("no token: %s", got)
		}
	}
	if got := outcome(ch.Authenticate(t.Context(), with(open, "alice", "a"))); got != "alice/jwt" {
		t.Errorf("good: %s", got)
	}
}

func TestLogIsBounded(t *testing.T) {
	if s := clip(strings.Repeat("ä", 1000)); len(s) > 140 || !strings.HasSuffix(s, "ä…") {
		t.Errorf("%d bytes, %q", len(s), s)
	}
}

// Every listener has its own chain, and one without has none.
func TestListeners(t *testing.T) {
	var l Listeners
	if got := outcome(l.Authenticate(t.Context(), with(secure(), "a", "b"))); got != "error" || l.Exchange("PLAIN", with(secure(), "", "")) != nil {
		t.Errorf("without any chain: %s", got)
	}
	l.Set(map[string]*Chain{"tls": NewChain([]Link{{"password", users{name: "password", passwords: map[string]string{"alice": "a"}}}}, nil, nil)})
	if got := outcome(l.Authenticate(t.Context(), with(secure(), "alice", "a"))); got != "alice/password" {
		t.Error(got)
	}
	if got := converse(t, &l, "PLAIN", secure(), "alice", "a"); got != "alice/password" {
		t.Error(got)
	}
	other := secure()
	other.Listener = "other"
	if got := outcome(l.Authenticate(t.Context(), with(other, "alice", "a"))); got != "error" || l.Exchange("PLAIN", with(other, "", "")) != nil {
		t.Errorf("another listener: %s", got)
	}
}

// What no link has decided has no name of one in the log.
func TestChainLogsNobody(t *testing.T) {
	var log bytes.Buffer
	ch := NewChain([]Link{{"certificate", ByCertificate{}}}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	if _, err := ch.Authenticate(t.Context(), &Credentials{Peer: Peer{Secure: true}, Username: "eve", HasUsername: true}); err == nil {
		t.Fatal("somebody unknown got in")
	}
	if text := log.String(); !strings.Contains(text, `msg="authentication refused" user=eve`) || strings.Contains(text, "by=") {
		t.Error(text)
	}
}
