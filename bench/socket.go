package bench

import (
	"net"
	"time"
)

// socket lies between the network and TLS. It reads as much as the kernel has, so that a broker that puts each message
// into a record of its own does not cost a system call for each; and it tells when the last batch has been used up.
type socket struct {
	net.Conn
	buf  []byte // nil: no buffer, reads go through
	r, w int
	// before is called before the kernel is asked for more: the time for what a batch of messages has in common.
	before func()
	// at is when the last bytes came, counted from epoch, zero until that is set.
	epoch time.Time
	at    time.Duration
	used  bool
}

func (s *socket) Read(p []byte) (int, error) {
	if s.r < s.w {
		n := copy(p, s.buf[s.r:s.w])
		s.r += n
		return n, nil
	}
	if s.before != nil {
		s.before()
	}
	direct := len(p) >= len(s.buf)
	into := p
	if !direct {
		into = s.buf
	}
	n, err := s.Conn.Read(into)
	if !s.epoch.IsZero() {
		s.at = time.Since(s.epoch)
	}
	if direct {
		return n, err
	}
	s.r, s.w = copy(p, s.buf[:n]), n
	return s.r, err
}

// under is handed to DialFunc.
func (s *socket) under(c net.Conn) net.Conn {
	s.Conn, s.used = c, true
	return s
}
