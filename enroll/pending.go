package enroll

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// pending is a device that waits: for an operator, or for the second step of fleet provisioning.
type pending struct {
	Claim string    `json:"claim"`
	SPKI  []byte    `json:"spki"` // of the key it has asked with: no other is taken
	Until time.Time `json:"until"`
	// Fresh: the device was added for this, and is purged if it comes to nothing.
	Fresh bool `json:"fresh,omitempty"`

	// Owner is the SHA-256 of the ownership token of fleet provisioning, nil for who waits for approval alone; Tries are how
	// often one was given, and Done that it was used.
	Owner []byte `json:"owner,omitempty"`
	Tries int    `json:"tries,omitempty"`
	Done  bool   `json:"done,omitempty"`
}

// pendings are all of them, by device, in memory and in the store.
type pendings struct {
	r  records
	mu sync.Mutex
	m  map[string]*pending
}

func loadPendings(r records, log *slog.Logger) (*pendings, error) {
	ps := &pendings{r: r, m: make(map[string]*pending)}
	err := r.each(pendingPrefix, func(id string, value []byte) {
		p, err := decodePending(id, value)
		if err != nil {
			log.Error("device that waits left out", "device", clip(id), "error", err)
			return
		}
		ps.m[id] = p
	})
	return ps, err
}

func decodePending(id string, value []byte) (*pending, error) {
	p := new(pending)
	if err := json.Unmarshal(value, p); err != nil {
		return nil, fmt.Errorf("decode pending device: %w", err)
	}
	if err := errors.Join(pki.CheckID(id), pki.CheckID(p.Claim)); err != nil {
		return nil, fmt.Errorf("decode pending device: %w", err)
	}
	if len(p.SPKI) != sha256.Size || len(p.Owner) != 0 && len(p.Owner) != sha256.Size {
		return nil, errors.New("decode pending device: a hash of another length")
	}
	return p, nil
}

// get returns what is known of a device; nil if it does not wait.
func (ps *pendings) get(id string, now time.Time) *pending {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.m[id]; p != nil && now.Before(p.Until) {
		return p
	}
	return nil
}

// put makes a device wait, durably. p must not be changed afterwards.
func (ps *pendings) put(id string, p *pending, most int) error {
	ps.mu.Lock()
	if ps.m[id] == nil && len(ps.m) >= most {
		ps.mu.Unlock()
		return rejectFor(CodeSlowDown, 10*time.Minute, fmt.Sprintf("%d devices wait: approve some, or purge them", most))
	}
	was := ps.m[id]
	ps.m[id] = p
	done := ps.r.start(pendingPrefix+id, p)
	ps.mu.Unlock()
	if err := <-done; err != nil {
		ps.mu.Lock()
		if ps.m[id] == p {
			if delete(ps.m, id); was != nil {
				ps.m[id] = was
			}
		}
		ps.mu.Unlock()
		return fmt.Errorf("write that device %s waits: %w", id, err)
	}
	return nil
}

// forget ends the waiting. What a crash leaves is forgotten when its time is over.
func (ps *pendings) forget(id string) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.m[id] != nil {
		delete(ps.m, id)
		ps.r.start(pendingPrefix+id, nil)
	}
}

// sweepPending forgets devices that have waited too long, and purges those that were added for it.
func (s *Service) sweepPending(now time.Time) {
	ps := s.pending
	over := make(map[string]*pending)
	ps.mu.Lock()
	for id, p := range ps.m {
		if !now.Before(p.Until) {
			over[id] = p
		}
	}
	ps.mu.Unlock()
	for id, p := range over {
		s.expirePending(id, p)
	}
}

func (s *Service) expirePending(id string, p *pending) {
	defer s.one(id).Unlock()
	s.pending.mu.Lock()
	same := s.pending.m[id] == p
	s.pending.mu.Unlock()
	if !same {
		return
	}
	ctx := registry.As(context.Background(), "end of waiting")
	var err error
	switch {
	case p.Done:
	case p.Fresh:
		err = s.o.Registry.PurgeIf(ctx, id, only(registry.Pending))
	case p.Owner != nil:
		err = s.o.Registry.Withdraw(ctx, id, only(registry.Pending))
	}
	var decided *Rejection
	if err != nil && !errors.Is(err, registry.ErrUnknown) && !errors.As(err, &decided) {
		s.o.Log.Warn("device that has waited too long is kept", "device", id, "error", err)
		return
	}
	s.pending.forget(id)
}

// only is the condition that a device is in one of the states: the registry asks when nobody can change it any more, an
// operator may have done so since it was looked at.
func only(states ...registry.State) func(registry.State) error {
	return func(state registry.State) error {
		if slices.Contains(states, state) {
			return nil
		}
		return reject(CodeNotActive, "the device is "+string(state))
	}
}
