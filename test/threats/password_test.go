package threats

import (
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/mqtt"
)

// withPasswords are listeners that take passwords: over TLS, and one in the clear
// that must not.
const withPasswords = jsonLog + `[auth.password]
file = "passwords"
[[listener]]
name = "tls"
address = "127.0.0.1:0"
client_certificates = "none"
auth = ["password"]
[[listener]]
name = "both"
address = "127.0.0.1:0"
client_certificates = "none"
auth = ["password", "anonymous"]
anonymous = true
` + plain

// userPolicy gives each user a room.
const userPolicy = "policy everybody { allow publish, subscribe room/${user}/# }\n"

// cheap is a line of a password file whose check is little work.
func cheap(user, secret string) string {
	salt := []byte("twelve bytes")
	sum := sha512.Sum512(append([]byte(secret), salt...))
	return fmt.Sprintf("%s:$6$%s$%s\n", user, base64.StdEncoding.EncodeToString(salt), base64.StdEncoding.EncodeToString(sum[:]))
}

func login(user, secret string) *mqtt.Connect {
	p := hello(user)
	p.HasUsername, p.Username = true, []byte(user)
	p.HasPassword, p.Password = true, []byte(secret)
	return p
}

// Mosquitto took a line of its password file without a password for a user who
// needs none.
func TestCVE_2018_12551(t *testing.T) {
	t.Parallel()
	h := newHome(t, "policy = \"policy\"\n"+withPasswords)
	h.write(t, "policy", userPolicy)
	broken := []string{"alice", "alice:", "alice:\n:", ":", "alice:plain", "alice:$6$", "alice:$6$$", "alice:$6$AAAA", "alice:$7$1$$", "alice:$7$0$AAAA$AAAA",
		"alice:$argon2id$v=19$m=0,t=0,p=0$$", "alice:$9$AAAA$AAAA", "\x00"}
	for _, line := range []string{broken[0], broken[1]} {
		h.write(t, "passwords", cheap("bob", "bob's")+line+"\n")
		if out, err := h.run(t, "serve", "--config", "sealmq.toml"); err == nil || !strings.Contains(out, "passwords:2") {
			t.Errorf("with the line %q: %v\n%s", line, err, out)
		}
	}
	h.write(t, "passwords", cheap("bob", "bob's"))
	b := h.start(t)
	b.connect(t, "tls", nil, login("bob", "bob's")).disconnect()
	for _, line := range broken {
		h.write(t, "passwords", line+"\n")
		b.reload(t, "the old configuration stays in force")
	}
	for _, secret := range []string{"", "alice", "plain", "$6$", "\x00"} {
		if code := b.refused(t, "tls", nil, login("alice", secret)); code != mqtt.BadUserNameOrPassword {
			t.Errorf("alice with %q: %v", secret, code)
		}
	}
	for _, p := range []*mqtt.Connect{hello("alice"), {Version: mqtt.V5, CleanStart: true, HasUsername: true, Username: []byte("alice")}} {
		b.refused(t, "tls", nil, p)
	}
	b.connect(t, "tls", nil, login("bob", "bob's")).alive()
}

// A password that would travel in the clear is refused unlooked at, whether it is
// right or wrong, and no password is ever in the log.
func TestPasswordsInTheClear(t *testing.T) {
	t.Parallel()
	h := newHome(t, withPasswords)
	h.write(t, "passwords", cheap("alice", "right-secret"))
	b := h.start(t)
	for _, secret := range []string{"right-secret", "wrong-secret"} {
		if code := b.refused(t, "plain", nil, login("alice", secret)); code != mqtt.BadUserNameOrPassword {
			t.Errorf("in the clear: %v", code)
		}
	}
	for _, listener := range []string{"tls", "both"} { // and a wrong one makes nobody anonymous
		if code := b.refused(t, listener, nil, login("alice", "wrong-secret")); code != mqtt.BadUserNameOrPassword {
			t.Errorf("%s, a wrong password: %v", listener, code)
		}
	}
	b.connect(t, "tls", nil, login("alice", "right-secret")).disconnect()
	b.stop(t)
	if strings.Contains(b.logged(), "-secret") {
		t.Error("the log has a password")
	}
}

// Who guesses has to wait, and the log says who.
func TestGuessing(t *testing.T) {
	t.Parallel()
	h := newHome(t, withPasswords+"[auth.backoff]\nfree_failures = 2\n")
	h.write(t, "passwords", cheap("alice", "right"))
	b := h.start(t)
	var last mqtt.ReasonCode
	for i := range 6 {
		last = b.refused(t, "tls", nil, login("alice", fmt.Sprint(i)))
	}
	if last != mqtt.ConnectionRateExceeded {
		t.Errorf("the sixth guess: %v", last)
	}
	if code := b.refused(t, "tls", nil, login("alice", "right")); code != mqtt.ConnectionRateExceeded {
		t.Errorf("the right password, guessed while there is a wait: %v", code)
	}
	line := b.awaitLog(t, 0, "authentication slowed down", `"user":"alice"`)
	if !strings.Contains(line, "127.0.0.1") {
		t.Errorf("the address is missing: %s", line)
	}
}

