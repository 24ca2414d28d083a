package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// maxVia bounds what the log says of who ordered, in bytes.
const maxVia = 200

// Issue signs and registers a certificate. Its errors are a *pki.Refusal, one of the registry's, or ErrDisabled, wrapped.
// Two orders for one device, or with one key, are carried out one after the other.
func (s *Service) Issue(ctx context.Context, o Order) (*Issued, error) {
	if o.Kind == "" {
		o.Kind = pki.Device
	}
	id := registry.ID(o.Kind, o.ID)
	issued, err := s.issue(ctx, id, o)
	if err != nil {
		return nil, fmt.Errorf("certificate for %.80q: %w", id, err)
	}
	return issued, nil
}

func (s *Service) issue(ctx context.Context, id string, o Order) (*Issued, error) {
	csr, err := pki.ParseCSR(o.CSR)
	if err != nil {
		return nil, err
	}
	key, err := pki.SPKIOf(csr.PublicKey)
	if err != nil {
		return nil, &pki.Refusal{Code: pki.CodeKeyKind, Err: err}
	}
	if o.Life == 0 {
		o.Life = s.life
	}
	if o.Life > s.life {
		return nil, &pki.Refusal{Code: pki.CodeLifetime, Err: fmt.Errorf("a life of %v, at most %v is configured (certificate_life)", o.Life, s.life)}
	}
	release := s.held.take(id, string(key[:]))
	defer release()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.swap.RLock()
	defer s.swap.RUnlock()
	groups, state := s.o.Registry.Groups(id)
	if err := mayHave(o.Must, o.ID, state); err != nil {
		return nil, err
	}
	fresh := registry.Device{ID: id, Groups: o.Groups, Attributes: o.Attributes, State: o.State}
	if err := fresh.Validate(); err != nil {
		return nil, &pki.Refusal{Code: pki.CodeIdentity, Err: err}
	}
	if state == "" {
		groups = o.Groups
	}
	if err := s.o.Registry.Ready(); err != nil {
		return nil, err
	}
	group := ""
	if o.Kind == pki.Device && len(groups) > 0 {
		group = slices.Min(groups)
	}
	b, err := s.Folder().Sign(pki.Request{CSR: csr, Kind: o.Kind, ID: o.ID, Group: group, Life: o.Life})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(csr.Raw)
	s.o.Log.LogAttrs(ctx, slog.LevelInfo, "certificate signed", slog.String("device", id), slog.String("serial", serialOf(b.Leaf.SerialNumber)),
		slog.String("csr", hex.EncodeToString(sum[:])), slog.String("via", strings.ToValidUTF8(o.Via[:min(len(o.Via), maxVia)], "")))
	if registry.Actor(ctx) == registry.Unnamed && o.Via != "" {
		ctx = registry.As(ctx, o.Via)
	}
	was := state
	err = s.o.Registry.Register(ctx, fresh, b.Leaf, func(now registry.State) error {
		was = now
		return mayHave(o.Must, o.ID, now)
	})
	if err != nil {
		return nil, err
	}
	if s.overlap == 0 && was != "" && o.Kind == pki.Device {
		s.replace(id, serialOf(b.Leaf.SerialNumber))
	}
	return &Issued{Device: o.ID, New: was == "", Leaf: b.Leaf, Cert: b.Cert, CA: b.CA,
		RenewAt: RenewAt(b.Leaf.NotBefore, b.Leaf.NotAfter)}, nil
}

// RenewAt is when two thirds of a certificate's life are over, which begins when it is issued, a day after its NotBefore.
func RenewAt(notBefore, notAfter time.Time) time.Time {
	issued := notBefore.Add(pki.Backdate)
	if !issued.Before(notAfter) {
		issued = notBefore
	}
	return issued.Add(notAfter.Sub(issued) / 3 * 2)
}

// serialOf is a serial as the registry and auth.Identify write it.
func serialOf(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }

// hinted is an error with a line that says what to do.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// Hint is one line of advice, without a full stop.
func (e *hinted) Hint() string { return e.hint }

// mayHave says whether a device in a state, "" if there is none, may be given a certificate.
func mayHave(must Must, id string, state registry.State) error {
	switch {
	case state == "" && must == BeKnown:
		return registry.ErrUnknown
	case state != "" && must == BeNew:
		return registry.ErrExists
	}
	switch state {
	case "", registry.Active, registry.Quarantined:
		return nil
	case registry.Revoked:
		return registry.ErrRevoked
	}
	return &hinted{fmt.Errorf("%w: it is %s", ErrDisabled, state), "sealmq device enable " + id}
}

// holder tells pki who has a key.
func (s *Service) holder(key pki.SPKI) (string, error) {
	id, compromised := s.o.Registry.Holder(key)
	switch {
	case compromised:
		return "", registry.ErrKey
	case id == "":
		return "", nil
	}
	kind, name := registry.Split(id)
	tenant := s.o.PKI.Tenant
	if tenant == "" {
		tenant = "default"
	}
	return "urn:mqtts:" + tenant + ":" + string(kind) + ":" + name, nil
}

// orders are the ids and keys for which certificates are being issued.
type orders struct {
	mu    sync.Mutex
	freed sync.Cond
	busy  map[string]struct{}
}

func (h *orders) init() {
	h.freed.L = &h.mu
	h.busy = make(map[string]struct{})
}

// take waits until nobody else has id or key.
func (h *orders) take(id, key string) (release func()) {
	id, key = "id/"+id, "key/"+key
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		_, one := h.busy[id]
		_, two := h.busy[key]
		if !one && !two {
			break
		}
		h.freed.Wait()
	}
	h.busy[id], h.busy[key] = struct{}{}, struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.busy, id)
		delete(h.busy, key)
		h.freed.Broadcast()
	}
}

// IsRefusal reports whether an error of Issue is a decision about the request, not a failure: asking again does not help.
func IsRefusal(err error) bool {
	var r *pki.Refusal
	return errors.As(err, &r) || errors.Is(err, ErrDisabled) || errors.Is(err, registry.ErrUnknown) ||
		errors.Is(err, registry.ErrExists) || errors.Is(err, registry.ErrRevoked) || errors.Is(err, registry.ErrKey)
}
