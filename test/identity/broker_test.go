package identity

import (
	"bufio"
	"bytes"
	"encoding/json"
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
)

// home is a folder with a configuration and a data folder, and the working
// directory of every command that is run on it.
type home struct{ dir string }

// open is a policy under which identity alone decides.
const open = `policy everybody {
  allow publish, subscribe #
  allow publish, subscribe $pki/renew/#
  allow publish, subscribe $pki/cacerts/#
}
`

const preamble = `data = "data"
policy = "open.policy"
[log]
level = "debug"
format = "json"
[ca]
publish_address = "127.0.0.1:0"
`

// twoListeners are mutual TLS for everything, and one for enrolment.
const twoListeners = `
[[listener]]
name = "tls"
address = "127.0.0.1:0"
[[listener]]
name = "enroll"
address = "127.0.0.1:0"
enroll = true
`

// newHome makes one whose configuration ends with these tables.
func newHome(t *testing.T, tables string) *home {
	t.Helper()
	h := &home{t.TempDir()}
	h.write(t, "open.policy", open)
	h.write(t, "sealmq.toml", preamble+tables)
	return h
}

func (h *home) path(name ...string) string { return filepath.Join(append([]string{h.dir}, name...)...) }

// write replaces a file in one step.
func (h *home) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(h.path(name)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.path(name+".tmp"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(h.path(name+".tmp"), h.path(name)); err != nil {
		t.Fatal(err)
	}
}

func (h *home) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(h.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sealmq runs a command, which must succeed, and returns all that it prints.
func (h *home) sealmq(t *testing.T, args ...string) string {
	t.Helper()
	return mustRun(t, h.dir, program, args...)
}

// refused runs a command, which must fail, and returns all that it prints.
func (h *home) refused(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run(t, h.dir, program, args...)
	if err == nil {
		t.Fatalf("sealmq %s succeeded:\n%s", strings.Join(args, " "), out)
	}
	return out
}

// device is a certificate with its key, and the CA of the broker, as files.
type device struct{ id, dir, ca, cert, key string }

func deviceIn(dir, id string) device {
	return device{id, dir, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
}

// flags are those of Mosquitto's tools, which sealmq has too.
func (d device) flags() []string {
	args := []string{"--cafile", d.ca}
	if d.cert != "" {
		args = append(args, "--cert", d.cert, "--key", d.key)
	}
	return args
}

// add issues a certificate as an operator would.
func (h *home) add(t *testing.T, id string, flags ...string) device {
	t.Helper()
	out := filepath.Join("devices", id)
	h.sealmq(t, append([]string{"device", "add", id, "--for", "mosquitto", "--out", out}, flags...)...)
	return deviceIn(h.path(out), id)
}

// endpoint is a listener of a broker.
type endpoint struct {
	host string
	port int
}

func (e endpoint) String() string { return fmt.Sprintf("%s:%d", e.host, e.port) }

func (e endpoint) flags() []string { return []string{"-h", e.host, "-p", fmt.Sprint(e.port)} }

// broker is `sealmq serve` as a process.
type broker struct {
	*home
	tls, enroll, wss endpoint // the listeners of those names
	published        string   // URL of revocation lists and roots
	welcome          string   // what it printed when it was ready
	startup          time.Duration

	cmd     *exec.Cmd
	exited  chan struct{}
	crashed bool     // by crash
	meant   []string // words of errors that a test provokes

	mu  sync.Mutex
	log bytes.Buffer
}

// startBroker starts one in a new home.
func startBroker(t *testing.T, tables string) *broker {
	t.Helper()
	return newHome(t, tables).start(t)
}

// start starts a broker and waits until it is ready. At the end of the test it
// is stopped, if it has not been, and its log looked through.
func (h *home) start(t *testing.T) *broker {
	t.Helper()
	b := &broker{home: h, exited: make(chan struct{})}
	b.cmd = exec.Command(program, "serve", "--config", "sealmq.toml")
	b.cmd.Dir = h.dir
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}

	own := !strings.Contains(h.read(t, "sealmq.toml"), "client_ca") // then it says how to add a device, in the end
	welcome := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		in := bufio.NewScanner(stderr)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			b.mu.Lock()
			b.log.Write(in.Bytes())
			b.log.WriteByte('\n')
			b.mu.Unlock()
		}
	})
	reading.Go(func() {
		var text strings.Builder
		for in := bufio.NewScanner(stdout); in.Scan(); {
			text.WriteString(in.Text() + "\n")
			if strings.Contains(in.Text(), "device add") || strings.Contains(in.Text(), "is ready") && !own {
				welcome <- text.String()
			}
		}
	})
	go func() {
		reading.Wait()
		b.cmd.Wait()
		close(b.exited)
	}()
	t.Cleanup(func() {
		b.stop(t)
		b.inspect(t)
	})
	select {
	case b.welcome = <-welcome:
	case <-b.exited:
		t.Fatalf("the broker has ended:\n%s", b.logged())
	case <-time.After(*patience):
		t.Fatalf("the broker is not ready after %v:\n%s", *patience, b.logged())
	}
	b.startup = time.Since(begin)
	listeners := strings.Count(h.read(t, "sealmq.toml"), "[[listener]]")
	eventually(t, func() error { // what it logged may come later than what it printed
		if n := b.addresses(t); n < listeners || own && b.published == "" {
			return fmt.Errorf("the broker has %d listeners, %d wanted:\n%s", n, listeners, b.logged())
		}
		return nil
	})
	return b
}