// A name that is in the file costs as much time as one that is not: Welch's t of
// the two is that of chance.
func TestUnknownUsersTakeAsLong(t *testing.T) {
	if !*long {
		t.Skip("skipped: 1,800 checks of passwords take a minute; run it with -long")
	}
	h := newHome(t, withPasswords+"[auth.backoff]\nfree_failures = 1000\n")
	f := password.New()
	if err := f.Set("alice", "right", password.Argon2id, password.Cost{}); err != nil {
		t.Fatal(err)
	}
	h.write(t, "passwords", string(f.Text()))
	b := h.start(t)
	const times = 900
	var known, unknown sample
	for i := range times {
		for _, s := range []struct {
			user string
			*sample
		}{{"alice", &known}, {"nobody", &unknown}} {
			c := b.dial(t, "tls", nil)
			c.send(nil) // the handshake
			begin := time.Now()
			want(t, "a guess", c.open(login(s.user, fmt.Sprint(i))).Code, mqtt.BadUserNameOrPassword)
			s.add(time.Since(begin).Seconds())
			c.Close()
		}
	}
	tt := (known.mean() - unknown.mean()) / math.Sqrt(known.variance()/times+unknown.variance()/times)
	t.Logf("known %.3f ms, unknown %.3f ms, t = %.2f", known.mean()*1000, unknown.mean()*1000, tt)
	if math.Abs(tt) > 4.5 {
		t.Errorf("known and unknown users can be told apart: t = %.2f", tt)
	}
}

// sample is a series of measures.
type sample struct{ n, sum, squares float64 }

func (s *sample) add(x float64)     { s.n++; s.sum += x; s.squares += x * x }
func (s *sample) mean() float64     { return s.sum / s.n }
func (s *sample) variance() float64 { return (s.squares - s.sum*s.sum/s.n) / (s.n - 1) }

// A service that decides about clients, or has keys, is not asked at an address
// inside of the network unless the configuration says so, whatever its name is;
// and never where clouds keep their machines' secrets.
func TestServicesInside(t *testing.T) {
	t.Parallel()
	var came atomic.Int32
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			c.Close()
		}
	}()
	port := ln.Addr().(*net.TCPAddr).Port
	listener := "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nclient_certificates = \"none\"\nauth = [\"%s\"]\n"
	http := func(url string) string { return fmt.Sprintf(jsonLog+"[auth.http]\nurl = %q\n"+listener, url, "http") }
	jwt := func(url string) string {
		return fmt.Sprintf(jsonLog+"[auth.jwt]\njwks_url = %q\naudience = [\"x\"]\n"+listener, url, "jwt")
	}
	for _, config := range []string{
		http("http://169.254.169.254/latest"), http("http://example.com/"), http("ftp://example.com/"), jwt("http://169.254.169.254/keys"), jwt("file:///etc/passwd"),
		http(fmt.Sprintf("http://127.0.0.1:%d/", port)),
	} {
		h := newHome(t, config)
		if out, err := h.run(t, "check", "sealmq.toml"); err == nil {
			t.Errorf("this configuration is good:\n%s\n%s", config, out)
		}
	}
	for _, host := range []string{"localhost", "169.254.169.254"} {
		h := newHome(t, http(fmt.Sprintf("https://%s:%d/", host, port)))
		if out, err := h.run(t, "check", "sealmq.toml"); err != nil {
			continue // refused at once: as good
		} else if out == "" {
			t.Error("sealmq check says nothing")
		}
		b := h.start(t)
		b.meant = []string{"authentication failed to decide"}
		if code := b.refused(t, "tls", nil, login("alice", "x")); code != mqtt.ServerUnavailable {
			t.Errorf("%s: %v", host, code)
		}
		b.stop(t)
	}
	h := newHome(t, jwt(fmt.Sprintf("https://localhost:%d/keys", port)))
	b := h.start(t)
	b.meant = []string{"authentication failed to decide"}
	b.refused(t, "tls", nil, login("alice", "eyJhbGciOiJFZERTQSIsImtpZCI6IngifQ.e30.AAAA"))
	b.stop(t)
	if n := came.Load(); n > 0 {
		t.Errorf("%d connections came to a server inside", n)
	}
}

// A password file, or a token, that others may read is not used.
func TestOpenPasswordFile(t *testing.T) {
	t.Parallel()
	h := newHome(t, withPasswords)
	h.write(t, "passwords", cheap("alice", "x"))
	if err := os.Chmod(h.path("passwords"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := h.run(t, "serve", "--config", "sealmq.toml"); err == nil || !strings.Contains(out, "chmod 600") {
		t.Errorf("with a password file that is readable by all: %v\n%s", err, out)
	}
}
