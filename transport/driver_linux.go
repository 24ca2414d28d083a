package transport

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const haveEpoll = true

// controlListener sets on the listening socket what accepted ones inherit.
func controlListener(idle time.Duration) func(string, string, syscall.RawConn) error {
	return func(_, _ string, rc syscall.RawConn) error {
		var err error
		cerr := rc.Control(func(fd uintptr) {
			secs := max(1, int(idle/time.Second))
			for _, o := range [...][3]int{
				{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
				{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, secs},
				{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, min(secs, 15)},
				{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4},
			} {
				if err == nil {
					err = unix.SetsockoptInt(int(fd), o[0], o[1], o[2])
				}
			}
		})
		if cerr != nil {
			return cerr
		}
		return err
	}
}

// newLinkFor returns the driver that g is configured for, and how to stop it.
func newLinkFor(g *group) (newLink func(*conn) link, stop func()) {
	if g.cfg.Poller == PollerGoroutine {
		return newRawLink, func() {}
	}
	p := &poller{g: g}
	g.yield = p.yield
	return newEpollLink(p), p.close
}
