package door

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq/control"
)

// home is a folder with a configuration and a data folder.
type home struct {
	dir       string
	listeners int // in its configuration
}

// listeners are mutual TLS, TLS for anybody, and the same without TLS.
const listeners = `
[[listener]]
name = "tls"
address = "127.0.0.1:0"
[[listener]]
name = "open"
address = "127.0.0.1:0"
client_certificates = "none"
anonymous = true
[[listener]]
name = "plain"
address = "127.0.0.1:0"
tls = false
anonymous = true
`

func newHome(t *testing.T, tables string) *home {
	t.Helper()
	// A socket's path is short, and a test's folder is not.
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &home{dir: dir}
	h.configure(t, tables)
	return h
}

func (h *home) configure(t *testing.T, tables string) {
	t.Helper()
	h.configureListeners(t, tables, listeners)
}

func (h *home) configureListeners(t *testing.T, tables, listeners string) {
	t.Helper()
	h.listeners = strings.Count(listeners, "[[listener]]")
	text := "data = \"data\"\n[log]\nformat = \"json\"\n" + tables + listeners
	h.write(t, "sealmq.toml", []byte(text))
}

func (h *home) write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sealmq runs a command, which must succeed, and returns all that it prints.
func (h *home) sealmq(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = h.dir
	cmd.Env = append(os.Environ(), "SEALMQ_DATA=data")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("sealmq %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// figures are what `sealmq gate stats` says.
func (h *home) figures(t *testing.T) (s control.GateStats) {
	t.Helper()
	c, err := control.Dial(filepath.Join(h.dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s, err = c.GateStats(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitEmpty waits until so many connections are left, all past their CONNECT.
func (h *home) awaitEmpty(t *testing.T, open int64) {
	t.Helper()
	eventually(t, func() error {
		if s := h.figures(t); s.Open != open || s.Handshakes != 0 || s.Connects != 0 {
			return fmt.Errorf("%d connections are open, %d in the handshake, %d before CONNECT; %d, 0 and 0 wanted", s.Open, s.Handshakes, s.Connects, open)
		}
		return nil
	})
}

// eventually asks again until there is no error.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(*patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// broker is `sealmq serve` as a process.
type broker struct {
	*home
	address map[string]string // of listeners, by name

	cmd    *exec.Cmd
	exited chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// start starts a broker and waits until all listeners are open. At the end of the test it is stopped, if it has not been,
// and its log looked through.
func (h *home) start(t *testing.T, env ...string) *broker {
	t.Helper()
	b := &broker{home: h, address: make(map[string]string), exited: make(chan struct{})}
	b.cmd = exec.Command(program, "serve", "--config", "sealmq.toml")
	b.cmd.Dir = h.dir
	b.cmd.Env = append(os.Environ(), env...)
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		in := bufio.NewScanner(stderr)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			b.mu.Lock()
			b.log.Write(in.Bytes())
			b.log.WriteByte('\n')
			b.mu.Unlock()
		}
		b.cmd.Wait()
		close(b.exited)
	}()
	t.Cleanup(func() { b.stop(t); b.inspect(t) })
	eventually(t, func() error {
		select {
		case <-b.exited:
			t.Fatalf("the broker has ended:\n%s", b.logged())
		default:
		}
		for line := range strings.Lines(b.logged()) {
			var l struct{ Msg, Listener, Address string }
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "listening" {
				b.address[l.Listener] = l.Address
			}
		}
		if len(b.address) < h.listeners {
			return fmt.Errorf("the broker does not listen:\n%s", b.logged())
		}
		return nil
	})
	eventually(t, func() error { // the control socket comes after the listeners
		c, err := control.Dial(filepath.Join(h.dir, "data"))
		if err == nil {
			c.Close()
		}
		return err
	})
	return b
}

// stop ends the broker orderly.
func (b *broker) stop(t *testing.T) {
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

// awaitLog waits for a line with all these words.
func (b *broker) awaitLog(t *testing.T, words ...string) {
	t.Helper()
	eventually(t, func() error {
		for line := range strings.Lines(b.logged()) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return nil
			}
		}
		return fmt.Errorf("the broker did not log %q", words)
	})
}

var trouble = regexp.MustCompile(`(?m)^.*(DATA RACE|panic|goroutine \d+ \[|"level":"ERROR").*$`)

func (b *broker) inspect(t *testing.T) {
	log := b.logged()
	if at := trouble.FindStringIndex(log); at != nil {
		t.Errorf("the broker logged trouble:\n%s", log[at[0]:min(len(log), at[0]+4000)])
	}
	if t.Failed() {
		t.Logf("the end of the broker's log:\n%s", log[max(0, len(log)-4000):])
	}
}

// resident is the memory of the broker, in bytes.
func (b *broker) resident(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// worked is the processor time that the broker has used, in seconds.
func (b *broker) worked(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var ticks float64
	for _, field := range strings.Fields(rest)[11:13] { // of user and system, 100 a second
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100
}

// tls is the configuration of a client that shows nothing.
func (b *broker) tls(t *testing.T) *tls.Config {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(b.dir, "data", "ca", "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

// dial connects from an address of this machine.
func (b *broker) dial(from, listener string) (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: *patience}
	nc, err := d.Dial("tcp", b.address[listener])
	if err != nil {
		return nil, err
	}
	return nc.(*net.TCPConn), nil
}
