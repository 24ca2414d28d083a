package transport

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	eventBatch = 256
	// loopRounds is how many batches a busy loop runs before other goroutines
	// have a turn; handshakes and commits share the processors with it.
	loopRounds = 32
	// paceRounds is how often a loop looks whether to gather or to spread.
	paceRounds = 8
	// postBatch is how many of the connections that it was asked to look at a
	// loop looks at before it polls again.
	postBatch = 64
)

// poller owns the epoll loops of one listener: one per processor, started with
// the first connection and stopped after the last.
type poller struct {
	g     *group
	table fdTable
	pace  pace

	mu     sync.Mutex
	loops  []*loop // nil: not running
	next   int
	looked int // by yield
	live   int
	closed bool // stop when live is 0
}

// join picks a loop for one more connection, and the one that it has when they
// spread.
func (p *poller) join() (first, home *loop, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loops == nil {
		for range runtime.GOMAXPROCS(0) {
			l, err := newLoop(p)
			if err != nil {
				for _, l := range p.loops {
					l.free()
				}
				p.loops = nil
				return nil, nil, err
			}
			p.loops = append(p.loops, l)
		}
		for _, l := range p.loops {
			l.first = p.loops[0]
			p.g.add()
			go l.run()
		}
	}
	p.live++
	p.next++
	home = p.loops[p.next%len(p.loops)]
	if p.pace.spread.Load() {
		return home, home, nil
	}
	return p.loops[0], home, nil
}

// part takes a connection off the count.
func (p *poller) part() {
	p.mu.Lock()
	p.live--
	p.stopIdle()
	p.mu.Unlock()
}

func (p *poller) close() {
	p.mu.Lock()
	p.closed = true
	p.stopIdle()
	p.mu.Unlock()
}

func (p *poller) stopIdle() {
	if p.closed && p.live == 0 {
		for _, l := range p.loops {
			l.post(nil)
		}
		p.loops = nil
	}
}

// loop runs the connections of one epoll descriptor. Only its goroutine reads
// them and closes their descriptors.
type loop struct {
	p      *poller
	first  *loop // of the poller
	epfd   int
	file   *os.File // epfd in Go's poller
	raw    syscall.RawConn
	wakefd int
	events [eventBatch]unix.EpollEvent
	n      int // events

	scratch *scratch // one event at a time

	asleep atomic.Bool
	mu     sync.Mutex
	posted []*epollLink // connections to look at; nil: stop
	todo   []*epollLink // taken from posted; the first seen are done
	seen   int

	born            time.Time     // where the loop's clock begins
	alarm           time.Duration // when the sleep ends, on that clock; 0: not by itself
	flushes, drains fadeLine
}

func newLoop(p *poller) (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	l := &loop{p: p, epfd: epfd, scratch: new(scratch), born: time.Now()}
	// Go's poller takes descriptors that do not block.
	if err := unix.SetNonblock(epfd, true); err != nil {
		unix.Close(epfd)
		return nil, err
	}
	l.file = os.NewFile(uintptr(epfd), "epoll")
	// Without a place in Go's poller the loop would spin.
	err = l.file.SetReadDeadline(noDeadline)
	if err == nil {
		l.raw, err = l.file.SyscallConn()
	}
	if err != nil {
		l.file.Close()
		return nil, err
	}
	if l.wakefd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		l.file.Close()
		return nil, err
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.wakefd)}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, l.wakefd, &ev); err != nil {
		l.free()
		return nil, err
	}
	return l, nil
}

func (l *loop) free() {
	unix.Close(l.wakefd)
	l.file.Close()
}

// post asks the loop to look at a connection.
func (l *loop) post(k *epollLink) {
	l.mu.Lock()
	l.posted = append(l.posted, k)
	if l.asleep.CompareAndSwap(true, false) {
		// Under mu, so that a loop that ends cannot close wakefd meanwhile.
		one := [8]byte{0: 1}
		unix.Write(l.wakefd, one[:])
	}
	l.mu.Unlock()
}

func (l *loop) run() {
	defer l.p.g.done()
	ask := l.ask
	for round := 1; ; round++ {
		l.n = 0
		if l.raw.Read(ask) != nil {
			l.setAlarm() // it has gone off, or the loop was roused
		}
		l.asleep.Store(false)
		for i := range l.n {
			ev := &l.events[i]
			if int(ev.Fd) == l.wakefd {
				var b [8]byte
				unix.Read(l.wakefd, b[:])
				continue
			}
			// The event may be of a connection that is gone, its descriptor in use
			// again, perhaps by another loop.
			k := l.p.table.get(int(ev.Fd))
			if k == nil || k.loop.Load() != l {
				continue
			}
			if ev.Events&unix.EPOLLOUT != 0 {
				k.writable()
			}
			if ev.Events&^unix.EPOLLOUT != 0 {
				k.readable()
			}
		}
		if !l.runPosted() {
			l.mu.Lock()
			l.free()
			l.mu.Unlock()
			return
		}
		l.expire()
		if round%paceRounds == 0 {
			l.p.pace.look()
		}
		if round%loopRounds == 0 {
			runtime.Gosched()
		}
	}
}

// ask polls, under RawConn.Read, which parks the goroutine in Go's poller when
// the answer is false and asks again when there is something.
func (l *loop) ask(uintptr) bool {
	if l.n = l.poll(); l.n > 0 {
		return true
	}
	l.asleep.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.posted) > 0 || l.seen < len(l.todo)
}

// place is the loop that is to run a connection.
func (l *loop) place(home *loop) *loop {
	if l.p.pace.spread.Load() {
		return home
	}
	return l.first
}

// poll asks without sleeping; the scheduler need not know of it.
func (l *loop) poll() int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epfd),
		uintptr(unsafe.Pointer(&l.events[0])), eventBatch, 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// runPosted looks at some of the connections that others asked for. False:
// stop.
func (l *loop) runPosted() bool {
	if l.seen == len(l.todo) {
		if cap(l.todo) > eventBatch {
			l.todo = nil // of a burst
		}
		l.mu.Lock()
		l.todo, l.posted = l.posted, l.todo[:0]
		l.mu.Unlock()
		l.seen = 0
	}
	for range min(postBatch, len(l.todo)-l.seen) {
		k := l.todo[l.seen]
		l.todo[l.seen] = nil
		l.seen++
		if k == nil {
			return false
		}
		if at := k.loop.Load(); at != l {
			at.post(k) // it has moved meanwhile
		} else {
			k.checkClosing()
		}
	}
	return true
}

// fdTable finds a connection by its descriptor: descriptors are small numbers.
type fdTable struct {
	pages [fdPages]atomic.Pointer[fdPage]
}

const (
	fdPageSize = 1024
	fdPages    = 4096
	maxTableFD = fdPages * fdPageSize
)

type fdPage [fdPageSize]atomic.Pointer[epollLink]

func (t *fdTable) get(fd int) *epollLink {
	p := t.pages[fd/fdPageSize].Load()
	if p == nil {
		return nil
	}
	return p[fd%fdPageSize].Load()
}

// set takes descriptors below maxTableFD.
func (t *fdTable) set(fd int, k *epollLink) {
	slot := &t.pages[fd/fdPageSize]
	p := slot.Load()
	if p == nil {
		slot.CompareAndSwap(nil, new(fdPage))
		p = slot.Load()
	}
	p[fd%fdPageSize].Store(k)
}
