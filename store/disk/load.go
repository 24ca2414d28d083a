package disk

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealmq/sealmq/store"
)

const (
	loadPace      = 2 * time.Second     // between lines in the log
	maxPause      = 30 * 24 * time.Hour // a wall clock that went further is not believed
	maxPublishers = 1 << 16             // publishers that are looked for among those seen
)

// Load implements store.Store. It reads the records of all sessions, but of each queue only the two ends.
func (s *Store) Load(h store.Handler) (time.Duration, error) {
	l := &loader{s: s, h: h, began: time.Now(), publishers: make(map[string]*store.Publisher)}
	l.told = l.began
	purge, err := l.purges()
	if err == nil {
		err = l.sessions()
	}
	if err == nil {
		err = l.retained()
	}
	if err != nil {
		return 0, fmt.Errorf("load store: %w", err)
	}
	if l.told != l.began {
		s.o.Log.Info("store loaded", "sessions", l.nSessions, "retained", l.nRetained, "time", time.Since(l.began))
	}
	s.h = h
	s.begin(purge)
	return s.base, nil
}

// begin starts the goroutines.
func (s *Store) begin(purge []ended) {
	s.started, s.base = time.Now(), s.last.clock+s.passed()
	s.queue = newQueue(func() time.Duration { return time.Since(s.started) })
	s.apply = applier{s: s, seq: s.last.seq}
	s.seq.Store(s.last.seq)
	s.minute = time.NewTicker(clockPace)
	s.janitor = newJanitor(s, purge)
	s.free, s.flight = make(chan *batch, inFlight), make(chan *batch, inFlight)
	for range inFlight {
		s.free <- &batch{b: s.db.NewBatch(pebble.WithMaxRetainedSizeBytes(batchBytes + 64<<10))}
	}
	s.built, s.reported = make(chan struct{}), make(chan struct{})
	s.running = true
	s.loaded.Store(true)
	if err := s.failed(); err != nil {
		s.announce(err)
	}
	go s.build()
	go s.report()
	go s.janitor.run()
}

// passed is how much time has passed since the clock was written last, as far as the wall clock can be believed.
func (s *Store) passed() time.Duration {
	d := time.Duration(s.o.now().UnixNano() - s.last.wall)
	if d < 0 || d > maxPause {
		s.o.Log.Warn("the clock was set while the store was closed: no time is taken to have passed", "difference", d)
		return 0
	}
	return d
}

// loader reads a store.
type loader struct {
	s           *Store
	h           store.Handler
	began, told time.Time
	nSessions   int
	nRetained   int
	publishers  map[string]*store.Publisher // by client identifier
}

// progress writes to the log when it takes long.
func (l *loader) progress() {
	if now := time.Now(); now.Sub(l.told) >= loadPace {
		l.told = now
		l.s.o.Log.Info("loading the store", "sessions", l.nSessions, "retained", l.nRetained)
	}
}

// purges returns the sessions whose removal was not completed.
func (l *loader) purges() (todo []ended, err error) {
	c, err := l.s.cursor(kindPurge)
	if err != nil {
		return nil, err
	}
	for ; c.valid(); c.next() {
		todo = append(todo, ended{id: c.id})
	}
	return todo, c.close()
}

// cursor goes through the keys of one kind, session by session.
type cursor struct {
	kind byte
	it   *pebble.Iterator
	id   store.SessionID // of the key it stands at
	rest []byte          // of that key
	ok   bool
	bad  error
	key  []byte
}

func (s *Store) cursor(kind byte) (*cursor, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kindName(kind), err)
	}
	c := &cursor{kind: kind, it: it}
	c.at(it.First())
	return c, nil
}

// at reads the key at which the iterator stands.
func (c *cursor) at(valid bool) bool {
	c.ok = false
	if !valid || c.bad != nil {
		return false
	}
	c.id, c.rest, c.ok = keySession(c.it.Key())
	if !c.ok {
		c.bad = errDamaged
	}
	return c.ok
}

func (c *cursor) valid() bool { return c.ok }
func (c *cursor) next() bool  { return c.at(c.it.Next()) }

// to moves forward to the first key of a session, if there is one.
func (c *cursor) to(id store.SessionID) bool {
	if c.ok && c.id < id {
		c.key = appendKey(c.key[:0], c.kind, uint64(id))
		c.at(c.it.SeekGE(c.key))
	}
	return c.ok && c.id == id
}

// value is the value at the cursor.
func (c *cursor) value() ([]byte, error) {
	v, err := c.it.ValueAndErr()
	if err != nil {
		return nil, fmt.Errorf("read %s of session %d: %w", kindName(c.kind), c.id, err)
	}
	return v, nil
}

// damaged is the error of a value that does not decode.
func (c *cursor) damaged(err error) error {
	return fmt.Errorf("read %s of session %d: %w", kindName(c.kind), c.id, err)
}

// close returns the error that ended the way, if there was one.
func (c *cursor) close() error {
	err := c.it.Close()
	if err == nil {
		err = c.bad
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", kindName(c.kind), err)
	}
	return nil
}

