package crash

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// device is what the clients' certificate says, and what their identifiers begin with.
const device = "crash"

// program is a broker that can be put to the test.
type program struct {
	name string
	// prepare writes its configuration, with the data below dir.
	prepare func(dir string, plain, secure int) error
	command []string // run in dir
	hasTLS  bool     // on the port secure, with dir/device/{ca,cert,key}.pem
}

// sealmq is the program of this project, with its defaults but for the listeners,
// the policy, which is open, and the length of queues, which is unbounded so
// that nothing may be dropped.
func sealmq(path string) program {
	return program{
		name: "sealmq", hasTLS: true,
		command: []string{path, "serve", "--config", "sealmq.toml"},
		prepare: func(dir string, plain, secure int) error {
			config := fmt.Sprintf(`data = "data"
policy = "open.policy"
[limits]
max_queued_messages = 100000000
max_queued_bytes = "1TiB"
[[listener]]
address = "127.0.0.1:%d"
[[listener]]
address = "127.0.0.1:%d"
tls = false
anonymous = true
`, secure, plain)
			if err := os.WriteFile(filepath.Join(dir, "sealmq.toml"), []byte(config), 0o600); err != nil {
				return err
			}
			policy := "policy everybody { allow publish, subscribe # }\n"
			if err := os.WriteFile(filepath.Join(dir, "open.policy"), []byte(policy), 0o600); err != nil {
				return err
			}
			for _, args := range [][]string{{"init", "--data", "data"}, {"device", "add", device, "--data", "data", "--out", "device"}} {
				cmd := exec.Command(path, args...)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("sealmq %s: %w\n%s", args[0], err, out)
				}
			}
			return nil
		},
	}
}

// mosquitto is Debian's, with persistence on and unbounded queues; settings are
// further lines of its configuration.
func mosquitto(path, name, settings string) program {
	return program{
		name:    name,
		command: []string{path, "-c", "mosquitto.conf"},
		prepare: func(dir string, plain, _ int) error {
			config := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n"+
				"persistence true\npersistence_location %s/\n%s\n", plain, dir, settings)
			return os.WriteFile(filepath.Join(dir, "mosquitto.conf"), []byte(config), 0o600)
		},
	}
}

// broker is a program at work on one data folder.
type broker struct {
	program
	dir           string
	plain, secure string // addresses
	tls           *tls.Config
	journal       *journal
	starts        int
	process       atomic.Pointer[process]
}

// process is one run of a broker, in a process group of its own so that nothing
// but the harness signals it.
type process struct {
	cmd   *exec.Cmd
	mu    sync.Mutex
	meant bool          // its end
	gone  chan struct{} // closed when it has ended
	err   error         // of cmd.Wait, once gone is closed
}

func newBroker(p program, dir string, j *journal) (*broker, error) {
	b := &broker{program: p, dir: dir, journal: j}
	ports, err := freePorts()
	if err != nil {
		return nil, err
	}
	b.plain, b.secure = fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	if err := p.prepare(dir, ports[0], ports[1]); err != nil || !p.hasTLS {
		return b, err
	}
	file := func(name string) string { return filepath.Join(dir, "device", name) }
	pair, err := tls.LoadX509KeyPair(file("cert.pem"), file("key.pem"))
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(file("ca.pem"))
	if err != nil {
		return nil, err
	}
	b.tls = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
	if !b.tls.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("ca.pem holds no certificate")
	}
	return b, nil
}

// freePorts finds two below those that the kernel gives to outgoing connections,
// so that nobody takes them while the broker is down.
func freePorts() (ports [2]int, err error) {
	found := 0
	for range 100 {
		port := 20000 + rand.IntN(10000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer l.Close()
		ports[found] = port
		if found++; found == len(ports) {
			return ports, nil
		}
	}
	return ports, errors.New("no free ports found")
}

func (b *broker) dial(secure bool) (net.Conn, error) {
	d := &net.Dialer{Timeout: patience}
	if secure && b.tls != nil {
		return tls.DialWithDialer(d, "tcp", b.secure, b.tls)
	}
	return d.Dial("tcp", b.plain)
}

// start starts the broker; it may not be listening yet. What it prints goes to a
// file of its own for each start.
func (b *broker) start() error {
	b.starts++
	log, err := os.Create(filepath.Join(b.dir, fmt.Sprintf("broker-%03d.log", b.starts)))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(b.command[0], b.command[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	b.journal.add(event{kind: start, client: "-", text: filepath.Base(log.Name())})
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, gone: make(chan struct{})}
	b.process.Store(p)
	go func() {
		p.err = cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.meant {
			b.journal.trouble("-", "the broker ended by itself: %v, see %s", p.err, filepath.Base(log.Name()))
		}
		close(p.gone)
	}()
	return nil
}

// signal ends the broker, unless that is under way.
func (b *broker) signal(s syscall.Signal) {
	p := b.process.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.meant {
		return
	}
	p.meant = true
	if s == syscall.SIGKILL {
		b.journal.add(event{kind: kill, client: "-"})
	}
	p.cmd.Process.Signal(s)
}

// told reports whether the process was signalled.
func (p *process) told() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.meant
}

// stop ends the broker orderly.
func (b *broker) stop() {
	p := b.process.Load()
	b.signal(syscall.SIGTERM)
	select {
	case <-p.gone:
		if p.err != nil {
			b.journal.trouble("-", "the broker was asked to end, and did with %v", p.err)
		}
	case <-time.After(patience):
		b.journal.trouble("-", "the broker did not end %v after SIGTERM", patience)
		p.cmd.Process.Kill()
		<-p.gone
	}
}

var complaint = regexp.MustCompile(`(?m)^.*(DATA RACE|panic:|fatal error:|goroutine \d+ \[|level=ERROR).*$`)

// inspect looks for errors in what the broker has printed.
func (b *broker) inspect() {
	for i := 1; i <= b.starts; i++ {
		name := fmt.Sprintf("broker-%03d.log", i)
		text, err := os.ReadFile(filepath.Join(b.dir, name))
		if line := complaint.Find(text); line != nil || err != nil {
			b.journal.trouble("-", "%s: %s %v", name, line, err)
		}
	}
}
