package disk

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealmq/sealmq/store"
)

// Fetch implements store.Store. What it returns may not be durable yet.
func (s *Store) Fetch(dst []store.Queued, id store.SessionID, from, below uint64, max int, maxBytes int64) ([]store.Queued, error) {
	if from >= below || max <= 0 {
		return dst, nil
	}
	recorded, ok := s.marks(id, from, below)
	if !ok {
		return dst, nil
	}
	if err := s.failed(); err != nil {
		return dst, refused(err)
	}
	keys := make([]byte, 0, 34)
	lower := appendPos(keys, kindQueue, id, from)
	upper := appendPos(lower[17:17], kindQueue, id, below)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower[:17:17], UpperBound: upper})
	if err != nil {
		return dst, fmt.Errorf("read queue of session %d: %w", id, err)
	}
	n, size := 0, int64(0)
	for valid := it.First(); valid && n < max && (n == 0 || size < maxBytes); valid = it.Next() {
		_, pos, ok := keyPos(it.Key())
		if !ok {
			return dst, errors.Join(fmt.Errorf("read queue of session %d: %w", id, errDamaged), it.Close())
		}
		_, done := recorded[pos]
		q, ok, err := s.queued(it, pos, done)
		if err != nil {
			it.Close()
			return dst, fmt.Errorf("read queue of session %d at %d: %w", id, pos, err)
		}
		if !ok {
			continue
		}
		dst = append(dst, q)
		if n++; q.Message != nil {
			size += q.Message.Size()
		}
	}
	if err := it.Close(); err != nil {
		return dst, fmt.Errorf("read queue of session %d: %w", id, err)
	}
	return dst, nil
}

// marks returns the positions with a mark of delivery, nil if there are none. It reports false if there is no such
// session. It has to be asked before the queue, since marks are forgotten after the entries are gone.
func (s *Store) marks(id store.SessionID, from, below uint64) (map[uint64]struct{}, bool) {
	s.view.RLock()
	defer s.view.RUnlock()
	se := s.sessions[id]
	if se == nil || len(se.recorded) == 0 {
		return nil, se != nil
	}
	m := make(map[uint64]struct{})
	for pos := range se.recorded {
		if from <= pos && pos < below {
			m[pos] = struct{}{}
		}
	}
	return m, true
}

// queued decodes the entry at the iterator. It reports false if it is gone meanwhile.
func (s *Store) queued(it *pebble.Iterator, pos uint64, recorded bool) (store.Queued, bool, error) {
	v, err := it.ValueAndErr()
	if err != nil {
		return store.Queued{}, false, err
	}
	e, err := decodeEntry(v, !recorded)
	if err != nil {
		return store.Queued{}, false, fmt.Errorf("%s: %w", kindName(kindQueue), err)
	}
	e.q.Pos, e.q.Recorded = pos, recorded
	if e.number == 0 || recorded {
		return e.q, true, nil
	}
	e.q.Message, err = s.message(e.number)
	if errors.Is(err, pebble.ErrNotFound) {
		// The entry may have been acknowledged since the iterator began; message and entry go with one batch.
		if _, err := s.get(it.Key()); errors.Is(err, pebble.ErrNotFound) {
			return store.Queued{}, false, nil
		}
		return store.Queued{}, false, fmt.Errorf("%s %d: %w: it is missing", kindName(kindMessage), e.number, errDamaged)
	}
	return e.q, err == nil, err
}

// message reads a message that several queues refer to.
func (s *Store) message(number uint64) (*store.Message, error) {
	v, c, err := s.db.Get(appendKey(make([]byte, 0, 9), kindMessage, number))
	if err != nil {
		return nil, err
	}
	m, err := decodeMessage(v, nil)
	if err2 := c.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return nil, fmt.Errorf("%s %d: %w", kindName(kindMessage), number, err)
	}
	return m, nil
}
