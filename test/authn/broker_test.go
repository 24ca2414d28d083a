package authn

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

// preamble lets everybody do everything: these tests are about who somebody is.
const preamble = `data = "data"
policy = "policy"
[log]
level = "debug"
format = "json"
`

const everything = "policy everybody { allow publish, subscribe # }\n"

// broker is `sealmq serve` as a process, in a folder of its own.
type broker struct {
	dir     string
	cmd     *exec.Cmd
	exited  chan struct{}
	meant   []string // words of errors that a test provokes
	secrets []string // what must never be in the log

	mu  sync.Mutex
	log bytes.Buffer
}

// prepare makes the folder of a broker whose configuration ends with these tables.
func prepare(t *testing.T, tables string) *broker {
	t.Helper()
	b := &broker{dir: t.TempDir()}
	b.write(t, "sealmq.toml", preamble+tables)
	b.write(t, "policy", everything)
	return b
}

func (b *broker) path(name ...string) string {
	return filepath.Join(append([]string{b.dir}, name...)...)
}

// write replaces a file in one step.
func (b *broker) write(t *testing.T, name, text string) string {
	t.Helper()
	path := b.path(name)
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// users writes the password file: user, password, user, password, …
func (b *broker) users(t *testing.T, scheme password.Scheme, pairs ...string) {
	t.Helper()
	f := password.New()
	for i := 0; i < len(pairs); i += 2 {
		if err := f.Set(pairs[i], pairs[i+1], scheme, password.Cost{Memory: 64, Passes: 1, Iterations: 4096}); err != nil {
			t.Fatal(err)
		}
		b.secrets = append(b.secrets, pairs[i+1])
	}
	b.write(t, "passwords", string(f.Text()))
}

// start starts the broker and waits until it listens. At the end of the test it is stopped and its log looked through.
func (b *broker) start(t *testing.T) *broker {
	t.Helper()
	b.launch(t)
	t.Cleanup(func() {
		b.stop(t)
		b.inspect(t)
	})
	return b
}

func (b *broker) launch(t *testing.T) {
	t.Helper()
	b.cmd, b.exited = exec.Command(program, "serve", "--config", "sealmq.toml"), make(chan struct{})
	b.cmd.Dir = b.dir
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	from := b.mark()
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		in := bufio.NewScanner(stderr)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			b.mu.Lock()
			b.log.Write(append(in.Bytes(), '\n'))
			b.mu.Unlock()
		}
		b.cmd.Wait()
		close(b.exited)
	}()
	text, err := os.ReadFile(b.path("sealmq.toml"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		select {
		case <-b.exited:
			t.Fatalf("the broker has ended:\n%s", b.logged())
		default:
		}
		if n := strings.Count(b.logged()[from:], `"msg":"listening"`); n < strings.Count(string(text), "[[listener]]") {
			return fmt.Errorf("%d listeners", n)
		}
		return nil
	})
}

func (b *broker) stop(t *testing.T) {
	t.Helper()
	b.cmd.Process.Signal(syscall.SIGTERM)
	stuck := time.AfterFunc(*patience, func() { b.cmd.Process.Kill() })
	defer stuck.Stop()
	<-b.exited
	if !b.cmd.ProcessState.Success() {
		t.Errorf("sealmq serve: %v, want exit code 0 after SIGTERM", b.cmd.ProcessState)
	}
}

// reload has the configuration read again, and waits for the word in the log that says what came of it.
func (b *broker) reload(t *testing.T, word string) {
	t.Helper()
	from := b.mark()
	b.cmd.Process.Signal(syscall.SIGHUP)
	b.awaitLog(t, from, word)
}

func (b *broker) logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// mark is where the log ends; awaitLog looks at what comes after.
func (b *broker) mark() int { return len(b.logged()) }

// awaitLog waits for a line with all these words beyond the log's first n bytes.
func (b *broker) awaitLog(t *testing.T, n int, words ...string) (found string) {
	t.Helper()
	eventually(t, func() error {
		log := b.logged()[n:]
		for line := range strings.Lines(log) {
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
				found = line
				return nil
			}
		}
		return fmt.Errorf("the broker did not log %q, but:\n%s", words, log[max(0, len(log)-4000):])
	})
	return found
}

