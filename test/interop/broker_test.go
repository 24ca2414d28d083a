package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
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

	"github.com/sealmq/sealmq/test/internal/built"
)

// patience bounds every single wait. It is only ever used up by a failure.
const patience = time.Minute

// program is the path of the sealmq binary, built once for all tests.
var program string

func TestMain(m *testing.M) { os.Exit(built.Run(m, &program)) }

// endpoint is one listener of the broker, and the files with which a client
// meets it: none for the plain one.
type endpoint struct {
	name          string
	host          string
	port          int
	ca, cert, key string
}

func (e endpoint) addr() string { return fmt.Sprintf("%s:%d", e.host, e.port) }
func (e endpoint) tls() bool    { return e.ca != "" }

// broker is `sealmq serve` as a process, with a data folder of its own.
type broker struct {
	dir     string
	tls     endpoint // mutual TLS, with the certificate of a device named after deviceID
	plain   endpoint // in the clear, anonymous
	welcome string   // what it printed when it was ready

	mu  sync.Mutex
	log bytes.Buffer
}

// deviceID is the device whose certificate the clients use; their client
// identifiers begin with it.
const deviceID = "it"

const (
	brokerConfig = `policy = "open.policy"
` + firstConfig  // with the policy that a new folder gets
	firstConfig = `data = "data"
[log]
level = "debug"
format = "json"
[[listener]]
name = "tls"
address = "127.0.0.1:0"
[[listener]]
name = "plain"
address = "127.0.0.1:0"
tls = false
anonymous = true
`
)

// openPolicy lets everybody do everything: what is tested is the protocol.
const openPolicy = `policy everybody {
  allow publish, subscribe #
  allow subscribe $SYS/#
  allow subscribe $pki/cacerts/#
}
`

// configure writes the configuration of a broker into its folder.
func configure(t *testing.T, dir, config string) {
	t.Helper()
	for name, text := range map[string]string{"sealmq.toml": config, "open.policy": openPolicy} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// startBroker starts one, waits until it is ready, and at the end of the test
// stops it and looks through what it logged.
func startBroker(t *testing.T) *broker {
	t.Helper()
	return startWith(t, brokerConfig)
}

func startWith(t *testing.T, config string) *broker {
	t.Helper()
	b := &broker{dir: t.TempDir()}
	configure(t, b.dir, config)
	cmd := exec.Command(program, "serve", "--config", "sealmq.toml")
	cmd.Dir = b.dir
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	ports := make(chan endpoint, 2) // of the two listeners, as the log tells them
	welcome := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		for in := bufio.NewScanner(stderr); in.Scan(); {
			b.mu.Lock()
			b.log.Write(in.Bytes())
			b.log.WriteByte('\n')
			b.mu.Unlock()
			if e, ok := listening(in.Bytes()); ok {
				ports <- e
			}
		}
	})
	reading.Go(func() {
		var text strings.Builder
		for in := bufio.NewScanner(stdout); in.Scan(); {
			text.WriteString(in.Text() + "\n")
			if strings.Contains(in.Text(), "device add") {
				welcome <- text.String()
			}
		}
	})
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		stuck := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer stuck.Stop()
		reading.Wait()
		if err := cmd.Wait(); err != nil {
			t.Errorf("sealmq serve: %v, want exit code 0 after SIGTERM", err)
		}
		b.inspect(t)
	})

	late := time.After(patience)
	for range 2 {
		select {
		case e := <-ports:
			if e.name == "plain" {
				b.plain = e
			} else {
				b.tls = e
			}
		case <-late:
			t.Fatalf("the broker is not listening after %v:\n%s", patience, b.logged())
		}
	}
	select {
	case b.welcome = <-welcome:
	case <-late:
		t.Fatalf("the broker printed no lines to paste after %v:\n%s", patience, b.logged())
	}
	b.tls.ca, b.tls.cert, b.tls.key = b.device(t, deviceID)
	return b
}

// device issues a certificate as an operator would and returns its files.
func (b *broker) device(t *testing.T, id string) (ca, cert, key string) {
	t.Helper()
	out := filepath.Join(b.dir, "devices", id)
	cmd := exec.CommandContext(t.Context(), program, "device", "add", id, "--data", filepath.Join(b.dir, "data"), "--out", out)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sealmq device add: %v\n%s", err, text)
	}
	return filepath.Join(out, "ca.pem"), filepath.Join(out, "cert.pem"), filepath.Join(out, "key.pem")
}

func (b *broker) logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// awaitLog waits for a line with all these words beyond the log's first n bytes.
func (b *broker) awaitLog(t *testing.T, n int, words ...string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		log := b.logged()[n:]
		for line := range strings.Lines(log) {
			missing := func(word string) bool { return !strings.Contains(line, word) }
			if !slices.ContainsFunc(words, missing) {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the broker did not log %q, but:\n%s", words, log)
		}
	}
}

var trouble = regexp.MustCompile(`(?m)^.*(DATA RACE|panic|goroutine \d+ \[|"level":"ERROR").*$`)

// inspect fails the test when the broker logged an error of its own.
func (b *broker) inspect(t *testing.T) {
	log := b.logged()
	if at := trouble.FindStringIndex(log); at != nil {
		t.Errorf("the broker logged trouble:\n%s", log[at[0]:min(len(log), at[0]+4000)])
	}
	if t.Failed() {
		t.Logf("the end of the broker's log:\n%s", log[max(0, len(log)-4000):])
	}
}

// listening reads the log line that tells a listener's address.
func listening(line []byte) (endpoint, bool) {
	var l struct{ Msg, Listener, Address string }
	if json.Unmarshal(line, &l) != nil || l.Msg != "listening" {
		return endpoint{}, false
	}
	e := endpoint{name: l.Listener, host: "127.0.0.1"}
	_, err := fmt.Sscanf(l.Address, "127.0.0.1:%d", &e.port)
	return e, err == nil
}
