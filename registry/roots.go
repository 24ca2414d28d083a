package registry

import (
	"bytes"
	"slices"
	"strings"

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

// RootsSeen counts the devices that may connect, and of those the ones that are known to have each of the roots. It calls
// missing, which may be nil, with the ids of those that are not known to have the last one, in no order.
func (r *Registry) RootsSeen(missing func(id string), roots ...[32]byte) (devices int, have []int) {
	have = make([]int, len(roots))
	for e := range r.index.all {
		if kind, _ := Split(e.id); e.purged || kind != pki.Device || e.state != Active && e.state != Quarantined {
			continue
		}
		devices++
		r.seen.Lock()
		known := e.last.roots
		r.seen.Unlock()
		for i := range roots {
			found := false
			for at := 0; at < len(known) && !found; at += keySize {
				found = known[at:at+keySize] == string(roots[i][:])
			}
			if found {
				have[i]++
			} else if i == len(roots)-1 && missing != nil {
				missing(e.id)
			}
		}
	}
	return devices, have
}
