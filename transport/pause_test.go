package transport

import (
	"bytes"
	"io"
	"testing"
)

// A paused connection reads nothing, still writes, and goes on where it was; it can be closed all the same.
func TestPause(t *testing.T) {
	for _, ending := range []string{"resume", "close"} {
		t.Run(ending, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) { pause(t, k, ending == "resume") })
		})
	}
}

func pause(t *testing.T, k kind, resume bool) {
	var r *recorder
	paused := make(chan struct{})
	s := startServer(t, k, Config{}, func(rec *recorder) {
		r = rec
		rec.onData = func(p []byte) error {
			if len(p) > 0 && len(rec.data) == 0 {
				rec.conn.Pause()
				rec.conn.Pause() // once more changes nothing
				close(paused)
			}
			rec.data = append(rec.data, p...)
			return nil
		}
	})
	nc := s.dialTCP()
	c := s.wrap(nc)
	c.Write([]byte("first"))
	wait(t, "paused", paused)
	more := bytes.Repeat([]byte("more"), bulk(1<<20))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		c.Write(more)
	}()
	if err := r.conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if got := r.received(); got > len("first")+readBudget {
		t.Errorf("%d bytes arrived while paused", got)
	}
	if resume {
		r.conn.Resume()
		r.conn.Resume()
		eventually(t, "everything has arrived", func() bool { return r.received() == len("first")+len(more) })
		<-sent
		nc.Close()
	} else {
		r.conn.Close(false)
	}
	wait(t, "closed", r.done)
	nc.Close()
	<-sent
	s.stop()
}
