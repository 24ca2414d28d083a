package jwt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sealmq/sealmq/auth/internal/web"
)

const (
	pause    = 30 * time.Second // between fetches for keys that tokens name
	fetching = 10 * time.Second // that a fetch may take
)

// remote is a JWK set behind a URL, fetched by one goroutine.
type remote struct {
	client  *web.Client
	refresh time.Duration
	keep    time.Duration
	wait    time.Duration // that a client waits for keys
	now     func() time.Time
	log     *slog.Logger
	wake    chan struct{} // a fetch is wanted

	mu      sync.Mutex
	keys    []key
	fetched time.Time     // when the keys were
	failed  error         // of the last fetch
	tried   time.Time     // when the last fetch began
	busy    bool          // it is under way
	next    chan struct{} // closed when the fetch that is under way, or the next, is over
}

func newRemote(c *web.Client, refresh, keep time.Duration, now func() time.Time, log *slog.Logger) *remote {
	return &remote{client: c, refresh: refresh, keep: keep, wait: 5 * time.Second, now: now, log: log, wake: make(chan struct{}, 1), next: make(chan struct{})}
}

// run fetches the set now, when it is due, and when a token names an unknown key.
func (r *remote) run(ctx context.Context) {
	failing := false
	for {
		wait := r.refresh
		switch err := r.fetch(ctx); {
		case err == nil && failing:
			failing = false
			r.log.Info("keys for tokens are fetched again")
		case err != nil && ctx.Err() == nil:
			wait = pause
			if !failing {
				attrs := []any{"error", err}
				var h interface{ Hint() string }
				if errors.As(err, &h) {
					attrs = append(attrs, "hint", h.Hint())
				}
				r.log.Warn("keys for tokens cannot be fetched", attrs...)
			}
			failing = true
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-r.wake:
			t.Stop()
		}
	}
}

// fetch replaces the keys by those of the set; a key that is not in it any more is good no more. When it fails, the keys
// from before stay.
func (r *remote) fetch(ctx context.Context) error {
	r.mu.Lock()
	r.tried, r.busy = r.now(), true
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, fetching)
	defer cancel()
	keys, err := r.get(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.keys, r.fetched = keys, r.now()
	}
	r.failed = err
	select {
	case <-r.wake: // what was wanted while this fetch was under way has come with it
	default:
	}
	r.busy = false
	close(r.next)
	r.next = make(chan struct{})
	return err
}

func (r *remote) get(ctx context.Context) ([]key, error) {
	status, text, err := r.client.Do(ctx, http.MethodGet, http.Header{"Accept": {"application/json"}, "User-Agent": {"sealmq"}}, nil, maxSet)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("fetch keys: the answer has status %d", status)
	}
	keys, err := parseSet(text, false)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	return keys, nil
}

// find returns the keys that may have signed a token. If there are none it has the set fetched again, unless that was done
// lately, and waits a little. The error says that there is no set to look in.
func (r *remote) find(ctx context.Context, alg jose.SignatureAlgorithm, id string) ([]key, error) {
	r.mu.Lock()
	some, err, next, busy := fitting(r.keys, alg, id), r.current(), r.next, r.busy
	lately := !busy && r.now().Sub(r.tried) < pause
	r.mu.Unlock()
	if err == nil && len(some) > 0 || lately {
		return some, err
	}
	if !busy {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	select {
	case <-next:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return fitting(r.keys, alg, id), r.current()
}

// current is an error if there are no keys, or none that are not too old. r.mu is held.
func (r *remote) current() error {
	if r.fetched.IsZero() || r.now().Sub(r.fetched) >= r.keep {
		return errors.New("the issuer's keys could not be fetched")
	}
	return nil
}
