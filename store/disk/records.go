package disk

import (
	"fmt"
	"unicode/utf8"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealmq/sealmq/store"
)

func (a *applier) putRecord(b *pebble.Batch, r *store.Record) {
	a.key = append(append(a.key[:0], kindRecord), r.Key...)
	if r.Value == nil {
		a.delete(b)
		return
	}
	a.val = append(append(a.val[:0], layout), r.Value...)
	a.set(b)
}

// decodeRecord returns key and value, parts of the stored ones.
func decodeRecord(key, value []byte) (k, v []byte, err error) {
	if len(key) < 2 || len(key) > 1+store.MaxRecordKey || len(value) < 1 || len(value) > 1+store.MaxRecord || value[0] != layout {
		return nil, nil, errDamaged
	}
	return key[1:], value[1:], nil
}

// Records implements store.Store. What it passes on may not be durable yet.
func (s *Store) Records(prefix string, fn func(key string, value []byte) bool) error {
	if err := s.failed(); err != nil {
		return refused(err)
	}
	lower := append([]byte{kindRecord}, prefix...)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: afterPrefix(lower)})
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	for valid := it.First(); valid; valid = it.Next() {
		var k, v []byte
		value, err := it.ValueAndErr()
		if err == nil {
			k, v, err = decodeRecord(it.Key(), value)
		}
		if err != nil {
			err = fmt.Errorf("read record %.200q: %w", it.Key()[1:], err)
			_ = it.Close()
			return err
		}
		if !fn(string(k), v) {
			break
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	return nil
}

// afterPrefix is the first key after all that begin with prefix. Its first byte is that of a kind.
func afterPrefix(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for end[len(end)-1] == 0xff {
		end = end[:len(end)-1]
	}
	end[len(end)-1]++
	return end
}

func (a *audit) record(key, value []byte) {
	a.sum.Records++
	if _, _, err := decodeRecord(key, value); err != nil {
		a.problem(fmt.Sprintf("record %.200q", key[1:]), "what the record is about is missing, or the broker does not start", doRestore,
			"%s: %v", kindName(kindRecord), err)
	}
}

// recordLine is a record. A value that is no text comes in base64.
type recordLine struct {
	Kind   string  `json:"kind"`
	Key    string  `json:"key"`
	Value  *string `json:"value,omitempty"`
	Base64 []byte  `json:"value_base64,omitempty"`
}

func (x *export) records() error {
	return x.scan([]byte{kindRecord}, afterKind(kindRecord), func(key, value []byte) error {
		k, v, err := decodeRecord(key, value)
		if err != nil {
			return fmt.Errorf("record %.200q: %w", key[1:], err)
		}
		l := recordLine{Kind: "record", Key: string(k)}
		if utf8.Valid(v) {
			l.Value = new(string(v))
		} else {
			l.Base64 = v
		}
		return x.enc.Encode(l)
	})
}
