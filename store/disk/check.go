package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/topic"
)

// Problem is something in a store that is not as it should be.
type Problem struct {
	What  string // the kind of value and what is wrong with it
	Where string // which session, position, topic or number
	Means string // what will be seen of it
	Do    string // what helps
}

func (p Problem) String() string { return p.Where + ": " + p.What }

// Summary counts what a store holds.
type Summary struct {
	Format        uint64        // version of keys and values
	Seq           uint64        // ops that were applied, ever
	Clock         time.Duration // of the store, when it was written last
	Written       time.Time     // when that was; by the wall clock
	Sessions      int
	Subscriptions int
	Wills         int
	Received      int // identifiers of QoS 2 messages that were received and not released
	Queued        int // queue entries
	Shared        int // messages with entries in several queues
	Retained      int
	Records       int // small values of other parts of the program
	Problems      int

	// Leftovers are values that nothing refers to any more: of ended sessions, and messages that everybody has. A running
	// store removes them in the background; they are no problem.
	Leftovers int
}

// Check reads everything in the store in dir, which nobody may have open, and reports what is wrong with it. The error is
// nil when all could be read, whatever was found; it is not when there is no store, somebody uses it (fsys.ErrLocked), or
// it is newer (ErrNewer). The store is not changed.
func Check(dir string, report func(Problem)) (sum Summary, err error) {
	r, err := openReader(dir)
	if damaged := (*damagedError)(nil); errors.As(err, &damaged) {
		sum.Problems++
		report(Problem{What: damaged.Error(), Where: "files", Means: "the broker does not start with this store",
			Do: "restore the newest backup (sealmq restore)"})
		return sum, nil
	}
	if err != nil {
		return sum, err
	}
	defer r.close()
	a := &audit{reader: r, sum: &sum, report: report, sessions: make(map[store.SessionID]*audited),
		clients: make(map[string]store.SessionID), ended: make(map[store.SessionID]bool), messages: make(map[uint64]uint32)}
	sum.Format, sum.Seq, sum.Clock, sum.Written = r.format, r.last.seq, r.last.clock, time.Unix(0, r.last.wall).UTC()
	a.run()
	return sum, nil
}

// audit walks through a store.
type audit struct {
	*reader
	sum    *Summary
	report func(Problem)

	sessions map[store.SessionID]*audited
	clients  map[string]store.SessionID
	ended    map[store.SessionID]bool // being removed
	messages map[uint64]uint32        // references found, by number
	queue    queueWalk
}

// audited is what has to be known of a session to check what belongs to it.
type audited struct {
	client string
}

// queueWalk is the entry before, of the same session.
type queueWalk struct {
	session store.SessionID
	pos     uint64
	bytes   uint64
}

// The usual consequences and remedies.
const (
	doRestore = "restore a backup, or keep the store and report the fault"
	doReport  = "nothing need be done; please report it"
	doEnd     = "end the session (its client connects once with a clean start), or restore a backup"
)

func (a *audit) problem(where, means, do, format string, args ...any) {
	a.sum.Problems++
	a.report(Problem{What: fmt.Sprintf(format, args...), Where: where, Means: means, Do: do})
}

// run checks the tables' structure, and then value by value: first what others belong to.
func (a *audit) run() {
	if err := a.guard(func() error { return a.db.CheckLevels(nil) }); err != nil {
		a.problem("files", "values may be lost, or old ones come back", doRestore, "the order of the tables is violated: %s", firstLine(err))
	}
	a.each(kindPurge, a.purge)
	a.each(kindSession, a.session)
	for _, k := range []struct {
		kind byte
		f    func(key, value []byte)
	}{
		{kindWill, a.will}, {kindFilter, a.filter}, {kindReceived, a.received}, {kindMessage, a.message}, {kindQueue, a.entry},
		{kindRecorded, a.recorded}, {kindRetained, a.retained}, {kindRecord, a.record},
	} {
		a.each(k.kind, k.f)
	}
	for _, refs := range a.messages {
		if refs == 0 {
			a.sum.Leftovers++
		}
	}
	a.unknown()
}

// each calls f with every key and value of a kind. What a damaged block hides is one problem.
func (a *audit) each(kind byte, f func(key, value []byte)) {
	var at []byte
	err := a.scan([]byte{kind}, afterKind(kind), func(key, value []byte) error {
		at = append(at[:0], key...)
		f(key, value)
		return nil
	})
	if err != nil {
		where := kindName(kind) + "s"
		if len(at) > 0 {
			where += fmt.Sprintf(" after %q", at[1:])
		}
		a.problem(where, "nothing that follows can be read, and the broker does not start or serves without it", doRestore, "cannot be read: %s", firstLine(err))
	}
}

