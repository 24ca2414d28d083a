package transport

import (
	"net"
	"syscall"
	"testing"
)

// What a peer sent before it closed arrives, even if it closed with bytes
// unread, so that a write meets the reset before the reader meets the bytes.
func TestLastWordsBeforeReset(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		var r *recorder
		reading := make(chan struct{})
		said := make(chan struct{})
		s := startServer(t, k, Config{}, func(rec *recorder) {
			r = rec
			rec.onData = func(p []byte) error {
				rec.data = append(rec.data, p...)
				if len(p) == 0 {
					return nil
				}
				select {
				case <-reading:
					return nil
				default:
				}
				// The first message: its answer is never read.
				close(reading)
				if err := rec.conn.Write([]byte("unread")); err != nil {
					t.Error(err)
				}
				<-said
				for rec.conn.Write([]byte("to nobody")) == nil {
				}
				return nil
			}
		})
		nc := s.dialTCP()
		c := s.wrap(nc)
		c.Write([]byte("first "))
		wait(t, "the first message", reading)
		awaitUnread(t, nc)
		c.Write([]byte("last"))
		nc.Close()
		close(said)
		wait(t, "closed", r.done)
		if got := r.text(); got != "first last" || r.err == nil {
			t.Errorf("got %q, then %v; want all that was sent, then the reset", got, r.err)
		}
		s.stop()
	})
}

// awaitUnread waits until the kernel has bytes for nc, and leaves them there.
func awaitUnread(t *testing.T, nc net.Conn) {
	rc, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := rc.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return err != syscall.EAGAIN
	}); err != nil {
		t.Fatal(err)
	}
}