// addresses reads from the log where the broker listens, and on how many listeners.
func (b *broker) addresses(t *testing.T) (listeners int) {
	for line := range strings.Lines(b.logged()) {
		var l struct{ Msg, Listener, Address string }
		if json.Unmarshal([]byte(line), &l) != nil {
			continue
		}
		switch l.Msg {
		case "publishing revocation lists":
			b.published = "http://" + l.Address + "/pki/"
		case "listening":
			listeners++
			switch at := endpointOf(t, l.Address); l.Listener {
			case "enroll":
				b.enroll = at
			case "wss":
				b.wss = at
			default:
				b.tls = at
			}
		}
	}
	return listeners
}

func endpointOf(t *testing.T, address string) endpoint {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return endpoint{"127.0.0.1", a.Port}
}

// crash ends the broker as a power cut would.
func (b *broker) crash() {
	b.crashed = true
	b.cmd.Process.Kill()
	<-b.exited
}

// stop ends the broker orderly, unless it has crashed.
func (b *broker) stop(t *testing.T) {
	if b.crashed {
		return
	}
	b.cmd.Process.Signal(syscall.SIGTERM)
	stuck := time.AfterFunc(*patience, func() { b.cmd.Process.Kill() })
	defer stuck.Stop()
	<-b.exited
	if !b.cmd.ProcessState.Success() {
		t.Errorf("sealmq serve: %v, want exit code 0 after SIGTERM", b.cmd.ProcessState)
	}
}

func (b *broker) logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// mark is where the log ends; awaitLog looks at what comes after.
func (b *broker) mark() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Len()
}

// awaitLog waits for a line with all these words beyond the log's first n bytes.
func (b *broker) awaitLog(t *testing.T, n int, words ...string) string {
	t.Helper()
	var found string
	eventually(t, func() error {
		log := b.logged()[n:]
		for line := range strings.Lines(log) {
			missing := func(word string) bool { return !strings.Contains(line, word) }
			if !slices.ContainsFunc(words, missing) {
				found = line
				return nil
			}
		}
		return fmt.Errorf("the broker did not log %q, but:\n%s", words, tail(log))
	})
	return found
}

var trouble = regexp.MustCompile(`(?m)^.*(DATA RACE|panic|goroutine \d+ \[|"level":"ERROR").*$`)

// inspect fails the test when the broker logged an error that was not provoked.
func (b *broker) inspect(t *testing.T) {
	log := b.logged()
	for _, at := range trouble.FindAllStringIndex(log, -1) {
		line := log[at[0]:at[1]]
		if !slices.ContainsFunc(b.meant, func(words string) bool { return strings.Contains(line, words) }) {
			t.Errorf("the broker logged trouble:\n%s", log[at[0]:min(len(log), at[0]+4000)])
			break
		}
	}
	if t.Failed() {
		t.Logf("the end of the broker's log:\n%s", tail(log))
	}
}

func tail(log string) string { return log[max(0, len(log)-4000):] }