// unknown looks for keys of no kind.
func (a *audit) unknown() {
	kinds := []byte{kindMeta, kindFilter, kindReceived, kindRecord, kindMessage, kindRecorded, kindQueue, kindRetained, kindSession, kindWill, kindPurge}
	var from []byte
	for _, k := range append(kinds, 0) {
		to := []byte{k}
		if k == 0 {
			to = nil // to the end
		}
		err := a.scan(from, to, func(key, _ []byte) error {
			a.problem(fmt.Sprintf("key %.100q", key), "nothing reads it", "nothing need be done; it only takes space", "value of an unknown kind")
			return nil
		})
		if err != nil {
			a.problem("keys of unknown kinds", "unknown", doRestore, "cannot be read: %s", firstLine(err))
		}
		from = afterKind(k)
	}
	_ = a.scan([]byte{kindMeta}, afterKind(kindMeta), func(key, _ []byte) error {
		if string(key) != metaFormat && string(key) != metaApplied {
			a.problem(fmt.Sprintf("key %.100q", key), "nothing reads it", "nothing need be done; it only takes space", "%s: an unknown one", kindName(kindMeta))
		}
		return nil
	})
}

// name is how a session is told, by its client identifier.
func (a *audit) name(client string) string { return fmt.Sprintf("session of client %.200q", client) }

// owner names the session of a key, and tells whether the value belongs to one. What is left of an ended one is counted.
func (a *audit) owner(kind byte, id store.SessionID) (where string, live bool) {
	if s := a.sessions[id]; s != nil {
		return a.name(s.client), true
	}
	if a.ended[id] {
		a.sum.Leftovers++
		return "", false
	}
	a.problem(fmt.Sprintf("session %d", id), "nothing reads it; it only takes space", doReport,
		"%s of a session that does not exist", kindName(kind))
	return "", false
}

func (a *audit) badKey(kind byte, key []byte) {
	a.problem(fmt.Sprintf("key %.100q", key), "the broker does not start, or leaves it out", doRestore, "%s: the key is damaged", kindName(kind))
}

func (a *audit) purge(key, value []byte) {
	id, rest, ok := keySession(key)
	if !ok || len(rest) > 0 || !bytes.Equal(value, []byte{layout}) {
		a.badKey(kindPurge, key)
		return
	}
	a.ended[id] = true
	a.sum.Leftovers++
}

func (a *audit) session(key, value []byte) {
	id, rest, ok := keySession(key)
	if !ok || len(rest) > 0 {
		a.badKey(kindSession, key)
		return
	}
	a.sum.Sessions++
	s, err := decodeSession(id, value)
	if err != nil {
		a.sessions[id] = &audited{client: fmt.Sprintf("unknown, number %d", id)}
		a.problem(fmt.Sprintf("session %d", id), "the broker does not start", doRestore, "%s: %v", kindName(kindSession), err)
		return
	}
	a.sessions[id] = &audited{client: s.ClientID}
	if other, ok := a.clients[s.ClientID]; ok {
		a.problem(a.name(s.ClientID), "only one of them is found when the client connects", doEnd, "two sessions, %d and %d", other, id)
	}
	a.clients[s.ClientID] = id
	if a.ended[id] {
		a.problem(a.name(s.ClientID), "it disappears", doEnd, "session: it has ended, and still is there")
	}
	if s.ClientID == "" {
		a.problem(fmt.Sprintf("session %d", id), "no client can connect to it", doRestore, "session: without a client identifier")
	}
}

func (a *audit) will(key, value []byte) {
	id, rest, ok := keySession(key)
	if !ok || len(rest) > 0 {
		a.badKey(kindWill, key)
		return
	}
	where, live := a.owner(kindWill, id)
	if !live {
		return
	}
	a.sum.Wills++
	w, err := decodeWill(value)
	if err == nil {
		err = topic.ValidName(w.Topic)
	}
	if err != nil {
		a.problem(where, "the broker does not start, or does not publish the will", doEnd, "%s: %v", kindName(kindWill), err)
	}
}

func (a *audit) filter(key, value []byte) {
	id, filter, ok := keySession(key)
	if !ok {
		a.badKey(kindFilter, key)
		return
	}
	where, live := a.owner(kindFilter, id)
	if !live {
		return
	}
	a.sum.Subscriptions++
	_, err := decodeSubscription(filter, value)
	if err == nil {
		_, rest, shared, shareErr := topic.ParseShare(string(filter))
		switch {
		case shareErr != nil:
			err = shareErr
		case shared:
			err = topic.ValidFilter(rest)
		default:
			err = topic.ValidFilter(filter)
		}
	}
	if err != nil {
		a.problem(where, "the broker does not start, or the client misses messages", doEnd, "%s %.200q: %v", kindName(kindFilter), filter, err)
	}
}

func (a *audit) received(key, value []byte) {
	id, rest, ok := keySession(key)
	if !ok || len(rest) != 2 || binary.BigEndian.Uint16(rest) == 0 {
		a.badKey(kindReceived, key)
		return
	}
	where, live := a.owner(kindReceived, id)
	if !live {
		return
	}
	a.sum.Received++
	if !bytes.Equal(value, []byte{layout}) {
		a.problem(where, "the broker does not start", doEnd, "%s %d: %v", kindName(kindReceived), binary.BigEndian.Uint16(rest), errDamaged)
	}
}

