package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// peer is a broker that can be started.
type peer struct {
	name    string
	command string // run by sh; $TLS_PORT and the others of variables() are replaced in it and in config
	config  string // written to $CONFIG first, when not empty
	durable string // and this after it for workloads with persistent sessions
	ask     string // prints its version; run by sh
	version string
}

// sealmqConfig and mosquittoConfig say the same: a TLS listener for everybody, one that wants client certificates, one
// without TLS, and queues so long that no workload loses QoS 1 messages. SealMQ has its store on disk, as it has unless it
// is told otherwise, and a policy that is asked about each message; Mosquitto has nothing on disk, as it has unless it is told otherwise, but for persistent sessions.
const sealmqConfig = `data = "$DATA/sealmq"
policy = "$POLICY"

[limits]
max_queued_messages = 100000000
max_queued_bytes = "64GiB"

[[listener]]
address = "127.0.0.1:$TLS_PORT"
certificate = "$CERT"
key = "$KEY"
client_certificates = "none"
anonymous = true

[[listener]]
address = "127.0.0.1:$MTLS_PORT"
certificate = "$CERT"
key = "$KEY"
client_ca = "$CA"

[[listener]]
address = "127.0.0.1:$PLAIN_PORT"
tls = false
anonymous = true
`

const mosquittoDurable = `persistence true
persistence_location $DATA/
`

const mosquittoConfig = `allow_anonymous true
log_type error
max_queued_messages 100000000

listener $TLS_PORT 127.0.0.1
certfile $CERT
keyfile $KEY

listener $MTLS_PORT 127.0.0.1
certfile $CERT
keyfile $KEY
cafile $CA
require_certificate true

listener $PLAIN_PORT 127.0.0.1
`

// variables are what a command and a configuration may speak of.
func (e *environment) variables(name string) func(string) string {
	return func(v string) string {
		switch v {
		case "DIR":
			return e.dir
		case "DATA":
			return e.data(name)
		case "CONFIG":
			return e.file(name + ".conf")
		case "PLAIN_PORT":
			return strconv.Itoa(e.plainPort)
		case "TLS_PORT":
			return strconv.Itoa(e.tlsPort)
		case "MTLS_PORT":
			return strconv.Itoa(e.mtlsPort)
		case "CERT":
			return e.file("server.pem")
		case "KEY":
			return e.file("server.key")
		case "POLICY":
			return e.file("open.policy")
		case "CA":
			return e.file("ca.pem")
		}
		return os.Getenv(v)
	}
}

// addPeer takes NAME=COMMAND, or NAME.version=COMMAND for how to ask a peer's version.
func (o *options) addPeer(s string) error {
	name, command, ok := strings.Cut(s, "=")
	name, command = strings.TrimSpace(name), strings.TrimSpace(command)
	if !ok || name == "" || command == "" {
		return fmt.Errorf("%q: NAME=COMMAND is wanted", s)
	}
	name, isVersion := strings.CutSuffix(name, ".version")
	if strings.ContainsAny(name, "/ |\t") {
		return fmt.Errorf("%q: a name has no slash, space or bar", name)
	}
	for i := range o.peers {
		if o.peers[i].name != name {
			continue
		}
		if !isVersion {
			return fmt.Errorf("%s is there twice", name)
		}
		o.peers[i].ask = command
		return nil
	}
	if isVersion {
		return fmt.Errorf("%s.version comes before %s", name, name)
	}
	if name == "sealmq" {
		return errors.New("sealmq is always there; --sealmq says which program")
	}
	o.peers = append(o.peers, peer{name: name, command: command})
	return nil
}

// readPeers takes a file of such lines; empty ones and those that begin with # do not count.
func (o *options) readPeers(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if s := strings.TrimSpace(lines.Text()); s != "" && s[0] != '#' {
			if err := o.addPeer(s); err != nil {
				return fmt.Errorf("%s:%d: %w", file, n, err)
			}
		}
	}
	return lines.Err()
}

