package registry

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// index finds entries by id, serial and key. Looking up takes no lock and allocates nothing; changes are made one at a
// time, under mu.
type index struct {
	mu     sync.Mutex
	seed   maphash.Seed
	ids    table
	certs  table // by serial, whoever the issuer is
	keys   table // by SPKI
	length atomic.Int64
}

func (x *index) init() { x.seed = maphash.MakeSeed() }

func (x *index) len() int { return int(x.length.Load()) }

// add makes an entry visible, in the place of the one with its id if there is one.
func (x *index) add(e *entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := maphash.String(x.seed, e.id)
	old := x.ids.find(h, func(o *entry) bool { return o.id == e.id })
	if old == nil {
		x.ids.add(h, e)
		x.length.Add(1)
	}
	x.unlink(old, e)
	x.link(old, e)
	if old != nil {
		x.ids.replace(h, old, e)
	}
}

// remove takes an entry away.
func (x *index) remove(e *entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ids.replace(maphash.String(x.seed, e.id), e, nil) {
		x.length.Add(-1)
		x.unlink(e, nil)
	}
}

// unlink replaces old by e where it is found by certificate, or takes it away where e has no such certificate.
func (x *index) unlink(old, e *entry) {
	if old == nil {
		return
	}
	for i := range old.certs {
		c, to, toKey := &old.certs[i], (*entry)(nil), (*entry)(nil)
		if e != nil && hasSerial(e, &c.serial) {
			to = e
		}
		if e != nil && hasKey(e, &c.spki) {
			toKey = e
		}
		x.certs.replace(maphash.Bytes(x.seed, c.serial[:]), old, to)
		x.keys.replace(maphash.Bytes(x.seed, c.spki[:]), old, toKey)
	}
}

// link adds e where old was not found.
func (x *index) link(old, e *entry) {
	for i := range e.certs {
		c := &e.certs[i]
		before := &entry{certs: e.certs[:i]} // a serial or key that comes again is found already
		if (old == nil || !hasSerial(old, &c.serial)) && !hasSerial(before, &c.serial) {
			x.certs.add(maphash.Bytes(x.seed, c.serial[:]), e)
		}
		if (old == nil || !hasKey(old, &c.spki)) && !hasKey(before, &c.spki) {
			x.keys.add(maphash.Bytes(x.seed, c.spki[:]), e)
		}
	}
}

func hasSerial(e *entry, serial *[serialSize]byte) bool {
	for i := range e.certs {
		if e.certs[i].serial == *serial {
			return true
		}
	}
	return false
}

func hasKey(e *entry, key *[keySize]byte) bool {
	for i := range e.certs {
		if e.certs[i].spki == *key {
			return true
		}
	}
	return false
}

func (x *index) get(id string) *entry {
	return x.ids.find(maphash.String(x.seed, id), func(e *entry) bool { return e.id == id })
}

func (x *index) getBytes(id []byte) *entry {
	return x.ids.find(maphash.Bytes(x.seed, id), func(e *entry) bool { return e.id == string(id) })
}

// withSerial returns those that have a certificate with a serial.
func (x *index) withSerial(serial [serialSize]byte) (found []*entry) {
	x.certs.find(maphash.Bytes(x.seed, serial[:]), func(e *entry) bool {
		if hasSerial(e, &serial) {
			found = append(found, e)
		}
		return false
	})
	return found
}

// withKey returns those that have a certificate with a key.
func (x *index) withKey(key [keySize]byte) (found []*entry) {
	x.keys.find(maphash.Bytes(x.seed, key[:]), func(e *entry) bool {
		if hasKey(e, &key) {
			found = append(found, e)
		}
		return false
	})
	return found
}

// all yields every entry, in no order. Those that change meanwhile come as they were or as they are.
func (x *index) all(yield func(*entry) bool) {
	slots := x.ids.slots.Load()
	if slots == nil {
		return
	}
	for i := range *slots {
		if e := (*slots)[i].e.Load(); e != nil && e.id != "" && !yield(e) {
			return
		}
	}
}

// table is an open hash table with linear probing whose readers take no lock. Its zero value is empty.
type table struct {
	slots atomic.Pointer[[]slot]
	used  int // slots that are not empty
	live  int // of those, with an entry
	none  *entry
}

// slot holds an entry, nothing, or an entry without id in the place of one that was taken away. The hash is written once,
// before the entry.
type slot struct {
	hash uint64
	e    atomic.Pointer[entry]
}

// find returns the first entry with a hash for which match holds.
func (t *table) find(hash uint64, match func(*entry) bool) *entry {
	slots := t.slots.Load()
	if slots == nil {
		return nil
	}
	mask := uint64(len(*slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &(*slots)[i]
		e := s.e.Load()
		if e == nil {
			return nil
		}
		if s.hash == hash && e.id != "" && match(e) {
			return e
		}
	}
}

func (t *table) add(hash uint64, e *entry) {
	slots := t.slots.Load()
	if slots == nil || 4*(t.used+1) > 3*len(*slots) {
		slots = t.grow(slots)
	}
	put(*slots, hash, e)
	t.used++
	t.live++
}

func put(slots []slot, hash uint64, e *entry) {
	mask := uint64(len(slots) - 1)
	i := hash & mask
	for slots[i].e.Load() != nil {
		i = (i + 1) & mask
	}
	slots[i].hash = hash
	slots[i].e.Store(e)
}

// grow copies what is live to a table that is at most half full. Readers of the old one see it as it was.
func (t *table) grow(old *[]slot) *[]slot {
	n := 16
	for n < 2*(t.live+1) {
		n *= 2
	}
	slots := make([]slot, n)
	if old != nil {
		for i := range *old {
			if e := (*old)[i].e.Load(); e != nil && e.id != "" {
				put(slots, (*old)[i].hash, e)
			}
		}
	}
	t.used = t.live
	t.slots.Store(&slots)
	return &slots
}

// replace puts e, or nothing if nil, in the place of old, and reports whether old was there.
func (t *table) replace(hash uint64, old, e *entry) bool {
	slots := t.slots.Load()
	if slots == nil {
		return false
	}
	mask := uint64(len(*slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &(*slots)[i]
		switch found := s.e.Load(); {
		case found == nil:
			return false
		case found == old && s.hash == hash:
			if e == nil {
				if t.none == nil {
					t.none = &entry{}
				}
				e = t.none
				t.live--
			}
			s.e.Store(e)
			return true
		}
	}
}
