package transport

import (
	"time"

	"golang.org/x/sys/unix"
)

// phase is how far the end of a connection has come. Its loop changes it, under
// conn.mu.
type phase uint8

const (
	alive      phase = iota
	told             // Closed was called, by another than the loop, which is to go on
	flushing         // what is queued is sent, for at most lingerFlush
	discarding       // our side is shut; what still comes is read, for at most lingerDrain
)

// fade takes a connection whose Closed was called through lingering.
func (k *epollLink) fade() {
	if k.phase < flushing {
		k.c.sayGoodbye()
	}
	if !k.fadeOn() {
		k.finish()
	}
}

// fadeOn takes the next step. False: there is nothing to wait for.
func (k *epollLink) fadeOn() bool {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	next, within := discarding, lingerDrain
	if c.draining {
		next, within = flushing, lingerFlush
	}
	switch {
	case c.closing.Load() == closed:
		return false
	case k.phase == next:
		return true
	case next == discarding && (c.eof || unix.Shutdown(int(k.fd), unix.SHUT_WR) != nil):
		return false
	}
	k.phase = next
	k.watch(k.events())
	k.until = k.loop.Load().fadeUntil(k.fd, within)
	return true
}

// discard is readable for a connection that fades, and reads as much at once.
func (k *epollLink) discard() {
	switch k.phase {
	case told:
		// The loop was also asked to look at it.
	case flushing:
		k.finish() // nothing was watched but writing: the connection is broken
	case discarding:
		if n, err := readFD(int(k.fd), k.loop.Load().scratch.in[:]); n == 0 && err != unix.EAGAIN {
			k.finish()
		}
	}
}

func (k *epollLink) finish() {
	k.c.finish()
	k.c.g.done()
}

// hand leaves a connection that never came to its loop, and whose Closed was
// called, to the loop to linger. False: it cannot.
func (k *epollLink) hand() bool {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Load() == closed || int(k.fd) >= maxTableFD {
		return false
	}
	k.phase = told
	k.attach()
	k.loop.Load().post(k)
	return true
}

// fadeLine holds connections in the order in which their time is over, which is
// the order in which they came, since all have the same. It names them by
// descriptor, so that it keeps none alive that has ended earlier.
type fadeLine []fading

type fading struct {
	fd    int32
	until time.Duration // as epollLink.until
}

// fadeUntil notes that a connection has to end, and returns when.
func (l *loop) fadeUntil(fd int32, within time.Duration) time.Duration {
	line := &l.drains
	if within == lingerFlush {
		line = &l.flushes
	}
	until := time.Since(l.born) + within
	*line = append(*line, fading{fd, until})
	return until
}

// expire ends the connections whose time is over and sets the alarm for the
// next.
func (l *loop) expire() {
	if l.alarm == 0 && len(l.flushes) == 0 && len(l.drains) == 0 {
		return
	}
	now := time.Since(l.born)
	next := l.expireLine(&l.flushes, now)
	if at := l.expireLine(&l.drains, now); next == 0 || 0 < at && at < next {
		next = at
	}
	if next == l.alarm || l.alarm > now && (next == 0 || next > l.alarm) {
		return // early enough, for the price of one look
	}
	l.alarm = next
	l.setAlarm()
}

// setAlarm has the loop sleep until alarm at most.
func (l *loop) setAlarm() {
	at := noDeadline
	if l.alarm != 0 {
		at = l.born.Add(l.alarm)
	}
	l.file.SetReadDeadline(at)
}

// expireLine returns when the time of the first of the rest is over; 0: there
// is none.
func (l *loop) expireLine(line *fadeLine, now time.Duration) time.Duration {
	for len(*line) > 0 {
		f := (*line)[0]
		if k := l.p.table.get(int(f.fd)); k != nil && k.loop.Load() == l && k.until == f.until {
			if now < f.until {
				return f.until
			}
			k.finish()
		}
		*line = (*line)[1:]
	}
	*line = nil
	return 0
}
