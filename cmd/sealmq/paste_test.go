package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// broker is `sealmq serve` as a process, in a folder of its own.
type broker struct {
	dir   string
	port  int
	lines []string // that it printed to be pasted
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("needs a POSIX shell")
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{dir: t.TempDir(), port: port}
	cfg := fmt.Sprintf("[[listener]]\naddress = \":%d\"\n", port)
	if err := os.WriteFile(filepath.Join(b.dir, "sealmq.toml"), []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sealmq", "serve", "--config", "sealmq.toml")
	cmd.Dir = b.dir
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("sealmq serve: %v", err)
		}
	})
	for in := bufio.NewScanner(out); in.Scan(); {
		if line, ok := strings.CutPrefix(in.Text(), "  "); ok {
			b.lines = append(b.lines, line)
		}
		if strings.Contains(in.Text(), "device add") {
			return b
		}
	}
	t.Fatal("the broker printed no lines")
	return nil
}

// printed is the line that begins with these words.
func (b *broker) printed(t *testing.T, begin string) string {
	t.Helper()
	for _, l := range b.lines {
		if strings.HasPrefix(l, begin+" ") {
			return l
		}
	}
	t.Fatalf("no line %q among %q", begin, b.lines)
	return ""
}

// listen pastes a line that shows messages and returns what it shows. The
// subscription may be a moment away when it returns.
func listen(t *testing.T, dir, line string) *bufio.Scanner {
	t.Helper()
	cmd := exec.Command("sh", "-c", "exec "+line)
	cmd.Dir = dir
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return bufio.NewScanner(out)
}

// paste runs a line to its end.
func paste(dir, line string) error {
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", line, err, out)
	}
	return nil
}

// exchange pastes pub until sub shows want: it is not to be seen from outside
// when a subscription begins.
func exchange(t *testing.T, dir, sub, pub, want string) {
	t.Helper()
	in := listen(t, dir, sub)
	shown := make(chan string, 64)
	go func() {
		defer close(shown)
		for in.Scan() {
			shown <- in.Text()
		}
	}()
	deadline := time.After(30 * time.Second)
	for {
		if err := paste(dir, pub); err != nil {
			t.Fatal(err)
		}
		select {
		case line, ok := <-shown:
			if !ok {
				t.Fatalf("%s ended", sub)
			}
			if line != want {
				t.Fatalf("%s shows %q, want %q", sub, line, want)
			}
			return
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%s shows nothing", sub)
		}
	}
}

// The lines that serve prints work as they are, each with each.
func TestPrintedLinesWork(t *testing.T) {
	b := startBroker(t)
	pairs := [][2]string{{"sealmq sub", "sealmq pub"}}
	if has("mosquitto_sub") {
		pairs = append(pairs, [][2]string{{"mosquitto_sub", "mosquitto_pub"}, {"sealmq sub", "mosquitto_pub"}, {"mosquitto_sub", "sealmq pub"}}...)
	} else {
		t.Log("mosquitto-clients is not installed: its lines are not run")
	}
	for _, p := range pairs {
		exchange(t, b.dir, b.printed(t, p[0]), b.printed(t, p[1]), "hello world")
	}
	if err := paste(b.dir, b.printed(t, "sealmq device")); err != nil {
		t.Error(err)
	}
}

// What a device's folder holds works: the lines, and the program for paho.
func TestDeviceSnippetsWork(t *testing.T) {
	b := startBroker(t)
	cmd := exec.Command("sealmq", "device", "add", "pump-17", "--host", "127.0.0.1", "--port", fmt.Sprint(b.port))
	cmd.Dir = b.dir
	printed, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(b.dir, "pump-17")
	if has("mosquitto_sub") {
		for dir, text := range map[string]string{b.dir: string(printed), folder: read(t, filepath.Join(folder, "mosquitto.txt"))} {
			exchange(t, dir, lineOf(t, text, "mosquitto_sub"), lineOf(t, text, "mosquitto_pub"), "pump-17/hello world")
		}
	}
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import paho.mqtt.client").Run() != nil {
		t.Log("python3-paho-mqtt is not installed: paho_device.py is not run")
		return
	}
	in := listen(t, b.dir, python+" pump-17/paho_device.py")
	for _, want := range []string{"connected:", "pump-17/hello world"} {
		if !in.Scan() || !strings.HasPrefix(in.Text(), want) {
			t.Fatalf("paho_device.py prints %q, want %q", in.Text(), want)
		}
	}
}

func has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func lineOf(t *testing.T, text, begin string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, begin+" ") {
			return line
		}
	}
	t.Fatal(errors.New("no line " + begin + " in " + text))
	return ""
}
