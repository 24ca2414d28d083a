package transport

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const eventsRead = unix.EPOLLIN | unix.EPOLLRDHUP

// epollLink is the epoll driver. Until Run a connection is in Go's poller like
// any other; then its descriptor is duplicated and the original closed, so
// that packets wake our loop alone, to the end of lingering.
//
// The descriptor is used under conn.mu, except for reading, and is closed under
// conn.mu by the loop, which alone reads: no use can overlap or follow.
type epollLink struct {
	c     *conn
	loop  atomic.Pointer[loop] // changed by that loop alone
	home  *loop
	until time.Duration // on the loop's clock, when its fading ends
	ip    netip.Addr    // of the peer
	port  uint16
	added bool // in the loop's set
	phase phase
	fd    int32 // -1: given up
}

// attachLink is a rawLink that moves to a loop when it runs.
type attachLink struct {
	*rawLink
	p *poller
}

func newEpollLink(p *poller) func(*conn) link {
	return func(c *conn) link {
		if l, ok := newRawLink(c).(*rawLink); ok {
			return attachLink{l, p}
		}
		return newStreamLink(c)
	}
}

// run moves the connection to a loop; without descriptors for that it stays.
func (a attachLink) run() {
	c := a.c
	fd, err := dup(a.rc)
	if err != nil {
		a.rawLink.run()
		return
	}
	at, home, err := a.p.join()
	if err != nil {
		unix.Close(fd)
		a.rawLink.run()
		return
	}
	k := &epollLink{c: c, home: home, fd: int32(fd)}
	k.loop.Store(at)
	if ta, ok := c.nc.RemoteAddr().(*net.TCPAddr); ok {
		a := ta.AddrPort()
		k.ip, k.port = a.Addr(), a.Port()
	}
	nc := c.nc
	c.mu.Lock()
	c.io, c.nc = k, nil
	if c.draining {
		// The goroutine that drains leaves the queue to the loop.
		a.moved = make(chan struct{})
		nc.SetWriteDeadline(past)
	}
	moved := a.moved
	c.mu.Unlock()
	if moved != nil {
		<-moved
	}
	nc.Close()

	over, err := c.start()
	if !over {
		over, err = k.add()
	}
	// If it is over, nobody else knows the connection.
	if over && (c.tell(err) != lingering || !k.hand()) {
		k.finish()
	}
}

func dup(rc syscall.RawConn) (fd int, err error) {
	cerr := rc.Control(func(s uintptr) {
		fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	})
	if cerr != nil {
		return -1, cerr
	}
	return fd, err
}

// add gives the connection to its loop. over: it is closed already.
func (k *epollLink) add() (over bool, err error) {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Load() != open {
		return true, nil
	}
	if int(k.fd) >= maxTableFD {
		return true, errors.New("descriptor number too large")
	}
	k.attach()
	return false, nil
}

// attach puts the connection in its loop's set, or posts it closed. mu is held.
func (k *epollLink) attach() {
	ev := unix.EpollEvent{Events: k.events(), Fd: k.fd}
	// From here on the connection is the loop's: even before it is in the set,
	// an event of the descriptor's former user may lead to it.
	k.added = true
	k.home.p.table.set(int(k.fd), k)
	if err := unix.EpollCtl(k.loop.Load().epfd, unix.EPOLL_CTL_ADD, int(k.fd), &ev); err != nil {
		k.c.closing.Store(closed)
		k.c.cause = err
		k.loop.Load().post(k)
	}
}

func (k *epollLink) write(p []byte) (int, error) {
	if k.fd < 0 {
		return 0, net.ErrClosed
	}
	return writeFD(int(k.fd), p)
}

func (k *epollLink) startDrain() { k.watch(k.events() | unix.EPOLLOUT) }

func (k *epollLink) rewatch() { k.watch(k.events()) }

// events are what the loop is to be told of. That the connection is broken it
// is told in any case. mu is held.
func (k *epollLink) events() (e uint32) {
	if k.phase == discarding || k.phase == alive && k.c.gate == nil {
		e = eventsRead
	}
	if k.c.draining {
		e |= unix.EPOLLOUT
	}
	return e
}

func (k *epollLink) watch(events uint32) {
	if k.added && k.fd >= 0 {
		ev := unix.EpollEvent{Events: events, Fd: k.fd}
		unix.EpollCtl(k.loop.Load().epfd, unix.EPOLL_CTL_MOD, int(k.fd), &ev)
	}
}

// interrupt lets the loop find out. A connection not yet added looks itself.
func (k *epollLink) interrupt(bool) {
	if k.added {
		k.loop.Load().post(k)
	}
}

func (k *epollLink) kill() {
	c := k.c
	c.mu.Lock()
	k.remove()
	unix.Close(int(k.fd))
	k.fd = -1
	c.stopDraining()
	c.clearQueue()
	c.mu.Unlock()
	k.home.p.part()
}

// remove takes the connection from its loop. mu is held.
func (k *epollLink) remove() {
	if k.added {
		k.home.p.table.set(int(k.fd), nil)
		unix.EpollCtl(k.loop.Load().epfd, unix.EPOLL_CTL_DEL, int(k.fd), nil)
		k.added = false
	}
}

func (k *epollLink) run() {}

func (k *epollLink) remote() string { return netip.AddrPortFrom(k.ip, k.port).String() }

// writable sends what is queued.
func (k *epollLink) writable() {
	c := k.c
	c.mu.Lock()
	if !c.draining || k.fd < 0 {
		c.mu.Unlock()
		return
	}
	more, err := c.drainTo(int(k.fd))
	if !more {
		k.watch(k.events())
	}
	c.mu.Unlock()
	if !more {
		c.afterDrain(err)
		k.checkClosing()
	}
}

// readable reads once. A short read has emptied the socket; after a full one
// epoll, level-triggered, tells again, after the others of this batch.
func (k *epollLink) readable() {
	if !k.added {
		return // closed a moment ago, by this loop
	}
	if k.phase != alive {
		k.discard()
		return
	}
	c := k.c
	l := k.loop.Load()
	s := l.scratch
	n, err := readFD(int(k.fd), s.in[:])
	if err == unix.EAGAIN {
		return
	}
	var over bool
	if err != nil {
		c.shut(closed, err)
		over, err = true, nil
	} else {
		over, err = c.feed(s, n)
	}
	if !over {
		c.h.Flush()
		over = c.closing.Load() != open
	}
	if over {
		k.end(err)
	} else if to := l.place(k.home); to != l {
		k.move(l, to)
	}
}

// move gives the connection to another loop. Until it is that loop's, the other
// passes over its events, which epoll, level-triggered, reports again.
func (k *epollLink) move(from, to *loop) {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Load() != open {
		return // to be ended here
	}
	ev := unix.EpollEvent{Events: k.events(), Fd: k.fd}
	if unix.EpollCtl(to.epfd, unix.EPOLL_CTL_ADD, int(k.fd), &ev) == nil {
		k.loop.Store(to)
		unix.EpollCtl(from.epfd, unix.EPOLL_CTL_DEL, int(k.fd), nil)
	}
}

// checkClosing goes on with the end of the connection if somebody has closed
// it.
func (k *epollLink) checkClosing() {
	state := k.c.closing.Load()
	switch {
	case !k.added || state == open:
	case k.phase == alive:
		k.end(nil)
	case state == closed:
		k.finish()
	case k.phase != discarding:
		k.fade()
	}
}

// end is called by the loop when reading is over.
func (k *epollLink) end(err error) {
	if k.c.tell(err) == lingering {
		k.fade()
	} else {
		k.finish()
	}
}
