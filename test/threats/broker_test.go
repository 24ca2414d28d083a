package threats

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
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

const preamble = `data = "data"
sys_interval = "1s"
`

// jsonLog is the table [log] of most tests.
const jsonLog = `[log]
level = "debug"
format = "json"
`

// The listeners that most tests need.
const (
	mutualTLS = "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n"
	wss       = "[[listener]]\nname = \"wss\"\naddress = \"127.0.0.1:0\"\nwebsocket = true\n"
	plain     = "[[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\ntls = false\nanonymous = true\n"
)

// newHome makes one whose configuration is these keys and tables.
func newHome(t *testing.T, config string) *home {
	t.Helper()
	h := &home{t.TempDir()}
	h.write(t, "sealmq.toml", preamble+config)
	return h
}

func (h *home) path(name ...string) string { return filepath.Join(append([]string{h.dir}, name...)...) }

func (h *home) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
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

// run runs a command of sealmq and returns all that it prints.
func (h *home) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = h.dir
	cmd.Env = append(os.Environ(), "SEALMQ_DATA=data", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// broker is `sealmq serve` as a process.
type broker struct {
	*home
	address map[string]string // of each listener
	cmd     *exec.Cmd
	exited  chan struct{}
	meant   []string // words of errors that a test provokes

	mu  sync.Mutex
	log bytes.Buffer
}

// startBroker starts one in a new home.
func startBroker(t *testing.T, config string) *broker {
	t.Helper()
	return newHome(t, config).start(t)
}

// start starts a broker and waits until it listens. At the end of the test it
// is stopped and its log looked through.
func (h *home) start(t *testing.T) *broker {
	t.Helper()
	b := &broker{home: h, address: map[string]string{}, exited: make(chan struct{})}
	b.cmd = exec.Command(program, "serve", "--config", "sealmq.toml")
	b.cmd.Dir = h.dir
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		in := bufio.NewReader(stderr)
		for {
			line, err := in.ReadBytes('\n')
			b.mu.Lock()
			b.log.Write(line)
			b.mu.Unlock()
			if err != nil {
				break
			}
		}
		b.cmd.Wait()
		close(b.exited)
	}()
	t.Cleanup(func() {
		b.stop(t)
		b.inspect(t)
	})
	listeners := strings.Count(h.read(t, "sealmq.toml"), "[[listener]]")
	eventually(t, func() error {
		select {
		case <-b.exited:
			t.Fatalf("the broker has ended:\n%s", b.logged())
		default:
		}
		if b.addresses(); len(b.address) < listeners {
			return fmt.Errorf("the broker listens at %v:\n%s", b.address, b.logged())
		}
		return nil
	})
	return b
}

var listening = regexp.MustCompile(`msg=listening .*listener=(\S+) .*address=(\S+)`)

// addresses reads from the log, in either form, where the broker listens.
func (b *broker) addresses() {
	for line := range strings.Lines(b.logged()) {
		var l struct{ Msg, Listener, Address string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "listening" {
			b.address[l.Listener] = l.Address
		} else if m := listening.FindStringSubmatch(line); m != nil {
			b.address[m[1]] = m[2]
		}
	}
}

// stop ends the broker orderly, unless it has ended.
func (b *broker) stop(t *testing.T) {
	select {
	case <-b.exited:
		return
	default:
	}
	b.cmd.Process.Signal(syscall.SIGTERM)
	stuck := time.AfterFunc(*patience, func() { b.cmd.Process.Kill() })
	defer stuck.Stop()
	<-b.exited
	if !b.cmd.ProcessState.Success() {
		t.Errorf("sealmq serve: %v, want exit code 0 after SIGTERM", b.cmd.ProcessState)
	}
}

// reload has the broker read its files again, and waits for the line of the log
// with these words that tells the outcome.
func (b *broker) reload(t *testing.T, words ...string) {
	t.Helper()
	from := b.mark()
	b.cmd.Process.Signal(syscall.SIGHUP)
	b.awaitLog(t, from, words...)
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
func (b *broker) awaitLog(t *testing.T, n int, words ...string) (found string) {
	t.Helper()
	eventually(t, func() error {
		log := b.logged()[n:]
		for line := range strings.Lines(log) {
			missing := func(word string) bool { return !strings.Contains(line, word) }
			if strings.HasSuffix(line, "\n") && !slices.ContainsFunc(words, missing) {
				found = line
				return nil
			}
		}
		return fmt.Errorf("the broker did not log %q, but:\n%s", words, tail(log))
	})
	return found
}

var trouble = regexp.MustCompile(`(?m)^.*(DATA RACE|panic|goroutine \d+ \[|"level":"ERROR"|level=ERROR).*$`)

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

// memory is the resident size of the broker's process in bytes.
func (b *broker) memory(t *testing.T) int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	if err != nil {
		t.Skipf("skipped: the memory of a process cannot be seen here: %v", err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	var kB int
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fmt.Sscan(rest, &kB)
	return kB << 10
}
