package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store"
)

// once returns the values of a URL, each of which may come once, if all have one of the names.
func once(raw string, names ...string) (map[string]string, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, badRequest("read query: %.200s", err)
	}
	out := make(map[string]string, len(values))
	for name, v := range values {
		if !slices.Contains(names, name) {
			return nil, badRequest("read query: unknown field %.80q", name)
		}
		if len(v) > 1 {
			return nil, badRequest("read query: %s comes %d times", name, len(v))
		}
		out[name] = v[0]
	}
	return out, nil
}

func queryNames() []string { return []string{"group", "state", "id", "expiring_before"} }

// values is the query as it is written into a URL.
func (q Query) values() url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("group", q.Group)
	set("state", string(q.State))
	set("id", q.ID)
	if !q.ExpiringBefore.IsZero() {
		set("expiring_before", q.ExpiringBefore.UTC().Format(time.RFC3339Nano))
	}
	return v
}

// queryOf is the reverse of values.
func queryOf(v map[string]string) (Query, error) {
	q := Query{Group: v["group"], State: registry.State(v["state"]), ID: v["id"]}
	if s := v["expiring_before"]; s != "" {
		var err error
		if q.ExpiringBefore, err = time.Parse(time.RFC3339Nano, s); err != nil {
			return q, badRequest("read query: expiring_before %.40q: a time such as 2026-01-31T12:00:00Z wanted", s)
		}
	}
	return q, q.check()
}

func (q Query) check() error {
	if q.State != "" {
		if _, err := registry.ParseState(string(q.State)); err != nil {
			return badRequest("read query: %v", err)
		}
	}
	if year := q.ExpiringBefore.UTC().Year(); year < 1 || year > 9999 {
		return badRequest("read query: expiring_before in the year %d", year)
	}
	return nil
}

func (q Query) registry() registry.Query {
	return registry.Query{Group: q.Group, State: q.State, ID: q.ID, ExpiringBefore: q.ExpiringBefore}
}

// ids are the devices of a selection, each once, in order.
func (f *Fleet) ids(s Selection) ([]string, error) {
	n := 0
	for _, set := range []bool{len(s.IDs) > 0, s.Query != nil, s.All} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return nil, badRequest("read request: one of ids, query and all wanted")
	case len(s.IDs) > MaxSelected:
		return nil, badRequest("read request: %d ids, at most %d wanted", len(s.IDs), MaxSelected)
	case len(s.IDs) > 0:
		return slices.Compact(slices.Sorted(slices.Values(s.IDs))), nil
	case s.All:
		return f.Registry.IDs(registry.Query{})
	case *s.Query == Query{}:
		return nil, badRequest("read request: the query is empty; all devices are chosen by all")
	}
	if err := s.Query.check(); err != nil {
		return nil, err
	}
	ids, err := f.Registry.IDs(s.Query.registry())
	if err != nil {
		return nil, badRequest("read query: id %.80q: %v", s.Query.ID, err)
	}
	return ids, nil
}

// String is the selection for the log.
func (s Selection) String() string {
	switch {
	case s.All:
		return "all"
	case s.Query != nil:
		return s.Query.values().Encode()
	case len(s.IDs) == 1:
		return fmt.Sprintf("%.80q", s.IDs[0])
	}
	return strconv.Itoa(len(s.IDs)) + " ids"
}

// each is the action that applies do to the devices of a Selection.
func (f *Fleet) each(what string, do func(*registry.Registry, context.Context, ...string) error) action {
	return func(r *http.Request, st *stream) (string, int, error) {
		var s Selection
		if err := decode(r, &s); err != nil {
			return "", 0, err
		}
		reg, err := f.registry()
		if err != nil {
			return s.String(), 0, err
		}
		done, err := f.apply(r.Context(), st, what, s, func(ctx context.Context, ids ...string) error { return do(reg, ctx, ids...) })
		return s.String(), done, err
	}
}

// apply applies do to the devices of a selection, which changes each of them for itself, and nothing at one that is as it
// should be. It ends early when nobody waits for its answer any more, or no change can be made.
func (f *Fleet) apply(ctx context.Context, st *stream, what string, s Selection, do func(context.Context, ...string) error) (done int, err error) {
	ids, err := f.ids(s)
	if err != nil {
		return 0, err
	}
	tried := 0
	for part := range slices.Chunk(ids, batch) {
		if err := ctx.Err(); err != nil {
			return done, fmt.Errorf("%s devices: %w", what, err)
		}
		if do(ctx, part...) == nil {
			done += len(part)
		} else {
			for _, id := range part { // which of them it was
				switch err := do(ctx, id); {
				case err == nil:
					done++
				case errors.Is(err, store.ErrDegraded), errors.Is(err, registry.ErrClosed), ctx.Err() != nil:
					return done, err
				case st.failed(id, 0, err) != nil:
					return done, st.err
				}
			}
		}
		if tried += len(part); len(ids) > batch {
			if err := st.progress(tried, len(ids)); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}
