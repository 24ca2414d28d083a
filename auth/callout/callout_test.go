package callout

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a web service and an authenticator that asks it.
type service struct {
	*Authenticator
	asked  atomic.Int32
	last   atomic.Pointer[http.Request]
	body   atomic.Pointer[[]byte]
	answer func(w http.ResponseWriter, body string)
}

func serve(t *testing.T, c Config, answer func(w http.ResponseWriter, body string)) *service {
	s := &service{answer: answer}
	h := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.asked.Add(1)
		s.last.Store(r)
		s.body.Store(&b)
		s.answer(w, string(b))
	}))
	t.Cleanup(h.Close)
	c.URL, c.Private, c.CAFile = h.URL+"/auth", true, filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(c.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	s.Authenticator = a
	return s
}

func text(s string) func(http.ResponseWriter, string) {
	return func(w http.ResponseWriter, _ string) { io.WriteString(w, s) }
}

func client(user, password string) *auth.Credentials {
	return &auth.Credentials{
		Peer:    auth.Peer{Addr: "192.0.2.1:4711", Listener: "tls", Transport: "tls", Secure: true},
		Version: mqtt.V5, ClientID: "c1", HasUsername: user != "", Username: user, HasPassword: true, Password: []byte(password),
	}
}

// The request, byte for byte as documented.
func TestRequest(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, Config{TokenFile: token}, text(`{"result":"allow"}`))
	c := client("alice", `p"w`)
	c.Peer.Cert = &x509.Certificate{Raw: []byte("x"), SerialNumber: big.NewInt(255), Subject: pkix.Name{CommonName: "pump", Organization: []string{"O"}}}
	if _, err := s.Authenticate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r := s.last.Load()
	if r.Method != http.MethodPost || r.URL.Path != "/auth" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Authorization") != "Bearer s3cret" {
		t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
	}
	var got, want map[string]any
	if err := json.Unmarshal(*s.body.Load(), &got); err != nil {
		t.Fatal(err)
	}
	json.Unmarshal([]byte(`{"username":"alice","password":"p\"w","clientid":"c1","peerhost":"192.0.2.1","proto_name":"MQTT","proto_ver":5,
		"listener":"tls","transport":"tls","cert_common_name":"pump","cert_subject":"CN=pump,O=O","cert_serial":"ff",
		"cert_sha256":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}`), &want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What answers mean.
func TestAnswers(t *testing.T) {
	until := time.Now().Add(time.Hour).Unix()
	for _, test := range []struct {
		status int
		body   string
		want   string
		groups []string
		until  int64
	}{
		{204, "", "allow", nil, 0},
		{200, `{"result":"allow"}`, "allow", nil, 0},
		{200, `{"result":"allow","is_superuser":true,"groups":["ops","ops"],"client_attrs":{"site":"berlin"}}`, "allow", []string{"ops", "site=berlin", "superuser"}, 0},
		{200, `{"result":"allow","is_superuser":false,"expire_at":` + big.NewInt(until).String() + `}`, "allow", nil, until},
		{200, `{"result":"allow","expire_at":1}`, "deny", nil, 0},
		{200, `{"result":"allow","expire_at":-9223372036854775808}`, "deny", nil, 0},
		{200, `{"result":"deny"}`, "deny", nil, 0},
		{200, `{"result":"deny","is_superuser":true}`, "deny", nil, 0},
		{200, `{"result":"ignore"}`, "ignore", nil, 0},
		{200, `{"result":"maybe"}`, "error", nil, 0},
		{200, `{"result":true}`, "error", nil, 0},
		{200, `{"allow":true}`, "error", nil, 0},
		{200, `{"result":"allow"}{"result":"deny"}`, "error", nil, 0},
		{200, `{"result":"allow","groups":[""]}`, "error", nil, 0},
		{200, `{"result":"allow","groups":["` + strings.Repeat("x", 300) + `"]}`, "error", nil, 0},
		{200, `null`, "error", nil, 0},
		{200, `[]`, "error", nil, 0},
		{200, `allow`, "error", nil, 0},
		{200, ``, "error", nil, 0},
		{200, strings.Repeat(" ", maxAnswer) + `{"result":"allow"}`, "error", nil, 0},
		{201, `{"result":"allow"}`, "error", nil, 0},
		{302, `{"result":"allow"}`, "error", nil, 0},
		{401, `{"result":"allow"}`, "error", nil, 0},
		{500, `{"result":"allow"}`, "error", nil, 0},
	} {
		s := serve(t, Config{}, func(w http.ResponseWriter, _ string) {
			w.WriteHeader(test.status)
			io.WriteString(w, test.body)
		})
		p, err := s.Authenticate(t.Context(), client("alice", "x"))
		if got := outcome(p, err); got != test.want {
			t.Errorf("%d %.60s: %s, %v, want %s", test.status, test.body, got, err, test.want)
			continue
		}
		if p == nil {
			continue
		}
		if p.Name != "alice" || p.Method != "http" || !cmp.Equal(p.Groups, test.groups) || test.until != 0 && p.Until.Unix() != test.until || test.until == 0 && !p.Until.IsZero() {
			t.Errorf("%s: %+v", test.body, p)
		}
	}
}

func outcome(p *auth.Principal, err error) string {
	var no *auth.Refusal
	switch {
	case p != nil && err == nil:
		return "allow"
	case p != nil || err == nil:
		return "neither or both"
	case errors.Is(err, auth.ErrUndecided):
		return "ignore"
	case errors.As(err, &no) && no.Code == mqtt.BadUserNameOrPassword:
		return "deny"
	case errors.As(err, &no):
		return no.Code.String()
	}
	return "error"
}

// About whom the service is not asked, and under which name clients without a user name are.
func TestWhoIsAsked(t *testing.T) {
	s := serve(t, Config{}, text(`{"result":"allow"}`))
	nothing := client("", "")
	nothing.HasPassword = false
	clear := client("alice", "x")
	clear.Peer.Secure = false
	for name, test := range map[string]struct {
		c    *auth.Credentials
		want string
	}{
		"nothing": {nothing, "ignore"}, "in the clear": {clear, "deny"}, "not UTF-8": {client("alice", "\xff"), "ignore"},
		"long": {client(strings.Repeat("a", 300), "x"), "ignore"},
	} {
		if got := outcome(s.Authenticate(t.Context(), test.c)); got != test.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if n := s.asked.Load(); n != 0 {
		t.Errorf("asked %d times", n)
	}
	if p, err := s.Authenticate(t.Context(), client("", "token")); err != nil || p.Name != "c1" {
		t.Errorf("%+v, %v", p, err)
	}
}

// Decisions are kept for their time, by everything that was asked.
func TestKept(t *testing.T) {
	result := "allow"
	s := serve(t, Config{KeepAllowed: time.Minute, KeepDenied: time.Second}, func(w http.ResponseWriter, body string) {
		io.WriteString(w, `{"result":"`+result+`"}`)
	})
	now := time.Unix(1e9, 0)
	s.now = func() time.Time { return now }
	try := func(want string, asked int32, c *auth.Credentials) {
		t.Helper()
		before := s.asked.Load()
		if got := outcome(s.Authenticate(t.Context(), c)); got != want || s.asked.Load()-before != asked {
			t.Errorf("%s, asked %d times; want %s and %d", got, s.asked.Load()-before, want, asked)
		}
	}
	try("allow", 1, client("alice", "x"))
	port := client("alice", "x")
	port.Peer.Addr = "192.0.2.1:9999"
	try("allow", 0, port)
	try("allow", 1, client("alice", "y"))
	other := client("alice", "x")
	other.ClientID = "c2"
	try("allow", 1, other)
	other.Peer.Addr = "192.0.2.2:1"
	try("allow", 1, other)
	result = "deny"
	now = now.Add(59 * time.Second)
	try("allow", 0, client("alice", "x"))
	now = now.Add(time.Second)
	try("deny", 1, client("alice", "x"))
	result = "allow"
	try("deny", 0, client("alice", "x"))
	now = now.Add(time.Second)
	try("allow", 1, client("alice", "x"))

	off := serve(t, Config{KeepAllowed: -1, KeepDenied: -1}, text(`{"result":"allow"}`))
	for range 2 {
		off.Authenticate(t.Context(), client("alice", "x"))
	}
	if n := off.asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	ends := serve(t, Config{KeepAllowed: time.Hour}, func(w http.ResponseWriter, _ string) { io.WriteString(w, `{"result":"allow","expire_at":1000000010}`) })
	ends.now = s.now
	now = time.Unix(1e9, 0)
	if p, err := ends.Authenticate(t.Context(), client("alice", "x")); err != nil || p.Until.Unix() != 1000000010 {
		t.Errorf("%+v, %v", p, err)
	}
	now = now.Add(10 * time.Second)
	if got := outcome(ends.Authenticate(t.Context(), client("alice", "x"))); got != "deny" {
		t.Errorf("kept after its end: %s", got)
	}
}

func TestKeptIsBounded(t *testing.T) {
	k := kept{entries: map[[32]byte]decision{}}
	now := time.Unix(1e9, 0)
	for i := range maxKept + 1000 {
		k.put([32]byte{byte(i), byte(i >> 8), byte(i >> 16)}, decision{kept: now.Add(time.Duration(i) * time.Millisecond)}, now)
	}
	if n := len(k.entries); n > maxKept || n < maxKept-8 {
		t.Errorf("%d entries", n)
	}
}

// No more requests at once than allowed; a service that does not answer is an error, not a refusal.
func TestBounds(t *testing.T) {
	release := make(chan struct{})
	var once sync.Once
	s := serve(t, Config{AtOnce: 1}, func(w http.ResponseWriter, _ string) { <-release; w.WriteHeader(204) })
	free := func() { once.Do(func() { close(release) }) }
	defer free()
	var done sync.WaitGroup
	for _, user := range []string{"a", "b"} {
		done.Go(func() {
			if got := outcome(s.Authenticate(t.Context(), client(user, "x"))); got != "allow" {
				t.Errorf("%s: %s", user, got)
			}
		})
	}
	for s.turns.Waiting() == 0 || s.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if n := s.asked.Load(); n != 1 {
		t.Errorf("%d requests at once", n)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	if got := outcome(s.Authenticate(late, client("c", "x"))); got != "Server busy" {
		t.Errorf("no turn in time: %s", got)
	}
	cancel()
	free()
	done.Wait()

	hangs := make(chan struct{})
	slow := serve(t, Config{Timeout: 100 * time.Millisecond}, func(http.ResponseWriter, string) { <-hangs })
	if got := outcome(slow.Authenticate(t.Context(), client("a", "x"))); got != "error" {
		t.Errorf("a service that does not answer: %s", got)
	}
	close(hangs)
}

func TestConfig(t *testing.T) {
	good := Config{URL: "https://auth.example/"}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for key, c := range map[string]Config{
		"url": {}, "timeout": {URL: good.URL, Timeout: time.Hour}, "keep_allowed": {URL: good.URL, KeepAllowed: 25 * time.Hour},
		"keep_denied": {URL: good.URL, KeepDenied: 25 * time.Hour}, "requests_at_once": {URL: good.URL, AtOnce: 1001},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%s: %v", key, err)
		}
	}
	if _, err := New(Config{URL: good.URL, TokenFile: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("no URL is taken")
	}
}

// Answers allow only what they say.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"result":"allow","groups":["a"],"is_superuser":true,"client_attrs":{"a":"b"},"expire_at":9999999999999}`))
	f.Add(204, []byte{})
	now := time.Unix(1e9, 0)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		d, err := parse(status, body, now)
		if err != nil {
			return
		}
		if d.result == "allow" && status != 204 && (status != 200 || len(body) < len(`{"result":"allow"}`)) {
			t.Errorf("allowed by %d %q", status, body)
		}
		if len(d.groups) > maxGroups || !d.until.IsZero() && !d.until.After(now) {
			t.Errorf("%+v", d)
		}
	})
}
