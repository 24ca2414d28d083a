package gate

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
)

// Ban says that nobody gets in from a prefix.
type Ban struct {
	Prefix netip.Prefix `json:"prefix"`
	// Until is when it ends, to the second; the zero time: not by itself.
	Until time.Time `json:"until,omitzero"`
	// Manual ones are made with Gate.Ban. They hold for exempt addresses too.
	Manual bool   `json:"manual,omitempty"`
	Note   string `json:"note,omitempty"` // of a manual one
	// Cause is the failure that an automatic one began with, Times how many there were.
	Cause string `json:"cause,omitempty"`
	Times int    `json:"times,omitempty"`
}

// Bounds of manual bans.
const (
	mostManual = 1000
	mostNote   = 128 // bytes
	widest4    = 8   // a ban of more than a /8 is a slip
	widest6    = 16
)

// ErrTooMany: there are 1,000 manual bans.
var ErrTooMany = errors.New("there are too many manual bans")

// manual are the bans made by hand: few, of any size.
type manual struct {
	mu    sync.Mutex
	bans  map[netip.Prefix]manualBan
	index atomic.Pointer[ranges]
}

type manualBan struct {
	until int64
	note  string
}

func (m *manual) init() {
	m.bans = map[netip.Prefix]manualBan{}
	m.index.Store(newRanges(nil))
}

func (m *manual) holds(a netip.Addr, now int64) bool { return m.index.Load().at(a) > now }

// changed drops what is over and makes the index. The caller holds mu.
func (m *manual) changed(now int64) {
	var ts []timed
	for p, b := range m.bans {
		if b.until <= now {
			delete(m.bans, p)
			continue
		}
		ts = append(ts, timed{p, b.until})
	}
	m.index.Store(newRanges(ts))
}

// Ban bans a prefix, in place of an earlier manual ban of the same one, for a time or, with 0, until Unban. The note, of at
// most 128 bytes, says why. Connections that are open stay.
func (g *Gate) Ban(p netip.Prefix, d time.Duration, note string) (Ban, error) {
	p, err := g.banPrefix(p)
	if err == nil {
		err = checkNote(note)
	}
	if err == nil && (d < 0 || d > 100*365*24*time.Hour) {
		err = fmt.Errorf("%v is no time for a ban", d)
	}
	if err != nil {
		return Ban{}, fmt.Errorf("ban %v: %w", p, err)
	}
	now := g.now()
	b := manualBan{forever, note}
	if d > 0 {
		b.until = now + int64(d)
	}
	g.manual.mu.Lock()
	defer g.manual.mu.Unlock()
	if _, ok := g.manual.bans[p]; !ok && len(g.manual.bans) >= mostManual {
		if g.manual.changed(now); len(g.manual.bans) >= mostManual {
			return Ban{}, fmt.Errorf("ban %v: %w", p, ErrTooMany)
		}
	}
	g.manual.bans[p] = b
	g.manual.changed(now)
	return Ban{Prefix: p, Until: g.wall(b.until, now), Manual: true, Note: note}, nil
}

func (g *Gate) banPrefix(p netip.Prefix) (netip.Prefix, error) {
	if !p.IsValid() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
		return p, errors.New("not a prefix of IPv4 or IPv6")
	}
	p = p.Masked()
	if p.Addr().Is4() && p.Bits() < widest4 || p.Addr().Is6() && p.Bits() < widest6 {
		return p, fmt.Errorf("too wide: at most an IPv4 /%d or an IPv6 /%d", widest4, widest6)
	}
	return p, nil
}

func checkNote(note string) error {
	if len(note) > mostNote || strings.ContainsFunc(note, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("a note has at most %d bytes, and no control characters", mostNote)
	}
	return nil
}

