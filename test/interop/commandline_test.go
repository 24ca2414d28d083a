package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// commandLine is a client of two commands with the flags of mosquitto_pub and
// mosquitto_sub. Each connection is a process.
type commandLine struct {
	pub, sub []string // the beginning of each command line
	plain    []string // flags for a connection without TLS
	ready    string   // what the sub command says with -d after the SUBACK
	settle   bool     // the sub command must not be signalled while it is busy
}

func (c commandLine) versions() []version { return []version{v31, v311, v5} }

// flags are what both commands have in common.
func (c commandLine) flags(s session) []string {
	name := map[version]string{v31: "mqttv31", v311: "mqttv311", v5: "mqttv5"}[s.Version]
	args := []string{"-h", s.Server.host, "-p", strconv.Itoa(s.Server.port), "-V", name, "-i", s.ID, "-d"}
	if !s.Server.tls() {
		return append(args, c.plain...)
	}
	args = append(args, "--cafile", s.Server.ca)
	if s.Server.cert != "" {
		args = append(args, "--cert", s.Server.cert, "--key", s.Server.key)
	}
	return args
}

// publish needs a process for each run of messages that differ in payload alone.
func (c commandLine) publish(t *testing.T, s session, msgs ...message) error {
	for len(msgs) > 0 {
		n := sameButPayload(msgs)
		if err := c.publishRun(t, s, msgs[:n]); err != nil {
			return err
		}
		msgs = msgs[n:]
	}
	return nil
}

func (c commandLine) publishRun(t *testing.T, s session, msgs []message) error {
	m := msgs[0]
	args := append(append([]string{}, c.pub[1:]...), c.flags(s)...)
	args = append(args, "-t", m.Topic, "-q", strconv.Itoa(int(m.QoS)))
	if m.Retain {
		args = append(args, "-r")
	}
	var input bytes.Buffer
	switch {
	case len(msgs) > 1:
		args = append(args, "-l") // a message a line
		for _, m := range msgs {
			input.Write(m.Payload)
			input.WriteByte('\n')
		}
	case len(m.Payload) == 0:
		args = append(args, "-n")
	default:
		args = append(args, "-s") // all of the input
		input.Write(m.Payload)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.pub[0], append(args, propertyFlags("publish", m)...)...)
	cmd.Stdin = &input
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", c.pub[0], err, out)
	}
	return nil
}

// sameButPayload is how many of the first messages can be sent as lines.
func sameButPayload(msgs []message) int {
	kind := func(m message) string {
		if len(m.Payload) == 0 || bytes.ContainsAny(m.Payload, "\r\n") {
			return ""
		}
		m.Payload = nil
		return fmt.Sprint(m, m.Expiry)
	}
	n := 1
	for n < len(msgs) && kind(msgs[0]) != "" && kind(msgs[n]) == kind(msgs[0]) {
		n++
	}
	return n
}

// line is how the sub command prints a message: the payload in hex, since it
// may hold anything.
const line = `MSG\t%t\t%q\t%r\t%C\t%R\t%D\t%E\t%F\t%P\t%x`

func (c commandLine) listen(t *testing.T, s session, subs ...subscription) (*listener, error) {
	args := append(append([]string{}, c.sub[1:]...), c.flags(s)...)
	for _, sub := range subs {
		args = append(args, "-t", sub.Filter, "-q", strconv.Itoa(int(sub.QoS)))
	}
	if s.Persistent {
		args = append(args, "-c")
		if s.Version == v5 {
			args = append(args, "-x", strconv.Itoa(sessionExpiry))
		}
	}
	if w := s.Will; w != nil {
		args = append(args, "--will-topic", w.Topic, "--will-payload", string(w.Payload), "--will-qos", strconv.Itoa(int(w.QoS)))
		args = append(args, propertyFlags("will", *w)...)
	}
	cmd := exec.Command(c.sub[0], append(args, "-F", line)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}

	l := newListener(t)
	l.stop = func() {
		if c.settle {
			asleep(cmd.Process.Pid)
		}
		cmd.Process.Signal(syscall.SIGTERM)
	}
	l.kill = func() { cmd.Process.Kill() }
	t.Cleanup(func() { l.kill() })
	subscribed := make(chan struct{})
	var once sync.Once
	var said lockedBuffer
	read := func(r io.Reader) {
		for in := bufio.NewReader(r); ; {
			text, err := in.ReadString('\n')
			if m, ok := parseLine(text); ok {
				l.got(m)
			} else {
				said.Write([]byte(text))
				if strings.Contains(text, c.ready) {
					once.Do(func() { close(subscribed) })
				}
			}
			if err != nil {
				return
			}
		}
	}
	var reading sync.WaitGroup
	reading.Go(func() { read(stdout) })
	reading.Go(func() { read(stderr) })
	go func() {
		reading.Wait()
		cmd.Wait()
		l.closed()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case <-subscribed:
		return l, nil
	case <-l.ended:
		return nil, fmt.Errorf("%s ended:\n%s", c.sub[0], said.String())
	case <-ctx.Done():
		return nil, fmt.Errorf("%s got no SUBACK:\n%s", c.sub[0], said.String())
	}
}

// asleep waits until a process of one thread waits for something, as far as
// the system can tell.
func asleep(pid int) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, state, found := strings.Cut(string(stat), ") ")
		if err != nil || !found || !strings.HasPrefix(state, "R") {
			return
		}
	}
}

// propertyFlags are the -D flags for a packet, "publish" or "will".
func propertyFlags(packet string, m message) []string {
	var args []string
	set := func(name string, values ...string) { args = append(append(args, "-D", packet, name), values...) }
	if m.ContentType != "" {
		set("content-type", m.ContentType)
	}
	if m.ResponseTopic != "" {
		set("response-topic", m.ResponseTopic)
	}
	if m.Correlation != nil {
		set("correlation-data", string(m.Correlation))
	}
	if m.UTF8 {
		set("payload-format-indicator", "1")
	}
	if m.Expiry > 0 {
		set("message-expiry-interval", strconv.Itoa(int(m.Expiry)))
	}
	for _, u := range m.User {
		key, value, _ := strings.Cut(u, ":")
		set("user-property", key, value)
	}
	return args
}

// parseLine reads what line made of a message.
func parseLine(text string) (message, bool) {
	f := strings.Split(strings.TrimSuffix(text, "\n"), "\t")
	if len(f) != 11 || f[0] != "MSG" {
		return message{}, false
	}
	qos, err := strconv.ParseUint(f[2], 10, 8)
	if err != nil {
		return message{}, false
	}
	payload, err := hex.DecodeString(f[10])
	if err != nil {
		return message{}, false
	}
	expiry, _ := strconv.ParseUint(f[7], 10, 32)
	m := message{Topic: f[1], QoS: byte(qos), Retain: f[3] == "1", ContentType: f[4], ResponseTopic: f[5],
		UTF8: f[8] == "1", Expiry: uint32(expiry), Payload: payload}
	if f[6] != "" {
		m.Correlation = []byte(f[6])
	}
	if f[9] != "" {
		m.User = strings.Split(f[9], " ")
	}
	return m, true
}

// lockedBuffer is a buffer that two readers may fill.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
