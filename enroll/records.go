package enroll

import (
	"encoding/json"
	"fmt"

	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store"
)

// Prefixes of the records.
const (
	claimPrefix     = "claim/"     // claim/ID, and claim/ID/used: how often
	pendingPrefix   = "pending/"   // pending/DEVICE
	factoryPrefix   = "factory/"   // factory/NAME
	challengePrefix = "challenge/" // challenge/CODE
	usedSuffix      = "/used"
)

// records writes values as JSON.
type records struct{ s registry.Store }

// start submits a value; the channel tells what has become of it. A nil value deletes the record.
func (r records) start(key string, v any) <-chan error {
	var b []byte
	if v != nil {
		var err error
		if b, err = json.Marshal(v); err != nil {
			done := make(chan error, 1)
			done <- err
			return done
		}
	}
	op, done := store.NewRecord(key, b)
	r.s.Submit(op)
	return done
}

// put waits until a value is durable.
func (r records) put(key string, v any) error {
	if err := <-r.start(key, v); err != nil {
		return fmt.Errorf("write record %.100q: %w", key, err)
	}
	return nil
}

// each calls fn with copies of the records that begin with a prefix, after they were all read.
func (r records) each(prefix string, fn func(name string, value []byte)) error {
	type pair struct {
		name  string
		value []byte
	}
	var all []pair
	err := r.s.Records(prefix, func(key string, value []byte) bool {
		all = append(all, pair{key[len(prefix):], append([]byte(nil), value...)})
		return true
	})
	if err != nil {
		return fmt.Errorf("read records %q: %w", prefix, err)
	}
	for _, p := range all {
		fn(p.name, p.value)
	}
	return nil
}
