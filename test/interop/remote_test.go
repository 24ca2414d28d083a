package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// remote is a client library of another language: a program that reads commands
// from its standard input and writes events to its standard output, one JSON
// object a line, byte strings in base64. One process holds all connections of a test, told apart by
// number.
type remote struct {
	in io.Writer

	mu    sync.Mutex
	count int
	calls map[int]func(event)
}

type command struct {
	Op            string // listen, publish, stop, kill
	Call          int
	Session       session
	Host          string
	Port          int
	TLS           *tlsFiles
	Expiry        int // of a persistent session, in seconds
	Subscriptions []subscription
	Messages      []message
}

type tlsFiles struct{ CA, Cert, Key string }

type event struct {
	Call    int
	Event   string // ready, message, error, closed
	Error   string
	Message message
}

// startRemote runs the program until the end of the test.
func startRemote(t *testing.T, cmd *exec.Cmd) *remote {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said lockedBuffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &remote{in: in, calls: map[int]func(event){}}
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				r.lost()
				return
			}
			var e event
			if err := json.Unmarshal(line, &e); err != nil {
				said.Write(line)
				continue
			}
			r.mu.Lock()
			call := r.calls[e.Call]
			r.mu.Unlock()
			if call != nil {
				call(e)
			}
		}
	}()
	t.Cleanup(func() {
		in.Close()
		stuck := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer stuck.Stop()
		<-reading
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("%s: %v\n%s", cmd.Path, err, said.String())
		}
	})
	return r
}

// lost tells every call that the program has ended.
func (r *remote) lost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, call := range r.calls {
		go call(event{Call: n, Event: "error", Error: "the client program has ended"})
	}
}

// call sends a command whose events go to handle.
func (r *remote) call(c command, handle func(event)) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	c.Call = r.count
	r.calls[c.Call] = handle
	r.send(c)
	return c.Call
}

func (r *remote) send(c command) {
	s := c.Session.Server
	c.Host, c.Port = s.host, s.port
	if s.tls() {
		c.TLS = &tlsFiles{CA: s.ca, Cert: s.cert, Key: s.key}
	}
	line, err := json.Marshal(c)
	if err == nil {
		_, err = r.in.Write(append(line, '\n'))
	}
	_ = err // a program that has ended is reported by lost
}

func (r *remote) publish(_ *testing.T, s session, msgs ...message) error {
	c := command{Op: "publish", Session: s, Expiry: sessionExpiry, Messages: msgs}
	done := make(chan event, 4)
	r.call(c, func(e event) { done <- e })
	return await(done)
}

func (r *remote) listen(t *testing.T, s session, subs ...subscription) (*listener, error) {
	c := command{Op: "listen", Session: s, Expiry: sessionExpiry, Subscriptions: subs}
	l := newListener(t)
	ready := make(chan event, 4)
	n := r.call(c, func(e event) {
		switch e.Event {
		case "message":
			l.got(e.Message)
		case "closed":
			l.closed()
		default:
			select {
			case ready <- e:
			default: // an error after the end of the wait
			}
		}
	})
	control := func(op string) func() {
		return func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.send(command{Op: op, Call: n})
		}
	}
	l.stop, l.kill = control("stop"), control("kill")
	return l, await(ready)
}

func await(events <-chan event) error {
	select {
	case e := <-events:
		if e.Event == "ready" {
			return nil
		}
		return errors.New(e.Event + ": " + e.Error)
	case <-time.After(patience):
		return errors.New("no answer from the client program")
	}
}