// message checks one that queues refer to; the references are counted later.
func (a *audit) message(key, value []byte) {
	id, rest, ok := keySession(key)
	if !ok || len(rest) > 0 {
		a.badKey(kindMessage, key)
		return
	}
	number := uint64(id)
	a.sum.Shared++
	a.messages[number] = 0
	where := fmt.Sprintf("message %d", number)
	if m, err := decodeMessage(value, nil); err != nil {
		a.problem(where, "sessions with it in their queues cannot be served", doRestore, "%s: %v", kindName(kindMessage), err)
	} else {
		a.topic(where, m)
	}
	if number > a.last.seq {
		a.problem(where, "a later message may take its place", doRestore, "%s: its number is beyond that of the last op, %d", kindName(kindMessage), a.last.seq)
	}
}

func (a *audit) topic(where string, m *store.Message) {
	if err := topic.ValidName(m.Topic); err != nil {
		a.problem(where, "clients that get it may close the connection", doEnd, "message: its topic %.100q %v", m.Topic, err)
	}
}

// entry checks a queue entry against the one before: positions and bytes grow.
func (a *audit) entry(key, value []byte) {
	id, pos, ok := keyPos(key)
	if !ok {
		a.badKey(kindQueue, key)
		return
	}
	e, err := decodeEntry(value, true)
	if err == nil && e.number != 0 { // of ended sessions too
		if refs, ok := a.messages[e.number]; ok {
			a.messages[e.number] = refs + 1
		} else if !a.ended[id] {
			err = fmt.Errorf("%w: message %d is missing", errDamaged, e.number)
		}
	}
	where, live := a.owner(kindQueue, id)
	if !live {
		return
	}
	where = fmt.Sprintf("%s, queue position %d", where, pos)
	a.sum.Queued++
	before := a.queue
	if before.session != id {
		before = queueWalk{}
	}
	if err != nil {
		a.problem(where, "the queue cannot be delivered from here on", doEnd, "%s: %v", kindName(kindQueue), err)
		a.queue = queueWalk{} // nothing to compare with
		return
	}
	a.queue = queueWalk{id, pos, e.q.Bytes}
	if e.q.Message != nil {
		a.topic(where, e.q.Message)
		m := e.q.Message
		if size := uint64(len(m.Topic) + len(m.Payload) + len(m.Props)); size > e.size {
			a.problem(where, "bounds of the queue in bytes are off", doReport, "%s: it says %d bytes, and its message has %d", kindName(kindQueue), e.size, size)
		}
	}
	if pos == 0 {
		a.problem(where, "the message is never delivered", doEnd, "%s: positions begin with 1", kindName(kindQueue))
	}
	switch {
	case e.q.Bytes < e.size:
		a.problem(where, "bounds of the queue in bytes are off", doEnd, "%s: %d bytes up to here, and %d are its own", kindName(kindQueue), e.q.Bytes, e.size)
	case before.session == id && (e.q.Bytes < before.bytes || e.q.Bytes-before.bytes < e.size):
		a.problem(where, "bounds of the queue in bytes are off", doEnd, "%s: %d bytes up to here, %d up to position %d, and %d are its own",
			kindName(kindQueue), e.q.Bytes, before.bytes, before.pos, e.size)
	}
}

func (a *audit) recorded(key, value []byte) {
	id, pos, ok := keyPos(key)
	if !ok {
		a.badKey(kindRecorded, key)
		return
	}
	where, live := a.owner(kindRecorded, id)
	if !live {
		return
	}
	if !bytes.Equal(value, []byte{layout}) {
		a.problem(fmt.Sprintf("%s, queue position %d", where, pos), "the broker does not start", doEnd, "%s: %v", kindName(kindRecorded), errDamaged)
		return
	}
	err := a.guard(func() error {
		_, c, err := a.db.Get(appendPos(nil, kindQueue, id, pos))
		if err == nil {
			err = c.Close()
		}
		return err
	})
	if errors.Is(err, pebble.ErrNotFound) {
		a.sum.Leftovers++ // without an entry it has no effect
	}
}

func (a *audit) retained(key, value []byte) {
	name := key[1:]
	a.sum.Retained++
	where := fmt.Sprintf("topic %.200q", name)
	const means, do = "the broker does not start, or subscribers get nothing or something else", "clear the topic with an empty retained message, or restore a backup"
	m, err := decodeMessage(value, nil)
	switch {
	case err != nil:
	case m.Topic != string(name):
		err = fmt.Errorf("it is of the topic %.100q", m.Topic)
	case len(m.Payload) == 0:
		err = errors.New("it is empty")
	default:
		err = topic.ValidName(m.Topic)
	}
	if err != nil {
		a.problem(where, means, do, "%s: %v", kindName(kindRetained), err)
	}
}
