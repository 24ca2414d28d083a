package transport

import "sync"

// resumedInARow is how many resumed handshakes may pass a waiting full one.
const resumedInARow = 8

// slots lets few handshakes compute at once, so that a storm of them leaves a
// processor to those who are connected. A slot is given back while the peer is
// awaited. Resumed handshakes cost a fraction and go first.
type slots struct {
	mu      sync.Mutex
	free    int
	resumed []chan struct{}
	full    []chan struct{}
	row     int
}

func (s *slots) acquire(resumes bool) {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	if resumes {
		s.resumed = append(s.resumed, turn)
	} else {
		s.full = append(s.full, turn)
	}
	s.mu.Unlock()
	<-turn
}

// release gives the slot to the next in line.
func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := &s.full
	if len(s.resumed) > 0 && (len(s.full) == 0 || s.row < resumedInARow) {
		line = &s.resumed
		s.row++
	} else {
		s.row = 0
	}
	if len(*line) == 0 {
		s.free++
		return
	}
	close((*line)[0])
	(*line)[0] = nil
	*line = (*line)[1:]
	if len(*line) == 0 {
		*line = nil
	}
}
