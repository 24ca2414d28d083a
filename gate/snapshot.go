package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxSnapshot is the largest snapshot, in bytes: all manual bans have room, whatever their notes.
const MaxSnapshot = 1 << 20

// mostAutomatic is how many bytes the automatic ones in it may have: some 600.
const mostAutomatic = 64 << 10

const snapshotVersion = 1

// Snapshot is the list of bans in force, for Restore after a restart: all manual ones, then those of the others that last
// longest.
func (g *Gate) Snapshot() []byte {
	bans := g.List()
	b := fmt.Appendf(nil, `{"version":%d,"bans":[`, snapshotVersion)
	begin := len(b)
	room := MaxSnapshot
	for _, manual := range []bool{true, false} {
		if !manual {
			room = min(room, len(b)+mostAutomatic)
		}
		for i := range bans {
			if bans[i].Manual != manual {
				continue
			}
			one, err := json.Marshal(&bans[i])
			if err != nil || len(b)+len(one)+len(",]}") > room {
				continue // a year beyond 9999 is all that cannot be written
			}
			if len(b) > begin {
				b = append(b, ',')
			}
			b = append(b, one...)
		}
	}
	return append(b, "]}"...)
}

// Restore puts the bans of a snapshot in force that are not over, besides those that there are. If it is damaged, nothing
// is restored. Automatic bans last at most as long as the configuration lets them.
func (g *Gate) Restore(snapshot []byte) error {
	var s struct {
		Version int   `json:"version"`
		Bans    []Ban `json:"bans"`
	}
	if len(snapshot) > MaxSnapshot {
		return fmt.Errorf("restore bans: %d bytes are more than %d", len(snapshot), MaxSnapshot)
	}
	if err := json.Unmarshal(snapshot, &s); err != nil {
		return fmt.Errorf("restore bans: %w", err)
	}
	if s.Version != snapshotVersion {
		return fmt.Errorf("restore bans: version %d is not %d", s.Version, snapshotVersion)
	}
	for i := range s.Bans {
		if err := g.checkBan(&s.Bans[i]); err != nil {
			return fmt.Errorf("restore bans: number %d: %w", i+1, err)
		}
	}
	now, wall := g.now(), g.clock()
	for i := range s.Bans {
		b := &s.Bans[i]
		left := int64(forever)
		if !b.Until.IsZero() {
			if left = int64(b.Until.Sub(wall)); left <= 0 {
				continue
			}
		}
		if b.Manual {
			g.manual.restore(b, now, left)
		} else {
			g.restore(b, now, min(left, g.rules.Load().banLongest))
		}
	}
	g.manual.mu.Lock()
	defer g.manual.mu.Unlock()
	g.manual.changed(now)
	return nil
}

func (g *Gate) checkBan(b *Ban) error {
	p, err := g.banPrefix(b.Prefix)
	if err != nil {
		return err
	}
	if p != b.Prefix {
		return fmt.Errorf("%v has bits outside its mask", b.Prefix)
	}
	if !b.Manual {
		if _, ok := keyOf(p); !ok {
			return fmt.Errorf("%v is not of a size that is banned automatically", p)
		}
		if b.Until.IsZero() {
			return errors.New("an automatic ban has no end")
		}
	}
	return checkNote(b.Note)
}

// restore adds a ban if there is room, without making the index.
func (m *manual) restore(b *Ban, now, left int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	until := int64(forever)
	if left < forever-max(now, 0) {
		until = now + left
	}
	if len(m.bans) < mostManual {
		m.bans[b.Prefix] = manualBan{until, b.Note}
	}
}

func (g *Gate) restore(b *Ban, now, left int64) {
	k, _ := keyOf(b.Prefix)
	p := spot{k, hash(g.seed, k)}
	was := ban{until: now + left, times: uint8(min(max(b.Times, 1), 255)), cause: uint8(causeOf(b.Cause))}
	if k.network() {
		s := g.failedNets.lock(p)
		defer s.Unlock()
		n := g.failedNets.find(s, p)
		if n == nil {
			n = g.failedNets.make(s, p, now)
		}
		if n != nil && n.until < was.until {
			n.ban, n.last = was, now-networkMemory
		}
		return
	}
	s := g.failed.lock(p)
	defer s.Unlock()
	e := g.failed.find(s, p)
	if e == nil {
		e = g.failed.make(s, p, now)
	}
	if e != nil && e.until < was.until {
		e.ban = was
		e.clean = max(e.clean, was.until+int64(time.Duration(g.rules.Load().window)*3/4))
	}
}
