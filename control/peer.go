package control

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
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

// who names the user of the process, for the log.
func (p peer) who() string {
	if p.UID < 0 {
		return "operator"
	}
	u, err := user.LookupId(strconv.Itoa(p.UID))
	if err != nil {
		return fmt.Sprintf("operator uid %d", p.UID)
	}
	return fmt.Sprintf("operator uid %d (%.64s)", p.UID, u.Username)
}

// self is this process.
func self(net.Conn) peer { return peer{PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid()} }

// caller names who has sent a request.
func caller(r *http.Request) string {
	p, ok := r.Context().Value(peerKey{}).(peer)
	if !ok {
		return "operator"
	}
	return p.who()
}
