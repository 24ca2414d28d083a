package identity

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// need skips the test when a program is not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("skipped: %v; Debian has it in mosquitto-clients, openssl, curl, coreutils or bsdutils", err)
		}
	}
}

const python = "/usr/bin/python3" // where Debian's packages are

// needPaho skips the test when paho for Python is not installed.
func needPaho(t *testing.T) {
	t.Helper()
	if err := exec.Command(python, "-c", "import paho.mqtt.client").Run(); err != nil {
		t.Skip("skipped: no paho for Python; needs the Debian package python3-paho-mqtt")
	}
}

func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SEALMQ_DATA=data", "LC_ALL=C")
	return cmd
}

// run runs a program to its end and returns all that it prints.
func run(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	return feed(t, dir, "", name, args...)
}

// feed is run with an input.
func feed(t *testing.T, dir, input, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *patience)
	defer cancel()
	cmd := command(ctx, dir, name, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s %q: no end after %v:\n%s", name, args, *patience, out)
	}
	return string(out), err
}

func mustRun(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := run(t, dir, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// process is a program that runs beside the test.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

// spawn starts one, which is killed at the latest at the end of the test.
func spawn(t *testing.T, dir, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: command(context.Background(), dir, name, args...), ended: make(chan struct{})}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = in, in
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	go func() {
		defer close(p.ended)
		defer out.Close()
		buf := bufio.NewReader(out)
		for part := make([]byte, 4096); ; {
			n, err := buf.Read(part)
			p.mu.Lock()
			p.out.Write(part[:n])
			p.mu.Unlock()
			if err != nil {
				break
			}
		}
		p.cmd.Wait()
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// await waits until the process has printed all these words.
func (p *process) await(t *testing.T, words ...string) {
	t.Helper()
	eventually(t, func() error {
		out := p.printed()
		for _, word := range words {
			if !strings.Contains(out, word) {
				return fmt.Errorf("%s has not printed %q, but:\n%s", p.cmd.Path, word, tail(out))
			}
		}
		return nil
	})
}

// eventually waits until check finds nothing wrong.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	for end := time.Now().Add(*patience); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v: %v", *patience, err)
		}
	}
}

var connections atomic.Int64

// clientID is one that a device may use, and no other connection does.
func (d device) clientID() string { return fmt.Sprintf("%s/%d", d.id, connections.Add(1)) }

// publish sends one message with mosquitto_pub and waits for its PUBACK.
func publish(t *testing.T, e endpoint, d device, topic, payload string, more ...string) (string, error) {
	t.Helper()
	args := append(append(e.flags(), d.flags()...), "-i", d.clientID(), "-q", "1", "-t", topic, "-m", payload)
	return run(t, "", "mosquitto_pub", append(args, more...)...)
}

// admitted checks that a device gets in, with MQTT 3.1.1 and 5.
func admitted(t *testing.T, e endpoint, d device) {
	t.Helper()
	for _, v := range []string{"311", "5"} {
		if out, err := publish(t, e, d, "hello/"+d.id, "hello", "-V", v); err != nil {
			t.Fatalf("%s does not get in with version %s: %v\n%s", d.cert, v, err, out)
		}
	}
}

// barred checks that a device does not get in, and that the log says why.
func (b *broker) barred(t *testing.T, e endpoint, d device, words ...string) {
	t.Helper()
	from := b.mark()
	out, err := publish(t, e, d, "hello/"+d.id, "hello")
	if err == nil {
		t.Fatalf("%s gets in:\n%s", d.cert, out)
	}
	b.awaitLog(t, from, append([]string{"refused"}, words...)...)
}

// subscribe starts mosquitto_sub and waits until it has subscribed. It prints
// its messages as topic, a blank and the payload, and reports what it does.
func subscribe(t *testing.T, e endpoint, d device, clientID, version string, more ...string) *process {
	t.Helper()
	args := append([]string{"-oL", "mosquitto_sub", "-V", version, "-d", "-v", "-i", clientID, "-q", "1"}, e.flags()...)
	p := spawn(t, "", "stdbuf", append(append(args, d.flags()...), more...)...)
	p.await(t, "Subscribed (mid")
	return p
}

// awaitListed waits until the revocation list that is published has a device's
// certificate, and openssl therefore refuses it.
func (b *broker) awaitListed(t *testing.T, d device) {
	t.Helper()
	dir := t.TempDir()
	eventually(t, func() error {
		mustRun(t, dir, "curl", "-sSf", "-o", "device.crl", b.published+"device.crl")
		mustRun(t, dir, "curl", "-sSf", "-o", "ca.pem", b.published+"ca.pem")
		mustRun(t, dir, "openssl", "crl", "-inform", "DER", "-in", "device.crl", "-out", "device.pem", "-CAfile", b.path("data/ca/device.pem"))
		out, err := run(t, dir, "openssl", "verify", "-crl_check", "-CRLfile", "device.pem", "-CAfile", "ca.pem", "-untrusted", b.path("data/ca/device.pem"), d.cert)
		if err == nil || !strings.Contains(out, "certificate revoked") {
			return fmt.Errorf("openssl verify -crl_check: %v\n%s", err, out)
		}
		return nil
	})
}
