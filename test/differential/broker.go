package differential

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// broker is a process that listens on address, in the clear.
type broker struct {
	name    string
	address string
	dir     string
	command []string
	cmd     *exec.Cmd
	gone    chan struct{} // closed when the process has ended
	err     error         // how, once gone is closed
}

// startSealmq runs the program path with its defaults, but for what Mosquitto's
// are; its sessions and messages are in memory or on disk.
func startSealmq(path, dir string, memory bool) (*broker, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`data = "data"
policy = "open.policy"
memory = %t
sys_interval = "0s"
[limits]
max_inflight_messages = 20
max_topic_levels = 200
[[listener]]
address = "127.0.0.1:%d"
tls = false
anonymous = true
`, memory, port)
	b := &broker{name: "sealmq", dir: dir, address: fmt.Sprintf("127.0.0.1:%d", port),
		command: []string{path, "serve", "--config", "sealmq.toml"}}
	for name, text := range map[string]string{"sealmq.toml": config, "open.policy": openPolicy} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return b, b.start()
}

// openPolicy allows what Mosquitto without an ACL file allows.
const openPolicy = `policy everybody {
  allow publish, subscribe #
  allow publish, subscribe $x/#
  allow publish, subscribe $marker/#
  allow publish, subscribe $SYS/#
  allow publish, subscribe $/#
  allow publish, subscribe $SHARE/#
}
`

// startMosquitto runs Debian's broker without persistence, which only concerns
// what is left after its end.
func startMosquitto(path, dir string) (*broker, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\nsys_interval 0\npersistence false\n"+
		"log_dest stdout\nset_tcp_nodelay true\n", port)
	b := &broker{name: "mosquitto", dir: dir, address: fmt.Sprintf("127.0.0.1:%d", port), command: []string{path, "-c", "mosquitto.conf"}}
	if err := os.WriteFile(filepath.Join(dir, "mosquitto.conf"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	return b, b.start()
}

// freePort finds one below those that the kernel gives to outgoing connections.
func freePort() (int, error) {
	for range 100 {
		port := 20000 + rand.IntN(10000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port found")
}

const startPatience = time.Minute

// start runs the process and waits until it listens.
func (b *broker) start() error {
	log, err := os.OpenFile(b.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	b.cmd = exec.Command(b.command[0], b.command[1:]...)
	b.cmd.Dir, b.cmd.Stdout, b.cmd.Stderr = b.dir, log, log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := b.cmd.Start(); err != nil {
		return err
	}
	b.gone = make(chan struct{})
	go func() {
		b.err = b.cmd.Wait()
		close(b.gone)
	}()
	for end := time.Now().Add(startPatience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", b.address)
		if err == nil {
			return conn.Close()
		}
		if b.dead() || time.Now().After(end) {
			b.stop()
			text, _ := os.ReadFile(b.log())
			return fmt.Errorf("start %s: %w\n%s", b.name, err, text)
		}
	}
}

func (b *broker) log() string { return filepath.Join(b.dir, b.name+".log") }

func (b *broker) dead() bool {
	select {
	case <-b.gone:
		return true
	default:
		return false
	}
}

// stop ends the process, by force if it has to.
func (b *broker) stop() error {
	if b.dead() {
		return b.err
	}
	b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.gone:
		return b.err
	case <-time.After(startPatience):
		b.cmd.Process.Kill()
		<-b.gone
		return fmt.Errorf("%s did not end after SIGTERM", b.name)
	}
}

// goroutines ends a process of Go by having it print them, and counts those that
// are not the runtime's own.
func (b *broker) goroutines() (int, error) {
	b.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-b.gone:
	case <-time.After(startPatience):
		b.cmd.Process.Kill()
		return 0, fmt.Errorf("%s did not end after SIGQUIT", b.name)
	}
	text, err := os.ReadFile(b.log())
	if err != nil {
		return 0, err
	}
	_, dump, ok := bytes.Cut(text, []byte("SIGQUIT: quit"))
	if !ok {
		return 0, fmt.Errorf("%s printed no goroutines", b.name)
	}
	return len(regexp.MustCompile(`(?m)^goroutine [1-9]\d* .*\[(select|IO wait|chan receive|chan send|sync\.\S+|semacquire|running|runnable|syscall|sleep)`).FindAll(dump, -1)), nil
}

// resident is the memory of the process, in bytes.
func (b *broker) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", b.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm of %s: %q", b.name, text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// descriptors counts the open files of the process.
func (b *broker) descriptors() (int, error) {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.cmd.Process.Pid))
	return len(list), err
}

var complaint = regexp.MustCompile(`(?m)^.*(DATA RACE|panic:|fatal error:|level=ERROR).*$`)

// complaints are the lines of the log that no input may cause.
func (b *broker) complaints() []string {
	text, err := os.ReadFile(b.log())
	if err != nil {
		return []string{err.Error()}
	}
	var all []string
	for _, m := range complaint.FindAll(text, 5) {
		all = append(all, string(m))
	}
	return all
}
