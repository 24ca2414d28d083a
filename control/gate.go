package control

import (
	"context"
	"net/http"
	"net/netip"
	"time"
)

// Gate is what a Server asks of the front door.
type Gate interface {
	Bans() []Ban // those in force, that last longest first
	// Ban keeps a prefix out for a time, or with 0 until Unban. It is kept over a restart.
	Ban(p netip.Prefix, d time.Duration, note string) (Ban, error)
	// Unban ends the bans of a prefix and of what lies in it. It returns them, and those of wider ones, which stay.
	Unban(p netip.Prefix) (ended, left []Ban)
	Figures() GateStats
}

// Ban says that nobody gets in from a prefix.
type Ban struct {
	Prefix netip.Prefix `json:"prefix"`
	Until  time.Time    `json:"until,omitzero"`   // to the second; zero: not by itself
	Manual bool         `json:"manual,omitempty"` // made by hand
	Note   string       `json:"note,omitempty"`   // of one made by hand
	Cause  string       `json:"cause,omitempty"`  // of an automatic one: the failure that it began with
	Times  int          `json:"times,omitempty"`  // of an automatic one: how many there were
}

// GateStats are the figures of the front door. The maps have a key for every word that there is.
type GateStats struct {
	Open       int64             `json:"open"`
	Handshakes int64             `json:"handshakes"` // in the TLS handshake
	Connects   int64             `json:"connects"`   // after it, before CONNECT was accepted
	Level      string            `json:"level"`      // of overload; "calm" if there is none
	Verdicts   map[string]uint64 `json:"verdicts"`   // connections admitted, and refused for each reason
	Failures   map[string]uint64 `json:"failures"`   // before CONNECT was accepted, by cause
	Bans       int               `json:"bans"`       // in force
	Banned     uint64            `json:"bans_made"`  // automatic ones
	Untracked  uint64            `json:"untracked"`  // connections that counted in fewer places, for want of room
	Unkept     uint64            `json:"failures_lost"`

	MemoryUsed  int64 `json:"memory_used"`  // bytes that the level is judged by
	MemoryLimit int64 `json:"memory_limit"` // 0: none
}

// BanRequest asks to keep a prefix out.
type BanRequest struct {
	Prefix netip.Prefix `json:"prefix"`
	For    int64        `json:"for_seconds,omitempty"` // 0: until it is ended
	Note   string       `json:"note,omitempty"`
}

// UnbanRequest asks to end the bans of a prefix and of what lies in it.
type UnbanRequest struct {
	Prefix netip.Prefix `json:"prefix"`
}

// Unbanned is what came of an UnbanRequest.
type Unbanned struct {
	Ended []Ban `json:"ended"`
	// Left are wider bans, which still keep the prefix out.
	Left []Ban `json:"left"`
}

// gate adds the paths about the front door, nil if there is none.
func (p *routes) gate(g Gate) {
	p.get("/v1/gate", func(*http.Request) (any, error) {
		if g == nil {
			return nil, noBroker()
		}
		return g.Figures(), nil
	})
	p.get("/v1/gate/bans", func(*http.Request) (any, error) {
		if g == nil {
			return nil, noBroker()
		}
		return some(g.Bans()), nil
	})
	p.post("/v1/gate/ban", func(r *http.Request) (string, any, error) {
		var q BanRequest
		if err := decode(r, &q); err != nil {
			return "", nil, err
		}
		what := q.Prefix.String()
		if g == nil {
			return what, nil, noBroker()
		}
		d, err := seconds("for_seconds", q.For)
		if err != nil {
			return what, nil, err
		}
		b, err := g.Ban(q.Prefix, d, q.Note)
		return what, b, err
	})
	p.post("/v1/gate/unban", func(r *http.Request) (string, any, error) {
		var q UnbanRequest
		if err := decode(r, &q); err != nil {
			return "", nil, err
		}
		what := q.Prefix.String()
		if g == nil {
			return what, nil, noBroker()
		}
		if !q.Prefix.IsValid() {
			return what, nil, badRequest("unban: prefix is missing")
		}
		ended, left := g.Unban(q.Prefix)
		return what, Unbanned{some(ended), some(left)}, nil
	})
}

// some is a list that is not null as JSON.
func some(all []Ban) []Ban {
	if all == nil {
		return []Ban{}
	}
	return all
}

// GateStats asks for the figures of the front door.
func (c *Client) GateStats(ctx context.Context) (GateStats, error) {
	var s GateStats
	err := c.do(ctx, "GET", "/v1/gate", nil, &s)
	return s, err
}

// Bans asks who is kept out.
func (c *Client) Bans(ctx context.Context) ([]Ban, error) {
	var all []Ban
	err := c.do(ctx, "GET", "/v1/gate/bans", nil, &all)
	return all, err
}

// Ban keeps a prefix out.
func (c *Client) Ban(ctx context.Context, q BanRequest) (Ban, error) {
	var b Ban
	err := c.do(ctx, "POST", "/v1/gate/ban", q, &b)
	return b, err
}

// Unban ends bans.
func (c *Client) Unban(ctx context.Context, q UnbanRequest) (Unbanned, error) {
	var u Unbanned
	err := c.do(ctx, "POST", "/v1/gate/unban", q, &u)
	return u, err
}
