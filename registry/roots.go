package registry

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// maxRoots is how many roots of a device are remembered.
const maxRoots = 8

// SawRoots notes which root certificates a device has, by the SHA-256 of each: these and no others, or these too if more.
// No more than eight are kept. It neither waits for the disk nor fails; a crash in the next moment may take it.
func (r *Registry) SawRoots(id string, more bool, roots ...[32]byte) {
	e := r.index.get(id)
	if e == nil || e.purged {
		return
	}
	s := &r.seen
	s.Lock()
	defer s.Unlock()
	if e.last.dead || s.closed {
		return
	}
	roots = slices.Clone(roots)
	if more {
		for i := 0; i < len(e.last.roots); i += keySize {
			roots = append(roots, [keySize]byte([]byte(e.last.roots[i:])))
		}
	}
	slices.SortFunc(roots, func(a, b [keySize]byte) int { return bytes.Compare(a[:], b[:]) })
	roots = slices.Compact(roots)
	var all strings.Builder
	for _, root := range roots[:min(len(roots), maxRoots)] {
		all.Write(root[:])
	}
	if all.String() == e.last.roots {
		return
	}
	e.last.roots = s.in.text([]byte(all.String()))
	r.s.Submit(s.write(e, r.o.Now().UnixMilli()))
}

// Holding is what a device that may connect has of the CA. It is valid during a call of Holdings.
type Holding struct {
	e     *entry
	roots string
}

// Holdings calls fn with every device that is active or quarantined, in no order. Operators and claims are left out.
func (r *Registry) Holdings(fn func(h Holding)) {
	for e := range r.index.all {
		if e.purged || e.kind() != pki.Device || e.state != Active && e.state != Quarantined {
			continue
		}
		r.seen.Lock()
		roots := e.last.roots
		r.seen.Unlock()
		fn(Holding{e, roots})
	}
}

// ID is the device's.
func (h Holding) ID() string { return h.e.id }

// Root reports whether the device is known to have a root, by the SHA-256 of its certificate.
func (h Holding) Root(root *[32]byte) bool {
	for i := 0; i < len(h.roots); i += keySize {
		if h.roots[i:i+keySize] == string(root[:]) {
			return true
		}
	}
	return false
}

// Depends reports whether the device has active certificates that end after a time, and all of them are of the CA whose key
// has the SHA-256 issuer.
func (h Holding) Depends(issuer *[32]byte, after time.Time) (depends bool) {
	for i := range h.e.certs {
		if c := &h.e.certs[i]; c.state == CertActive && c.notAfter > after.Unix() {
			if *c.issuer != *issuer {
				return false
			}
			depends = true
		}
	}
	return depends
}
