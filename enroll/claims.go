package enroll

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// claims are all of them, in memory and in the store.
type claims struct {
	r  records
	mu sync.Mutex // also held while counts are submitted, so that they are written in their order
	id map[string]*claim
	by map[[sha256.Size]byte]*claim
}

// claim is one with what is counted of it.
type claim struct {
	Claim
	rate hourly
}

func loadClaims(r records, log *slog.Logger) (*claims, error) {
	cs := &claims{r: r, id: make(map[string]*claim), by: make(map[[sha256.Size]byte]*claim)}
	used := make(map[string]int)
	err := r.each(claimPrefix, func(name string, value []byte) {
		if id, ok := strings.CutSuffix(name, usedSuffix); ok {
			var n int
			if err := json.Unmarshal(value, &n); err != nil || n < 0 || n > MaxUses {
				n = MaxUses // rather no use than one too many
			}
			used[id] = n
			return
		}
		c, err := decodeClaim(name, value)
		if err != nil {
			log.Error("claim left out", "claim", clip(name), "error", err)
			return
		}
		cs.add(c)
	})
	for id, n := range used {
		if c := cs.id[id]; c != nil {
			c.Used = n
		}
	}
	return cs, err
}

func decodeClaim(id string, value []byte) (*claim, error) {
	var c claim
	if err := json.Unmarshal(value, &c.Claim); err != nil {
		return nil, fmt.Errorf("decode claim: %w", err)
	}
	if c.ID != id {
		return nil, errors.New("decode claim: it has another id")
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("decode claim: %w", err)
	}
	slices.Sort(c.IDs)
	return &c, nil
}

func (cs *claims) add(c *claim) {
	cs.id[c.ID] = c
	if c.Kind == Token {
		cs.by[[sha256.Size]byte(c.Hash)] = c
	}
}

func (cs *claims) drop(c *claim) {
	delete(cs.id, c.ID)
	if c.Kind == Token {
		delete(cs.by, [sha256.Size]byte(c.Hash))
	}
}

// named finds the claim of a claim certificate.
func (cs *claims) named(id string) *claim {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.id[id]; c != nil && c.Kind == Certificate {
		return c
	}
	return nil
}

// holding finds the claim of a token.
func (cs *claims) holding(s secret) *claim {
	h := s.hash()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.by[h]; c != nil && subtle.ConstantTimeCompare(c.Hash, h[:]) == 1 {
		return c
	}
	return nil
}

// standing is the rejection of a claim that has ended.
func (cs *claims) standing(c *claim, now time.Time) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	switch c.end(now) {
	case "revoked":
		return reject(CodeDenied, "claim "+c.ID+" is revoked")
	case "expired":
		return reject(CodeClaimExpired, "claim "+c.ID+" ended at "+c.Expires.Format(time.RFC3339))
	}
	return nil
}

func (cs *claims) revoked(c *claim) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return !c.Revoked.IsZero()
}

// take counts a use, and returns when that is durable.
func (cs *claims) take(c *claim, now time.Time) error {
	cs.mu.Lock()
	if cs.id[c.ID] != c || c.end(now) != "" {
		cs.mu.Unlock()
		return reject(CodeDenied, "claim "+c.ID+" has ended meanwhile")
	}
	if c.Uses > 0 && c.Used >= c.Uses || c.Used >= MaxUses {
		cs.mu.Unlock()
		return reject(CodeClaimUsed, fmt.Sprintf("claim %s was used %d times", c.ID, c.Used))
	}
	if c.RatePerHour > 0 {
		if wait := c.rate.take(now, c.RatePerHour); wait > 0 {
			cs.mu.Unlock()
			return rejectFor(CodeSlowDown, wait, fmt.Sprintf("claim %s has enrolled %d devices within an hour", c.ID, c.RatePerHour))
		}
	}
	c.Used++
	done := cs.r.start(claimPrefix+c.ID+usedSuffix, c.Used)
	cs.mu.Unlock()
	if err := <-done; err != nil {
		cs.giveBack(c)
		return fmt.Errorf("count a use of claim %s: %w", c.ID, err)
	}
	return nil
}

// giveBack takes a use back of which nothing came.
func (cs *claims) giveBack(c *claim) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.Used--
	c.rate.giveBack()
	if cs.id[c.ID] == c {
		cs.r.start(claimPrefix+c.ID+usedSuffix, c.Used) // if this is lost, a use is: never one too many
	}
}

// Create makes a claim of kind Token and returns the token, which cannot be asked for again. Of c, what its fields' comments
// do not say to be counted is taken.
func (s *Service) Create(ctx context.Context, c Claim) (token string, _ Claim, err error) {
	if c.Kind != "" && c.Kind != Token {
		return "", Claim{}, errors.New("create claim: a claim certificate needs a CSR")
	}
	sec := newSecret()
	hash := sec.hash()
	c.Kind, c.Hash = Token, hash[:]
	made, err := s.create(ctx, c)
	if err != nil {
		return "", Claim{}, fmt.Errorf("create claim: %w", err)
	}
	return sec.String(), made, nil
}

