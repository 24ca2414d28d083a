package tlsmatrix

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bearOverhead is what BearSSL needs of its buffer beside a record's payload.
const bearOverhead = 325

// broker is `sealmq serve` as a process in a folder of its own.
type broker struct {
	program, dir string
	cmd          *exec.Cmd
	exited       chan struct{}

	mu    sync.Mutex
	log   bytes.Buffer
	ports map[string]int // of the listeners, by name
}

// startBroker builds and starts one with these listeners, and waits for them.
func startBroker(t *testing.T, listeners map[string]string) *broker {
	t.Helper()
	dir := t.TempDir()
	b := &broker{program: filepath.Join(dir, "sealmq"), dir: dir, exited: make(chan struct{}), ports: make(map[string]int)}
	build := exec.Command("go", "build", "-o", b.program, "./cmd/sealmq")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build ./cmd/sealmq: %v\n%s", err, out)
	}
	config := "data = \"data\"\nmemory = true\npolicy = \"open.policy\"\n[log]\nformat = \"json\"\n"
	for name, keys := range listeners {
		config += "[[listener]]\nname = \"" + name + "\"\naddress = \"127.0.0.1:0\"\n" + keys + "\n"
	}
	for name, text := range map[string]string{"sealmq.toml": config, "open.policy": "policy everybody { allow publish, subscribe # }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.cmd = exec.Command(b.program, "serve", "--config", "sealmq.toml")
	b.cmd.Dir = dir
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(b.exited)
		in := bufio.NewScanner(stderr)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			b.note(in.Bytes())
		}
		b.cmd.Wait()
	}()
	t.Cleanup(func() {
		b.cmd.Process.Signal(syscall.SIGTERM)
		stuck := time.AfterFunc(patience, func() { b.cmd.Process.Kill() })
		defer stuck.Stop()
		<-b.exited
	})
	b.await(t, "all listeners", func(string) bool { return len(b.ports) == len(listeners) })
	return b
}

func (b *broker) note(line []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log.Write(line)
	b.log.WriteByte('\n')
	var l struct{ Msg, Listener, Address string }
	if json.Unmarshal(line, &l) == nil && l.Msg == "listening" {
		if a, err := net.ResolveTCPAddr("tcp", l.Address); err == nil {
			b.ports[l.Listener] = a.Port
		}
	}
}

// await waits until the log is as cond, which holds the lock, wants it.
func (b *broker) await(t *testing.T, what string, cond func(log string) bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		b.mu.Lock()
		log := b.log.String()
		ok := cond(log)
		b.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never: %s; the broker's log:\n%s", what, log)
		}
	}
}

func (b *broker) logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// sealmq runs a command on the broker.
func (b *broker) sealmq(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(b.program, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "SEALMQ_DATA=data")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sealmq %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// device adds one and has its files as BearSSL reads them.
func (b *broker) device(t *testing.T, id string) (ca string, ident files) {
	t.Helper()
	b.sealmq(t, "device", "add", id, "--for", "mosquitto", "--out", id)
	der := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(b.dir, id, name))
		block, _ := pem.Decode(text)
		if err != nil || block == nil {
			t.Fatalf("%s: no PEM (%v)", name, err)
		}
		return block.Bytes
	}
	put := func(name string, data []byte) string {
		path := filepath.Join(b.dir, id, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return put("ca.der", der("ca.pem")), files{der: put("cert.der", der("cert.pem")), scalar: put("key.raw", scalarOf(t, der("key.pem")))}
}

// A device with 837 bytes to receive in gets a message of 40,000 bytes from the
// broker over mutual TLS, because no record is larger than it can take. Without
// the cap the same device breaks off, and the broker's log says why.
func TestSmallBuffer(t *testing.T) {
	if why := built().why["bearssl"]; why != "" {
		t.Skip("skipped: " + why)
	}
	const payload = 40_000
	b := startBroker(t, map[string]string{"default": "", "records": "max_record = 512", "constrained": "profile = \"constrained\""})
	ca, device := b.device(t, "esp")
	big := filepath.Join(b.dir, "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("x"), payload), 0o600); err != nil {
		t.Fatal(err)
	}
	b.sealmq(t, "pub", "-p", strconv.Itoa(b.ports["default"]), "-t", "big", "-f", big, "-r", "-q", "1")
	for _, tt := range []struct {
		name, listener string
		buffer         int
		silent         bool // does not say what it can take
		breaks         bool
	}{
		{name: "announced", listener: "default", buffer: 512 + bearOverhead},
		{name: "announced, constrained", listener: "constrained", buffer: 512 + bearOverhead},
		{name: "not announced, records of 512", listener: "records", buffer: 512 + bearOverhead, silent: true},
		{name: "not announced, constrained", listener: "constrained", buffer: 1024 + bearOverhead, silent: true},
		{name: "cap off", listener: "default", buffer: 512 + bearOverhead, silent: true, breaks: true},
		{name: "cap off, 1,024 bytes", listener: "default", buffer: 1024 + bearOverhead, silent: true, breaks: true},
		{name: "cap off, full buffer", listener: "default", buffer: 16384 + bearOverhead, silent: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(b.logged())
			options := "mqtt=" + strconv.Itoa(payload) + ",buffer=" + strconv.Itoa(tt.buffer)
			if tt.silent {
				options += ",silent"
			}
			out := program(t, attempt{}, built().bearssl, strconv.Itoa(b.ports[tt.listener]), host, ca, device.der, device.scalar, options)
			if !tt.breaks {
				if !strings.Contains(out, "received 40000 bytes") {
					t.Errorf("the device says: %s\nthe broker: %s", out, b.logged()[before:])
				}
				return
			}
			if !strings.Contains(out, "BearSSL error 6\n") {
				t.Errorf("the device says: %s", out)
			}
			b.await(t, "the cause", func(log string) bool { return strings.Contains(log[before:], "E-TLS-029") })
		})
	}
}
