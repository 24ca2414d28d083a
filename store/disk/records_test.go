package disk

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealmq/sealmq/store"
)

// putRecords makes a store with records.
func putRecords(t *testing.T, records ...store.Record) string {
	t.Helper()
	dir := sample(t)
	s, err := Open(dir, Config{MinFree: -1}, Options{Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(silent{t}); err != nil {
		t.Fatal(err)
	}
	for i := range records {
		s.Submit(&store.Op{Kind: store.PutRecord, Record: &records[i]})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRecordsAreCheckedAndExported(t *testing.T) {
	dir := putRecords(t, store.Record{Key: "device/pump", Value: []byte("text")}, store.Record{Key: "device/valve", Value: []byte{0xff}},
		store.Record{Key: "x", Value: []byte{}})
	sum, found := checked(t, dir)
	if sum.Records != 3 || len(found) > 0 {
		t.Errorf("%d records; %+v", sum.Records, found)
	}
	var out bytes.Buffer
	if err := Export(dir, Records, &out); err != nil {
		t.Fatal(err)
	}
	const want = `{"kind":"record","key":"device/pump","value":"text"}
{"kind":"record","key":"device/valve","value_base64":"/w=="}
{"kind":"record","key":"x","value":""}
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}

// A damaged record is found, ends the export, and is an error for whoever reads it.
func TestDamagedRecords(t *testing.T) {
	for name, c := range map[string]struct {
		key   string
		value []byte
	}{
		"empty":   {"kdevice/pump", nil},
		"layout":  {"kdevice/pump", []byte{layout + 1, 'x'}},
		"too big": {"kdevice/pump", append([]byte{layout}, make([]byte, store.MaxRecord+1)...)},
		"no key":  {"k", []byte{layout}},
		"key":     {"k" + strings.Repeat("x", store.MaxRecordKey+1), []byte{layout}},
	} {
		dir := putRecords(t, store.Record{Key: "device/pump", Value: []byte("text")})
		s, err := Open(dir, Config{MinFree: -1}, Options{})
		if err == nil {
			err = s.db.Set([]byte(c.key), c.value, pebble.Sync)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Records("", func(string, []byte) bool { return true }); !errors.Is(err, errDamaged) {
			t.Errorf("%s is read: %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, found := checked(t, dir); len(found) != 1 || !strings.Contains(found[0].What, "record: stored value is damaged") {
			t.Errorf("%s: %+v", name, found)
		}
		if err := Export(dir, Records, &bytes.Buffer{}); !errors.Is(err, errDamaged) {
			t.Errorf("%s is exported: %v", name, err)
		}
	}
}
