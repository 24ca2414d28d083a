package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/store"
)

// Event is a change that has become durable. Events of one device come in the order of its changes.
type Event struct {
	What   string // "add", "update", "issue", "supersede", "withdraw", "disable", "enable", "quarantine", "revoke", "purge", "import", "forget"
	Who    string // see As
	Device string
	Was    State // "" of a device that was not there
	State  State // "" of a device that is not there any more
	// Serials are of the certificates whose live connections must end. Whole: those of the device must, with whatever
	// certificate.
	Serials []string
	Whole   bool
	Cause   Cause // why they must
	Reason  pki.Reason
}

// Watch has fn called after every change, on the goroutine that makes it and before the change returns. fn must neither
// block nor change devices. stop ends that; a call that is under way may still be.
func (r *Registry) Watch(fn func(Event)) (stop func()) {
	w := &r.watch
	w.Lock()
	defer w.Unlock()
	w.next++
	n := w.next
	w.fns[n] = fn
	return func() {
		w.Lock()
		defer w.Unlock()
		delete(w.fns, n)
	}
}

// action is what is told of a change.
type action struct {
	what   string
	cause  Cause // of connections that must end
	reason pki.Reason
}

// errSame is returned by what changes an entry when there is nothing to change.
var errSame = errors.New("nothing changes")

// batchMost is how many devices are changed with one wait for the disk.
const batchMost = 1000

// edit is the change of one device.
type edit struct {
	old, e *entry // old is nil when there was no such device
	done   <-chan error
}

// change applies f to copies of devices, and makes what has become of them durable. It waits for changes of the same
// devices that are under way. A device that f refuses stays as it is; the errors are joined.
func (r *Registry) change(ctx context.Context, act action, ids []string, f func(e *entry) error) error {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	var errs []error
	for part := range slices.Chunk(ids, batchMost) {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, fmt.Errorf("%s device %.80q and those after it: %w", act.what, part[0], err))...)
		}
		errs = append(errs, r.changePart(ctx, act, part, f)...)
	}
	return errors.Join(errs...)
}

func (r *Registry) changePart(ctx context.Context, act action, ids []string, f func(e *entry) error) (errs []error) {
	if err := r.lock(ids); err != nil {
		return []error{fmt.Errorf("%s device %.80q: %w", act.what, ids[0], err)}
	}
	defer r.unlock(ids)
	fail := func(id string, err error) { errs = append(errs, fmt.Errorf("%s device %.80q: %w", act.what, id, err)) }
	now := r.o.Now().UnixMilli()
	var edits []edit
	for _, id := range ids {
		ed := edit{old: r.index.get(id)}
		if ed.old != nil {
			ed.e = ed.old.clone()
		} else {
			ed.e = &entry{id: id, purged: true, gone: true, created: now}
		}
		if ed.e.purged {
			ed.e.last = new(sighting)
		}
		if err := f(ed.e); errors.Is(err, errSame) {
			continue
		} else if err != nil {
			fail(id, err)
			continue
		}
		ed.e.changed = max(now, ed.e.created)
		edits = append(edits, ed)
	}
	r.submit(edits)
	// All are in force before anybody is told of one: whoever looks at all devices then sees them together.
	results := make([]error, len(edits))
	for i := range edits {
		ed := &edits[i]
		if results[i] = <-ed.done; results[i] != nil {
			r.seen.settle(ed.old, false)
			fail(ed.e.id, results[i])
			continue
		}
		r.seen.settle(ed.old, ed.e.gone || ed.e.purged)
		if ed.e.gone {
			r.index.remove(ed.old)
		} else {
			r.index.add(ed.e)
		}
	}
	for i := range edits {
		r.tell(ctx, act, &edits[i], results[i])
	}
	return errs
}

// submit hands the changes to the store. A device that goes takes what was seen of it along; nothing is written of that
// any more from then on.
func (r *Registry) submit(edits []edit) {
	var ops []*store.Op
	r.seen.hold()
	defer r.seen.Unlock()
	for i := range edits {
		ed := &edits[i]
		var value []byte
		if !ed.e.gone {
			value = appendEntry(nil, ed.e)
		}
		var op *store.Op
		op, ed.done = store.NewRecord(devicePrefix+ed.e.id, value)
		ops = append(ops, op)
		if ed.old != nil && (ed.e.gone || ed.e.purged) && !ed.old.purged {
			ed.old.last.dead = true
			ops = append(ops, &store.Op{Kind: store.PutRecord, Record: &store.Record{Key: seenPrefix + ed.e.id}})
		}
	}
	if len(ops) > 0 {
		r.s.Submit(ops...)
	}
}

// lock waits until none of the devices is under change, and keeps them from being changed by others.
func (r *Registry) lock(ids []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := func(id string) bool { _, ok := r.busy[id]; return ok }
	for slices.ContainsFunc(ids, taken) {
		r.freed.Wait()
	}
	if r.ended {
		return ErrClosed
	}
	for _, id := range ids {
		r.busy[id] = struct{}{}
	}
	return nil
}

func (r *Registry) unlock(ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		delete(r.busy, id)
	}
	r.freed.Broadcast()
}

// shown is the state that others see, "" for none.
func (e *entry) shown() State {
	if e == nil || e.gone || e.purged {
		return ""
	}
	return e.state
}

// tell writes the line in the log, and tells those who watch.
func (r *Registry) tell(ctx context.Context, act action, ed *edit, err error) {
	ev := Event{What: act.what, Who: Actor(ctx), Device: ed.e.id, Was: ed.old.shown(), State: ed.e.shown(), Reason: act.reason}
	var fresh []string
	for i := range ed.e.certs {
		c := &ed.e.certs[i]
		was := (*cert)(nil)
		if ed.old != nil {
			was = ed.old.find(&c.serial, &c.spki)
		}
		switch {
		case was == nil:
			fresh = append(fresh, serialText(c.serial))
		case was.state == CertActive && c.state != CertActive:
			ev.Serials = append(ev.Serials, serialText(c.serial))
		}
	}
	ev.Whole = ev.State != ev.Was && ev.Was != "" && ev.State != Active
	if ev.Whole || len(ev.Serials) > 0 {
		ev.Cause = act.cause
		if ev.Cause == "" {
			ev.Cause = causeOf(ev.State)
		}
	}
	attrs := []slog.Attr{slog.String("who", ev.Who), slog.String("what", ev.What), slog.String("device", ev.Device)}
	if ev.State != "" {
		attrs = append(attrs, slog.String("state", string(ev.State)))
	}
	if len(fresh)+len(ev.Serials) > 0 {
		attrs = append(attrs, slog.Any("serials", append(fresh, ev.Serials...)))
	}
	if ev.What == "revoke" || act.reason != pki.Unspecified {
		attrs = append(attrs, slog.String("reason", act.reason.String()))
	}
	if err != nil {
		level := slog.LevelError
		if act.what == seenFirst {
			level = slog.LevelDebug // as often as devices connect; Check says it once
		}
		r.o.Log.LogAttrs(ctx, level, "device not changed", append(attrs, slog.Any("error", err))...)
		return
	}
	r.o.Log.LogAttrs(ctx, slog.LevelInfo, "device changed", attrs...)
	r.watch.Lock()
	fns := make([]func(Event), 0, len(r.watch.fns))
	for _, fn := range r.watch.fns {
		fns = append(fns, fn)
	}
	r.watch.Unlock()
	for _, fn := range fns {
		fn(ev)
	}
}