var trouble = regexp.MustCompile(`(?m)^.*(DATA RACE|panic|goroutine \d+ \[|"level":"ERROR").*$`)

// inspect fails the test when the broker has logged an error that was not provoked, or anything secret.
func (b *broker) inspect(t *testing.T) {
	log := b.logged()
	for _, line := range trouble.FindAllString(log, -1) {
		if !slices.ContainsFunc(b.meant, func(words string) bool { return strings.Contains(line, words) }) {
			t.Errorf("the broker logged trouble:\n%s", line)
			break
		}
	}
	for _, secret := range b.secrets {
		if at := strings.Index(log, secret); at >= 0 {
			t.Errorf("the log shows %q: …%s…", secret, log[max(0, at-200):min(len(log), at+200)])
		}
	}
	if t.Failed() {
		t.Logf("the end of the broker's log:\n%s", log[max(0, len(log)-6000):])
	}
}

// address is where a listener is.
func (b *broker) address(t *testing.T, listener string) string {
	t.Helper()
	log, address := b.logged(), ""
	for line := range strings.Lines(log) {
		var l struct{ Msg, Listener, Address string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "listening" && l.Listener == listener {
			address = l.Address
		}
	}
	if address == "" {
		t.Fatalf("no listener %s in:\n%s", listener, log)
	}
	return address
}

// ca is the file with the root of the broker's own CA.
func (b *broker) ca() string { return b.path("data", "operator", "ca.pem") }

// dial connects to a listener with TLS and these client certificates, or without TLS if its name begins with plain.
func (b *broker) dial(t *testing.T, listener string, certs ...tls.Certificate) func(context.Context) (net.Conn, error) {
	address := b.address(t, listener)
	return func(ctx context.Context) (net.Conn, error) {
		if strings.HasPrefix(listener, "plain") {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
		text, err := os.ReadFile(b.ca())
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		d := tls.Dialer{Config: &tls.Config{RootCAs: roots, Certificates: certs, ServerName: "localhost"}}
		return d.DialContext(ctx, "tcp", address)
	}
}

// connect connects a client to the listener tls, which must succeed, and ends it with the test.
func (b *broker) connect(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	c, err := b.try(t, cfg)
	if err != nil {
		t.Fatalf("connect %q: %v", cfg.ClientID, err)
	}
	return c
}

func (b *broker) try(t *testing.T, cfg client.Config) (*client.Client, error) {
	t.Helper()
	if cfg.Dial == nil {
		cfg.Dial = b.dial(t, "tls")
	}
	cfg.AckTimeout = *patience
	ctx, cancel := context.WithTimeout(t.Context(), *patience)
	defer cancel()
	c, err := client.Connect(ctx, cfg)
	if err == nil {
		t.Cleanup(func() {
			c.Close()
			c.Wait()
		})
	}
	return c, err
}

// refused fails the test unless the client is refused with the code, and told the words.
func (b *broker) refused(t *testing.T, cfg client.Config, want mqtt.ReasonCode, words string) {
	t.Helper()
	c, err := b.try(t, cfg)
	if err == nil {
		c.Close()
	}
	var code mqtt.ReasonCode
	if !errors.As(err, &code) || code != want || !strings.Contains(err.Error(), words) {
		t.Errorf("%q as %q: %v; want %v, %q", cfg.ClientID, cfg.Username, err, want, words)
	}
}

// user is a client that sends user name and password.
func user(name, pass string) client.Config {
	return client.Config{ClientID: name, Username: name, Password: []byte(pass), CleanStart: true}
}

func eventually(t *testing.T, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(*patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %v", *patience, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// ended waits until the client has been disconnected, and returns why.
func ended(t *testing.T, c *client.Client) error {
	t.Helper()
	select {
	case <-c.Done():
		return c.Err()
	case <-time.After(*patience):
		t.Fatal("the client is still connected")
		return nil
	}
}