// Unban ends all bans of p and of what lies in it, manual and automatic ones, and forgets the failures there. It returns
// those that were in force. Wider bans stay: see Covering.
func (g *Gate) Unban(p netip.Prefix) []Ban {
	if !p.IsValid() {
		return nil
	}
	p = p.Masked()
	now := g.now()
	in := func(o netip.Prefix) bool { return p.Bits() <= o.Bits() && p.Contains(o.Addr()) }
	// An IPv6 address stands for its /64, which is what is banned automatically.
	wide := p
	if p.Addr().Is6() && p.Bits() > 64 {
		wide, _ = p.Addr().Prefix(64)
	}
	inWide := func(o netip.Prefix) bool { return wide.Bits() <= o.Bits() && wide.Contains(o.Addr()) }
	var ended []Ban
	g.manual.mu.Lock()
	for o, b := range g.manual.bans {
		if in(o) {
			if b.until > now {
				ended = append(ended, g.manualBan(o, b, now))
			}
			delete(g.manual.bans, o)
		}
	}
	g.manual.changed(now)
	g.manual.mu.Unlock()
	g.failed.each(func(k key, e *record) bool {
		return !inWide(k.prefix()) || g.dropped(&ended, k, &e.ban, now)
	})
	g.failedNets.each(func(k key, n *network) bool {
		return !inWide(k.prefix()) || g.dropped(&ended, k, &n.ban, now)
	})
	sortBans(ended)
	return ended
}

// dropped notes a ban that is removed; it returns false, as each wants it.
func (g *Gate) dropped(to *[]Ban, k key, b *ban, now int64) bool {
	if b.until > now {
		*to = append(*to, g.automatic(k, b, now))
	}
	return false
}

// List returns the bans in force, those that last longest first. It reads all tables.
func (g *Gate) List() []Ban {
	now := g.now()
	var bans []Ban
	g.manual.mu.Lock()
	for p, b := range g.manual.bans {
		if b.until > now {
			bans = append(bans, g.manualBan(p, b, now))
		}
	}
	g.manual.mu.Unlock()
	g.failed.each(func(k key, e *record) bool {
		if e.until > now {
			bans = append(bans, g.automatic(k, &e.ban, now))
		}
		return true
	})
	g.failedNets.each(func(k key, n *network) bool {
		if n.until > now {
			bans = append(bans, g.automatic(k, &n.ban, now))
		}
		return true
	})
	sortBans(bans)
	return bans
}

// inForce counts the bans in force.
func (g *Gate) inForce() (n int) {
	now := g.now()
	g.manual.mu.Lock()
	for _, b := range g.manual.bans {
		if b.until > now {
			n++
		}
	}
	g.manual.mu.Unlock()
	count := func(b *ban) bool {
		if b.until > now {
			n++
		}
		return true
	}
	g.failed.each(func(_ key, e *record) bool { return count(&e.ban) })
	g.failedNets.each(func(_ key, e *network) bool { return count(&e.ban) })
	return n
}

// Covering returns the bans in force that keep an address out, as List does.
func (g *Gate) Covering(a netip.Addr) []Ban {
	a = a.Unmap().WithZone("")
	return slices.DeleteFunc(g.List(), func(b Ban) bool { return !b.Prefix.Contains(a) })
}

func sortBans(bans []Ban) {
	slices.SortFunc(bans, func(a, b Ban) int {
		if a.Until.IsZero() != b.Until.IsZero() {
			if a.Until.IsZero() {
				return -1
			}
			return 1
		}
		return cmp.Or(b.Until.Compare(a.Until), a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
}

func (g *Gate) manualBan(p netip.Prefix, b manualBan, now int64) Ban {
	return Ban{Prefix: p, Until: g.wall(b.until, now), Manual: true, Note: b.note}
}

func (g *Gate) automatic(k key, b *ban, now int64) Ban {
	return Ban{Prefix: k.prefix(), Until: g.wall(b.until, now), Cause: causes[b.cause].word, Times: int(b.times)}
}

// wall is a moment on the clock of the wall.
func (g *Gate) wall(at, now int64) time.Time {
	if at == forever {
		return time.Time{}
	}
	return g.clock().Add(time.Duration(at - now)).Round(time.Second).UTC()
}

// text writes a single IPv4 address without its length.
func text(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
