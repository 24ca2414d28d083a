package transport

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Out of descriptors, the broker refuses newcomers at once, says so, neither
// spins nor dies, and accepts again when there is room. The test runs itself
// in a process with few descriptors.
func TestOutOfDescriptors(t *testing.T) {
	if os.Getenv("TRANSPORT_FEW_DESCRIPTORS") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestOutOfDescriptors$", "-test.v")
		cmd.Env = append(os.Environ(), "TRANSPORT_FEW_DESCRIPTORS=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	var log bytes.Buffer
	ln, err := Listen(Config{Address: "127.0.0.1:0", Plain: true}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Run(echoHandler{c})
		}
	}()
	ask := func() (net.Conn, error) {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return nil, err
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		c.Write([]byte("x"))
		_, err = io.ReadFull(c, make([]byte, 1))
		return c, err
	}
	first, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	// The client's sockets come out of the same limit: leave it one and the
	// server none.
	var hoard []*os.File
	client, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var lim syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim)
	lim.Cur = 64
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim)
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		hoard = append(hoard, f)
	}
	addr := ln.Addr().(*net.TCPAddr)
	if err := syscall.Connect(client, &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}); err != nil {
		t.Fatal(err)
	}
	if n, err := syscall.Read(client, make([]byte, 1)); n > 0 {
		t.Errorf("not refused: %d, %v", n, err)
	}
	for _, f := range hoard {
		f.Close()
	}
	again, err := ask()
	if err != nil {
		t.Fatalf("with room again: %v", err)
	}
	again.Close()
	first.Close()
	ln.Close()
	<-done
	if err := ln.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "no file descriptor left") {
		t.Errorf("log: %s", log.String())
	}
}
