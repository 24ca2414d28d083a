package control

import (
	"fmt"
	"net"
	"syscall"
)

// peer is the process at the other end of a connection; zero PID: unknown.
type peer struct {
	PID      int
	UID, GID int // -1: unknown
}

// peerOf asks the system who is at the other end of c.
func peerOf(c net.Conn) peer {
	p := peer{UID: -1, GID: -1}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return p
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return p
	}
	_ = raw.Control(func(fd uintptr) { p.ask(int(fd)) })
	return p
}

// where names the process in a message.
func (p peer) where() string {
	if p.PID == 0 {
		return ""
	}
	return fmt.Sprintf(": process %d", p.PID)
}
