//go:build unix

package transport

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
)

// reserve is a descriptor kept for the moment when there is no other: given
// up, it lets one connection be accepted and closed.
type reserve struct {
	mu sync.Mutex
	f  *os.File
}

func (r *reserve) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.f, _ = os.Open(os.DevNull)
}

func (r *reserve) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}

// spend refuses one waiting connection if err says that descriptors ran out.
func (r *reserve) spend(ln net.Listener, err error) bool {
	if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return false
	}
	r.f.Close()
	nc, aerr := ln.Accept()
	if aerr == nil {
		nc.Close()
	}
	r.f, _ = os.Open(os.DevNull)
	return aerr == nil
}
