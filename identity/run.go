package identity

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

const (
	maxReplaced = 4096                   // certificates that wait to be superseded; for more, Run looks itself
	batch       = 500                    // of them with one wait for the disk
	gather      = 200 * time.Millisecond // without another revocation, until lists are signed
	gatherMost  = time.Second            // after the first
	pace        = 10 * time.Second       // between looks at what is due
	sweepPace   = 10 * time.Minute
	warnPace    = 24 * time.Hour
	// alarm is how long before a CA ends it is a trouble, not a line in the log alone.
	alarm = 30 * 24 * time.Hour
)

// replacement is a certificate that has taken the place of those before.
type replacement struct{ id, serial string }

// replace has the older certificates of a device ended by Run. When too many wait they end with their overlap.
func (s *Service) replace(id, serial string) {
	select {
	case s.replaced <- replacement{id, serial}:
	default:
	}
}

// Run does what is due at times until ctx ends: it renews revocation lists, ends certificates whose overlap is over, and
// warns of CAs that end.
func (s *Service) Run(ctx context.Context) {
	ctx = registry.As(ctx, "renewal")
	s.due(ctx)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.lists.wake:
			if !s.gather(ctx) {
				return
			}
			s.refresh()
		case r := <-s.replaced:
			s.supersede(ctx, r)
		case <-tick.C:
			s.due(ctx)
		}
	}
}

// gather waits until nothing more is revoked for a moment, or for as long as a list may be late: a list of all costs what
// one of a few does, and those who end many connections need the processor first. It reports false if ctx has ended.
func (s *Service) gather(ctx context.Context) bool {
	for until := time.Now().Add(gatherMost); ; {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(gather):
		}
		select {
		case <-s.lists.wake:
		default:
			return true
		}
		if !time.Now().Before(until) {
			return true
		}
	}
}

// due does what the time demands.
func (s *Service) due(ctx context.Context) {
	now := s.o.Now()
	s.operator(ctx)
	s.keys()
	s.refresh()
	if apart(now, s.swept) >= sweepPace {
		s.swept = now
		s.sweep(ctx)
	}
	if apart(now, s.warned) >= warnPace {
		s.warned = now
		s.warn()
	}
}

// apart is the time between two, whichever was first: a clock may be set back.
func apart(a, b time.Time) time.Duration { return a.Sub(b).Abs() }

// supersede ends the certificates older than first, and than others that wait.
func (s *Service) supersede(ctx context.Context, first replacement) {
	all := map[string]string{first.id: first.serial}
	for more := true; more && len(all) < batch; {
		select {
		case r := <-s.replaced:
			all[r.id] = r.serial
		default:
			more = false
		}
	}
	s.supersedeAll(ctx, all)
}

func (s *Service) supersedeAll(ctx context.Context, all map[string]string) {
	if err := s.o.Registry.SupersedeAll(ctx, all); err != nil && ctx.Err() == nil {
		s.o.Log.LogAttrs(ctx, slog.LevelWarn, "certificates are not superseded yet", slog.Int("devices", len(all)), slog.Any("error", err))
	}
}

// sweep ends certificates whose overlap with a newer one is over.
func (s *Service) sweep(ctx context.Context) {
	all := make(map[string]string)
	s.o.Registry.Overlaps(s.o.Now().Add(-s.overlap-pki.Backdate), func(id, serial string) { all[id] = serial })
	for part := range slices.Chunk(slices.Sorted(maps.Keys(all)), batch) {
		if ctx.Err() != nil {
			return
		}
		some := make(map[string]string, len(part))
		for _, id := range part {
			some[id] = all[id]
		}
		s.supersedeAll(ctx, some)
	}
}

// keys opens those of the CA that were not there when it was opened.
func (s *Service) keys() {
	err := s.CA().OpenKeys()
	if err == nil && s.troubles.clear("keys") {
		s.o.Log.Info("the CA's keys are open: certificates and revocation lists are signed again")
		return
	}
	s.report("keys", "certificates and revocation lists are not signed", err)
}

// warn tells of CAs that end.
func (s *Service) warn() {
	now := s.o.Now()
	for _, l := range s.CA().Lives() {
		if !l.Due {
			s.troubles.clear("ca " + l.Name)
			continue
		}
		hint := "sealmq ca renew"
		if l.Name == "root" {
			hint = "sealmq ca announce"
		}
		text := fmt.Sprintf("the %s CA ends on %s: %s", l.Name, l.Cert.NotAfter.Format(time.DateOnly), hint)
		s.o.Log.Warn(text)
		if l.Cert.NotAfter.Sub(now) < alarm {
			s.troubles.set("ca "+l.Name, text)
		}
	}
}

// Trouble are the reasons why this part of the server is not well, in plain words; none if it is.
func (s *Service) Trouble() []string { return s.troubles.list() }

// troubles are what is wrong, by what it is about.
type troubles struct {
	mu  sync.Mutex
	all map[string]string
}

// set reports whether the trouble, or its text, is another than before.
func (t *troubles) set(about, text string) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = make(map[string]string)
	}
	changed = t.all[about] != text
	t.all[about] = text
	return changed
}

// clear reports whether there was trouble.
func (t *troubles) clear(about string) (was bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, was = t.all[about]
	delete(t.all, about)
	return was
}

func (t *troubles) list() (texts []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, about := range slices.Sorted(maps.Keys(t.all)) {
		texts = append(texts, t.all[about])
	}
	return texts
}