// sessions tells of every session with what belongs to it.
func (l *loader) sessions() (err error) {
	kinds := [...]byte{kindSession, kindWill, kindFilter, kindReceived, kindQueue, kindRecorded}
	var c [len(kinds)]*cursor
	defer func() {
		for _, c := range c {
			if c == nil {
				continue
			}
			if err2 := c.close(); err == nil {
				err = err2
			}
		}
	}()
	for i, kind := range kinds {
		if c[i], err = l.s.cursor(kind); err != nil {
			return err
		}
	}
	stale := l.s.db.NewBatch()
	defer func() { stale.Close() }()
	for all := c[0]; all.valid(); all.next() {
		v, err := all.value()
		if err != nil {
			return err
		}
		st, err := decodeSession(all.id, v)
		if err != nil {
			return all.damaged(err)
		}
		se := &session{}
		if err := l.will(c[1], st, se); err != nil {
			return err
		}
		subs, err := l.subscriptions(c[2], st.ID)
		if err != nil {
			return err
		}
		received, err := l.received(c[3], st.ID)
		if err != nil {
			return err
		}
		queue, err := l.queue(c[4], st.ID)
		if err != nil {
			return err
		}
		if err := l.marks(c[5], st.ID, se, stale); err != nil {
			return err
		}
		for pos := range se.recorded {
			queue.Recorded = max(queue.Recorded, pos)
		}
		se.last = queue.Last
		l.s.sessions[st.ID] = se
		l.h.Session(st, subs, received, queue)
		if l.nSessions++; l.nSessions%64 == 0 {
			l.progress()
		}
	}
	for _, c := range c {
		if c.bad != nil {
			return nil // close tells
		}
	}
	if !stale.Empty() {
		return l.s.contain(func() error { return l.s.db.Apply(stale, pebble.NoSync) })
	}
	return nil
}

func (l *loader) will(c *cursor, st *store.Session, se *session) error {
	if !c.to(st.ID) {
		st.WillAt = 0
		return nil
	}
	v, err := c.value()
	if err != nil {
		return err
	}
	if st.Will, err = decodeWill(v); err != nil {
		return c.damaged(err)
	}
	se.will = true
	return nil
}

func (l *loader) subscriptions(c *cursor, id store.SessionID) (subs []store.Subscription, err error) {
	for ok := c.to(id); ok && c.id == id; ok = c.next() {
		v, err := c.value()
		if err != nil {
			return nil, err
		}
		sub, err := decodeSubscription(c.rest, v)
		if err != nil {
			return nil, c.damaged(err)
		}
		subs = append(subs, sub)
	}
	return subs, nil
}

func (l *loader) received(c *cursor, id store.SessionID) (ids []uint16, err error) {
	for ok := c.to(id); ok && c.id == id; ok = c.next() {
		if len(c.rest) != 2 {
			return nil, c.damaged(errDamaged)
		}
		ids = append(ids, binary.BigEndian.Uint16(c.rest))
	}
	return ids, nil
}

// queue reads the two ends of a queue.
func (l *loader) queue(c *cursor, id store.SessionID) (q store.QueueState, err error) {
	if !c.to(id) {
		return q, nil
	}
	first, size, err := l.end(c, &q.First)
	if err != nil {
		return q, err
	}
	q.BytesBefore = first - min(size, first)
	c.key = appendEnd(c.key[:0], kindQueue, id)
	if !c.at(c.it.SeekLT(c.key)) || c.id != id {
		return q, c.damaged(errDamaged)
	}
	q.BytesEnd, _, err = l.end(c, &q.Last)
	return q, err
}

func (l *loader) end(c *cursor, pos *uint64) (bytes, size uint64, err error) {
	if len(c.rest) != 8 {
		return 0, 0, c.damaged(errDamaged)
	}
	*pos = binary.BigEndian.Uint64(c.rest)
	v, err := c.value()
	if err != nil {
		return 0, 0, err
	}
	e, err := decodeEntry(v, false)
	if err != nil {
		return 0, 0, c.damaged(err)
	}
	return e.q.Bytes, e.size, nil
}

// marks reads the marks of delivery. One whose entry does not exist must not meet a later message at its position.
func (l *loader) marks(c *cursor, id store.SessionID, se *session, stale *pebble.Batch) error {
	for ok := c.to(id); ok && c.id == id; ok = c.next() {
		if len(c.rest) != 8 {
			return c.damaged(errDamaged)
		}
		pos := binary.BigEndian.Uint64(c.rest)
		_, closer, err := l.s.db.Get(appendPos(nil, kindQueue, id, pos))
		if err == pebble.ErrNotFound {
			check(stale.Delete(c.it.Key(), nil))
			continue
		}
		if err != nil {
			return c.damaged(err)
		}
		if err := closer.Close(); err != nil {
			return c.damaged(err)
		}
		if se.recorded == nil {
			se.recorded = make(map[uint64]struct{})
		}
		se.recorded[pos] = struct{}{}
	}
	return nil
}

// retained tells of every retained message.
func (l *loader) retained() error {
	it, err := l.s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindRetained}, UpperBound: []byte{kindRetained + 1}})
	if err != nil {
		return fmt.Errorf("read retained messages: %w", err)
	}
	for valid := it.First(); valid; valid = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			var m *store.Message
			if m, err = decodeMessage(v, l.publisher); err == nil && m.Topic != string(it.Key()[1:]) {
				err = errDamaged
			}
			if err == nil {
				l.h.Retained(m)
			}
		}
		if err != nil {
			err = fmt.Errorf("read retained message of %q: %w", it.Key()[1:], err)
			it.Close()
			return err
		}
		if l.nRetained++; l.nRetained%1024 == 0 {
			l.progress()
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("read retained messages: %w", err)
	}
	return nil
}

// publisher returns the one copy of a publisher. A client identifier that changes hands has one copy at a time.
func (l *loader) publisher(id []byte, owner uint64) *store.Publisher {
	p, known := l.publishers[string(id)]
	if known && p.Owner == owner {
		return p
	}
	p = &store.Publisher{ClientID: string(id), Owner: owner}
	if known || len(l.publishers) < maxPublishers {
		l.publishers[p.ClientID] = p
	}
	return p
}
