package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/store"
)

func (m *Model) putRecord(r *store.Record) {
	if r.Value == nil {
		delete(m.Records, r.Key)
	} else {
		m.Records[r.Key] = r.Value
	}
}

// CheckRecords returns how the records with a prefix differ from the model's, "" if they do not.
func (m *Model) CheckRecords(s store.Store, prefix string) string {
	var want, got []string
	for _, k := range slices.Sorted(maps.Keys(m.Records)) {
		if strings.HasPrefix(k, prefix) {
			want = append(want, k)
		}
	}
	diff := ""
	err := s.Records(prefix, func(key string, value []byte) bool {
		got = append(got, key)
		if v, ok := m.Records[key]; ok && !bytes.Equal(v, value) {
			diff = fmt.Sprintf("record %q has %.100q, not %.100q", key, value, v)
		}
		return true
	})
	if err != nil {
		return fmt.Sprintf("records of %q: %v", prefix, err)
	}
	if diff == "" && !slices.Equal(want, got) {
		diff = fmt.Sprintf("records of %q are %.200q, not %.200q", prefix, got, want)
	}
	return diff
}

// record writes or deletes one of a few.
func (s *Source) record() *store.Op {
	op := &store.Op{Kind: store.PutRecord, Record: &store.Record{Key: fmt.Sprint("area/", s.intn(6))}}
	switch s.intn(4) {
	case 0: // deleted
	case 1:
		op.Record.Value = []byte{}
	default:
		op.Record.Value = fmt.Append(nil, "value ", s.intn(1000))
	}
	return op
}

// records: they come back as they were given, by prefix, in order.
func records(t *testing.T, h *harness) {
	m := NewModel()
	put := func(key string, value []byte) {
		t.Helper()
		op := &store.Op{Kind: store.PutRecord, Record: &store.Record{Key: key, Value: value}, Wait: h}
		h.do(op)
		m.Apply(op)
	}
	long := strings.Repeat("k", store.MaxRecordKey)
	for i, key := range []string{"b/2", "b/1", "a/x", "b", "b/10", "b0", "\xff\xff", "\xff", "\x00", long, "c/gone", "c/empty", "c/big", "never"} {
		put(key, fmt.Append(nil, "value ", i))
	}
	put("b/1", []byte{0, 255})
	put("c/gone", nil)
	put("c/never", nil)
	put("c/empty", []byte{})
	put("c/big", bytes.Repeat([]byte{7}, store.MaxRecord))
	check := func() {
		t.Helper()
		for _, prefix := range []string{"", "b", "b/", "b/1", "b/10", "c/", "\xff", "\xff\xff", "z", long, "\x00"} {
			h.check(m.CheckRecords(h.s, prefix))
		}
	}
	check()
	seen := 0
	if err := h.s.Records("b/", func(string, []byte) bool { seen++; return seen < 2 }); err != nil || seen != 2 {
		t.Errorf("%d records after a false, %v", seen, err)
	}
	id := h.session() // what is not a record is none
	h.do(h.publish(message("t", "x"), id))
	check()
	for range 2 {
		if !h.reopen() {
			return
		}
		check()
	}
}

// recordLimits: a record beyond the limits is refused by itself.
func recordLimits(t *testing.T, h *harness) {
	m := NewModel()
	var ops, bad []*store.Op
	for i, r := range []*store.Record{
		{Key: "a/1", Value: []byte("x")}, {Key: "", Value: []byte("x")}, {Key: "a/2", Value: []byte("y")}, nil,
		{Key: strings.Repeat("k", store.MaxRecordKey+1)}, {Key: "a/1", Value: make([]byte, store.MaxRecord+1)}, {Key: "a/3", Value: []byte("z")},
	} {
		op := &store.Op{Kind: store.PutRecord, Record: r, Wait: i}
		ops = append(ops, op)
		if op.CheckRecord() != nil {
			bad = append(bad, op)
		} else {
			m.Apply(op)
		}
	}
	if len(bad) != 4 {
		t.Fatalf("%d records are refused, not 4", len(bad))
	}
	h.s.Submit(ops...)
	for i, op := range ops {
		err, ok := h.r.Wait(op)
		if !ok {
			t.Fatalf("record %d is not reported", i)
		}
		if want := slices.Contains(bad, op); want != errors.Is(err, store.ErrRecord) || !want && err != nil {
			t.Errorf("record %d: %v", i, err)
		}
	}
	h.check(m.CheckRecords(h.s, ""))
}
