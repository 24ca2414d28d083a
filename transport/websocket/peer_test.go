package websocket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// peerScript returns a command that runs the ws library of Node. The test is
// skipped where that cannot be had.
func peerScript(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if testing.Short() {
		t.Skip("the ws library is not installed in a short test")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skipf("no ws library to test with: %v", err)
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "peer.js"} {
		b, err := os.ReadFile(filepath.Join("testdata/peer", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--fetch-retries=0")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		t.Skipf("no ws library to test with: npm ci: %v\n%s", err, out)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, node, append([]string{"peer.js"}, args...)...)
	cmd.Dir = dir
	return cmd
}

func TestPeerClient(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	var mu sync.Mutex
	var ends []error
	conns.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				err := echo(nc, Options{})
				mu.Lock()
				ends = append(ends, err)
				mu.Unlock()
			})
		}
	})
	defer conns.Wait()
	defer ln.Close()
	cmd := peerScript(t, "client", "ws://"+ln.Addr().String()+"/mqtt")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ln.Close()
	conns.Wait()
	var text strings.Builder
	for _, err := range ends {
		if err != nil {
			text.WriteString(err.Error() + "\n")
		}
	}
	for _, want := range []string{"text frame", `origin "https://evil.example" may not connect`, "does not offer mqtt"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no connection ended with %q:\n%s", want, text.String())
		}
	}
}

func TestPeerServer(t *testing.T) {
	cmd := peerScript(t, "server")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	port, err := lines.ReadString('\n')
	if err == nil {
		err = talk("127.0.0.1:" + strings.TrimSpace(port))
	}
	rest, _ := io.ReadAll(lines)
	if err := errors.Join(err, cmd.Wait()); err != nil || string(rest) != "ok\n" {
		t.Fatalf("%v\n%s%s", err, rest, stderr.Bytes())
	}
}

// talk says something to an echo and waits for it.
func talk(addr string) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	c, err := NewClient(nc, addr, "/mqtt", ClientOptions{})
	if err != nil {
		return err
	}
	defer c.Close()
	for _, size := range []int{1, 125, 126, 65535, 65536, 300000} {
		sent := bytes.Repeat([]byte("sealed"), size)[:size]
		if _, err := c.Write(sent); err != nil {
			return err
		}
		got := make([]byte, size)
		if _, err := io.ReadFull(c, got); err != nil {
			return err
		}
		if !bytes.Equal(got, sent) {
			return errors.New("echo is not what was sent")
		}
	}
	return nil
}