// findPeers is SealMQ, Mosquitto when it is installed, and what the flags name.
func (o *options) findPeers(ctx context.Context, e *environment, stderr io.Writer) ([]peer, error) {
	program := o.sealmq
	if program == "" {
		program = e.file("sealmq")
		fmt.Fprintln(stderr, "building sealmq")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "github.com/sealmq/sealmq/cmd/sealmq")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build sealmq: %w\n%s", err, out)
		}
	}
	program, err := filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	all := []peer{{name: "sealmq", command: program + " serve --config $CONFIG", config: sealmqConfig, ask: program + " version"}}
	named := false
	for _, p := range o.peers {
		named = named || p.name == "mosquitto"
	}
	if mosquitto := findMosquitto(ctx, o.install, stderr); mosquitto != "" && !named {
		config := mosquittoConfig
		if os.Geteuid() == 0 {
			// It would become another user, who may not read the key.
			config = "user root\n" + config
		}
		all = append(all, peer{name: "mosquitto", command: mosquitto + " -c $CONFIG", config: config, durable: mosquittoDurable, ask: mosquitto + " -h"})
	}
	all = append(all, o.peers...)
	for i := range all {
		all[i].version = all[i].askVersion(ctx, e)
	}
	return all, nil
}

// findMosquitto is its path, empty when it is not there and not to be had.
func findMosquitto(ctx context.Context, install bool, stderr io.Writer) string {
	look := func() string {
		for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto"} {
			if path, err := exec.LookPath(name); err == nil {
				return path
			}
		}
		return ""
	}
	path := look()
	if path != "" {
		return path
	}
	if !install || os.Geteuid() != 0 {
		fmt.Fprintln(stderr, "mosquitto is not installed: nothing to compare with; --install, as root, installs Debian's")
		return ""
	}
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "mosquitto"}} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-qq"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(stderr, "apt-get %s: %v\n%s", args[0], err, out)
		}
	}
	return look()
}

func (p *peer) askVersion(ctx context.Context, e *environment) string {
	if p.ask == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// Some print their version with a help page and an exit code.
	out, _ := exec.CommandContext(ctx, "sh", "-c", os.Expand(p.ask, e.variables(p.name))).CombinedOutput()
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return strings.TrimSpace(string(line))
}

// plain tells whether the broker listens without TLS as well.
func (p *peer) plain() bool { return strings.Contains(p.command+p.config, "$PLAIN_PORT") }

// configured is the configuration for a workload.
func (p *peer) configured(w *workload) string {
	if w.durable() {
		return p.config + p.durable
	}
	return p.config
}

// server is a broker that runs.
type server struct {
	name    string
	command string
	dir     string
	log     string
	cmd     *exec.Cmd
	done    chan struct{} // closed at its end
}

// start returns when the broker listens, with nothing in its data folder from earlier runs.
func (p *peer) start(ctx context.Context, e *environment, w *workload) (*server, error) {
	expand := e.variables(p.name)
	if err := errors.Join(os.RemoveAll(e.data(p.name)), os.Mkdir(e.data(p.name), 0o700)); err != nil {
		return nil, err
	}
	if p.config != "" {
		if err := os.WriteFile(expand("CONFIG"), []byte(os.Expand(p.configured(w), expand)), 0o600); err != nil {
			return nil, err
		}
	}
	s := &server{name: p.name, command: os.Expand(p.command, expand), dir: e.dir, log: e.file(p.name + ".log")}
	if err := s.run(); err != nil {
		return nil, err
	}
	ports := []int{e.tlsPort, e.mtlsPort}
	if p.plain() {
		ports = append(ports, e.plainPort)
	}
	for _, port := range ports {
		if err := s.listening(ctx, port); err != nil {
			s.stop()
			return nil, fmt.Errorf("start %s: %w%s", p.name, err, s.lastWords())
		}
	}
	return s, nil
}

// run starts the process.
func (s *server) run() error {
	log, err := os.Create(s.log)
	if err != nil {
		return err
	}
	defer log.Close()
	// exec: the process to be measured is the broker, not the shell.
	cmd := exec.Command("sh", "-c", "exec "+s.command)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	s.cmd, s.done = cmd, done
	return nil
}

// restart is a bench.Config.Restart.
func (s *server) restart(context.Context) (int, error) {
	s.cmd.Process.Kill()
	<-s.done
	if err := s.run(); err != nil {
		return 0, err
	}
	return s.pid(), nil
}

// listening waits for a port to be open.
func (s *server) listening(ctx context.Context, port int) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return errors.New("it has ended")
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not listen on port %d", port)
		}
	}
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// stop ends the broker and waits for its end.
func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		s.cmd.Process.Kill()
		<-s.done
	}
}

// lastWords is the end of the broker's output, for an error.
func (s *server) lastWords() string {
	b, err := os.ReadFile(s.log)
	b = bytes.TrimSpace(b)
	if err != nil || len(b) == 0 {
		return ""
	}
	if len(b) > 500 {
		b = b[len(b)-500:]
	}
	return "; its last words: " + strings.ReplaceAll(string(b), "\n", " | ")
}