// CreateCertificate makes a claim of kind Certificate with the key of a CSR, PEM or DER. The claim ends with the
// certificate, if not before.
func (s *Service) CreateCertificate(ctx context.Context, c Claim, csr []byte) (*identity.Issued, Claim, error) {
	if c.Kind != "" && c.Kind != Certificate {
		return nil, Claim{}, errors.New("create claim: a token has no CSR")
	}
	c.Kind, c.Hash = Certificate, nil
	if c.ID == "" {
		c.ID = newID()
	}
	now, life := s.now(), time.Duration(0)
	if !c.Expires.IsZero() {
		life = max(c.Expires.Sub(now), time.Hour)
	}
	c.fill(now)
	if err := c.check(); err != nil {
		return nil, Claim{}, fmt.Errorf("create claim: %w", err)
	}
	if err := s.open(); err != nil {
		return nil, Claim{}, fmt.Errorf("create claim: %w", err)
	}
	if _, ok := s.Claim(c.ID); ok {
		return nil, Claim{}, fmt.Errorf("create claim %s: %w", c.ID, ErrClaim)
	}
	out, err := s.o.Identity.Issue(ctx, identity.Order{ID: c.ID, Kind: pki.Claim, CSR: csr, Life: life, Must: identity.BeNew, Via: "claim " + c.ID})
	if err != nil {
		return nil, Claim{}, fmt.Errorf("create claim %s: %w", c.ID, err)
	}
	if life == 0 || out.Leaf.NotAfter.Before(c.Expires) {
		c.Expires = out.Leaf.NotAfter
	}
	made, err := s.create(ctx, c)
	if err != nil {
		return nil, Claim{}, errors.Join(fmt.Errorf("create claim %s: %w", c.ID, err), s.endCertificate(ctx, c.ID))
	}
	return out, made, nil
}

// create stores a claim.
func (s *Service) create(ctx context.Context, c Claim) (Claim, error) {
	if err := s.open(); err != nil {
		return Claim{}, err
	}
	cs := s.claims
	if c.ID == "" {
		c.ID = newID()
	}
	c.fill(s.now())
	c.IDs = slices.Compact(slices.Sorted(slices.Values(c.IDs)))
	if err := c.check(); err != nil {
		return Claim{}, err
	}
	made := &claim{Claim: c}
	cs.mu.Lock()
	switch {
	case cs.id[c.ID] != nil:
		cs.mu.Unlock()
		return Claim{}, ErrClaim
	case len(cs.id) >= MaxClaims:
		cs.mu.Unlock()
		return Claim{}, fmt.Errorf("there are %d claims: revoke some", MaxClaims)
	}
	cs.add(made)
	done := cs.r.start(claimPrefix+c.ID, c)
	cs.mu.Unlock()
	if err := <-done; err != nil {
		cs.mu.Lock()
		cs.drop(made)
		cs.mu.Unlock()
		return Claim{}, err
	}
	s.o.Log.Info("claim created", "who", registry.Actor(ctx), "claim", c.ID, "kind", string(c.Kind), "uses", c.Uses, "expires", c.Expires)
	return c, nil
}

// newID names a claim.
func newID() string {
	var b [5]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Claims are all claims, the oldest first. Those that have ended are kept for a week.
func (s *Service) Claims() []Claim {
	cs := s.claims
	cs.mu.Lock()
	all := make([]Claim, 0, len(cs.id))
	for _, c := range cs.id {
		all = append(all, c.Claim)
	}
	cs.mu.Unlock()
	slices.SortFunc(all, func(a, b Claim) int {
		if n := a.Created.Compare(b.Created); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// Claim returns one claim; false if there is none.
func (s *Service) Claim(id string) (Claim, bool) {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	if c := s.claims.id[id]; c != nil {
		return c.Claim, true
	}
	return Claim{}, false
}

// RevokeClaim ends a claim, and the certificate of one that has one. Devices that it enrolled stay. It fails with
// ErrNoClaim.
func (s *Service) RevokeClaim(ctx context.Context, id string) error {
	if err := s.open(); err != nil {
		return fmt.Errorf("revoke claim %.80q: %w", id, err)
	}
	cs := s.claims
	cs.mu.Lock()
	c := cs.id[id]
	if c == nil {
		cs.mu.Unlock()
		return fmt.Errorf("revoke claim %.80q: %w", id, ErrNoClaim)
	}
	was := c.Revoked
	if was.IsZero() {
		c.Revoked = s.now()
	}
	record := c.Claim
	done := cs.r.start(claimPrefix+id, record)
	cs.mu.Unlock()
	if err := <-done; err != nil {
		cs.mu.Lock()
		c.Revoked = was
		cs.mu.Unlock()
		return fmt.Errorf("revoke claim %s: %w", id, err)
	}
	s.o.Log.Info("claim revoked", "who", registry.Actor(ctx), "claim", id)
	if c.Kind == Certificate {
		if err := s.endCertificate(ctx, id); err != nil {
			return fmt.Errorf("revoke claim %s: %w", id, err)
		}
	}
	return nil
}

func (s *Service) endCertificate(ctx context.Context, id string) error {
	err := s.o.Registry.Revoke(ctx, pki.CessationOfOperation, registry.ID(pki.Claim, id))
	if errors.Is(err, registry.ErrUnknown) {
		return nil
	}
	return err
}

// sweepClaims forgets claims that ended a week ago.
func (s *Service) sweepClaims(now time.Time) {
	cs := s.claims
	var certs []string
	cs.mu.Lock()
	for id, c := range cs.id {
		if now.Before(c.Expires.Add(keptAfterExpiry)) {
			continue
		}
		cs.drop(c)
		cs.r.start(claimPrefix+id, nil)
		cs.r.start(claimPrefix+id+usedSuffix, nil)
		if c.Kind == Certificate {
			certs = append(certs, registry.ID(pki.Claim, id))
		}
	}
	cs.mu.Unlock()
	if len(certs) > 0 {
		err := s.o.Registry.Purge(registry.As(context.Background(), "end of claim"), certs...)
		if err != nil && !errors.Is(err, registry.ErrUnknown) {
			s.o.Log.Warn("purge certificates of ended claims", "error", err)
		}
	}
}
