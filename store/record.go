package store

import (
	"errors"
	"fmt"
)

// Record is a small value under a key, which another part of the program keeps in the store.
type Record struct {
	Key   string // 1 … MaxRecordKey bytes, by convention "area/name"
	Value []byte // at most MaxRecord bytes; nil deletes the record
}

// Limits of a record, in bytes.
const (
	MaxRecordKey = 1024
	MaxRecord    = 1 << 20
)

// ErrRecord is wrapped by what Committed tells of an op whose record is beyond the limits.
var ErrRecord = errors.New("record refused")

// NewRecord is an op that writes a record, or deletes it when value is nil. The channel is told what has become of it.
func NewRecord(key string, value []byte) (*Op, <-chan error) {
	done := make(chan error, 1)
	return &Op{Kind: PutRecord, Record: &Record{key, value}, Wait: done}, done
}

// CheckRecord is for stores: it returns why the record of op is refused. Other ops have none.
func (op *Op) CheckRecord() error {
	if op.Kind != PutRecord {
		return nil
	}
	r := op.Record
	switch {
	case r == nil:
		return fmt.Errorf("%w: it is missing", ErrRecord)
	case len(r.Key) == 0 || len(r.Key) > MaxRecordKey:
		return fmt.Errorf("%w: key of %d bytes, 1 to %d wanted", ErrRecord, len(r.Key), MaxRecordKey)
	case len(r.Value) > MaxRecord:
		return fmt.Errorf("%w: %.100q has %d bytes, at most %d wanted", ErrRecord, r.Key, len(r.Value), MaxRecord)
	}
	return nil
}
