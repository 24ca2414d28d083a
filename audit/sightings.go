package audit

import (
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxSightings bounds how many certificates, and how many client identifiers, are kept: those that connected last.
	maxSightings = 4096
	// maxPlaces bounds the addresses that are kept of each.
	maxPlaces = 8
	// together is how soon after it was seen elsewhere a client is back, if it is in both places: it is pushed out by its
	// double, and connects again.
	together = 5 * time.Minute
	// counted is how long is counted before counting begins anew.
	counted = time.Hour
	// manyReturns within that time make two places out of a client that moves.
	manyReturns = 5
	// stale is when a client that does not connect again is of no interest.
	stale = 24 * time.Hour
)

// Sightings gathers what clients show when they connect: their keys, and that a certificate or a client identifier is in
// two places, which push each other out. Doubles that connect from one address, or once and for all, are not noticed.
// It holds at most about 2 MB. Its methods may be called from many goroutines.
type Sightings struct {
	now func() time.Time

	mu    sync.Mutex
	certs map[string]*sighting // by serial and key
	ids   map[string]*sighting // by client identifier
}

// sighting is a certificate or a client identifier.
type sighting struct {
	key     Key // of a certificate
	device  string
	began   time.Time // of counting
	last    time.Time
	place   string
	places  []string // in the order in which they were first seen
	returns int
}

// NewSightings begins. now is the clock.
func NewSightings(now func() time.Time) *Sightings {
	return &Sightings{now: now, certs: make(map[string]*sighting), ids: make(map[string]*sighting)}
}

// Accepted notes a CONNECT that was accepted. addr is host:port; leaf is nil for a client without a certificate. Claims
// are not to be noted: many devices have the same.
func (s *Sightings) Accepted(clientID, device, addr string, leaf *x509.Certificate) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if leaf != nil {
		name := string(leaf.SerialNumber.Bytes()) + " " + string(leaf.RawIssuer)
		c := entry(s.certs, name, now)
		if c.key.Serial == "" {
			c.key = KeyOf(device, leaf)
		}
		c.at(host, now)
	}
	if len(clientID) > 256 {
		return // nobody can have the same by mistake
	}
	c := entry(s.ids, strings.Clone(clientID), now)
	c.device = device
	if leaf != nil {
		host += " " + string(leaf.SerialNumber.Bytes())
	}
	c.at(host, now)
}

// entry finds or makes the sighting of a name.
func entry(m map[string]*sighting, name string, now time.Time) *sighting {
	e := m[name]
	if e != nil {
		return e
	}
	if len(m) >= maxSightings {
		forget(m)
	}
	e = &sighting{began: now}
	m[name] = e
	return e
}

// forget makes room: of a few that the map gives in no order, the one that was seen last longest ago goes.
func forget(m map[string]*sighting) {
	var oldest string
	var at time.Time
	n := 0
	for name, e := range m {
		if n == 0 || e.last.Before(at) {
			oldest, at = name, e.last
		}
		if n++; n == 8 {
			break
		}
	}
	delete(m, oldest)
}

// at notes a place.
func (e *sighting) at(place string, now time.Time) {
	if now.Sub(e.began) > counted {
		e.began, e.returns, e.places = now, 0, nil
	}
	known := slices.Contains(e.places, place)
	if known && place != e.place && now.Sub(e.last) < together {
		e.returns++
	}
	if !known && len(e.places) < maxPlaces {
		e.places = append(e.places, place)
	}
	e.place, e.last = place, now
}

// Fill puts what was gathered into b: Takeovers, SeenFrom and Keys.
func (s *Sightings) Fill(b *Broker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.Takeovers, b.SeenFrom = nil, nil
	now := s.now()
	keys := make([]Key, 0, len(s.certs))
	for _, e := range s.certs {
		keys = append(keys, e.key)
		if e.returns >= manyReturns && now.Sub(e.last) < stale {
			b.SeenFrom = append(b.SeenFrom, SeenFrom{Device: e.key.Device, Serial: e.key.Serial, Addresses: slices.Clone(e.places)})
		}
	}
	b.Keys = slices.Values(keys)
	for id, e := range s.ids {
		if e.returns > 0 && now.Sub(e.last) < stale {
			b.Takeovers = append(b.Takeovers, Takeover{ClientID: id, Device: e.device, Times: e.returns})
		}
	}
}
