package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
)

// A reset after the first large record, from a client of TLS 1.2, is a buffer
// that is too small; any other reset is a reset.
func TestRecordTooBig(t *testing.T) {
	for _, driver := range testDrivers() {
		for _, tt := range []struct {
			name    string
			version uint16
			size    int
			answers bool
			want    bool
		}{
			{name: "large", version: tls.VersionTLS12, size: 20_000, want: true},
			{name: "small", version: tls.VersionTLS12, size: 500},
			{name: "TLS 1.3", version: tls.VersionTLS13, size: 20_000},
			{name: "answered", version: tls.VersionTLS12, size: 20_000, answers: true},
		} {
			t.Run(driver+"/"+tt.name, func(t *testing.T) {
				recorders := make(chan *recorder, 1)
				s := startServer(t, kind{driver: driver, tls: tt.version}, Config{}, func(r *recorder) {
					r.conn.Write(pattern(tt.size))
					recorders <- r
				})
				nc := s.dialTCP()
				c := s.wrap(nc)
				r := <-recorders
				if tt.answers {
					io.ReadFull(c, make([]byte, tt.size))
					c.Write([]byte("thanks"))
					eventually(t, "answer", func() bool { return r.received() == 6 })
				} else if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				nc.(*net.TCPConn).SetLinger(0) // a reset
				nc.Close()
				wait(t, "end", r.done)
				var lost *LostError
				if errors.As(r.err, &lost) != tt.want || !errors.Is(r.err, syscall.ECONNRESET) {
					t.Fatalf("%v", r.err)
				}
				if lost != nil {
					cause, hint := lost.Refused()
					if cause != string(CauseRecordTooBig) || hint == "" || !strings.Contains(lost.Error(), "E-TLS-029") {
						t.Errorf("%s, %s: %v", cause, hint, lost)
					}
				}
				s.stop()
			})
		}
	}
}
