package memory

import (
	"maps"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/store"
)

func (s *Store) putRecord(r *store.Record) {
	if r.Value == nil {
		delete(s.records, r.Key)
	} else {
		s.records[r.Key] = r.Value
	}
}

// Records implements store.Store.
func (s *Store) Records(prefix string, fn func(key string, value []byte) bool) error {
	found := make(map[string][]byte)
	s.mu.Lock()
	for k, v := range s.records {
		if strings.HasPrefix(k, prefix) {
			found[k] = v
		}
	}
	s.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(found)) {
		if !fn(k, found[k]) {
			break
		}
	}
	return nil
}
