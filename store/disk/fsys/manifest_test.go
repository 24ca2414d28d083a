package fsys

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestManifest: whatever was synced of a list of files is known, and what was not may be missing.
func TestManifest(t *testing.T) {
	const name, sums = "d/MANIFEST-000007", "d/SUM-000007"
	mem := vfs.NewMem()
	f := Wrap(mem, Options{Dir: "d"})
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content := func(name string) []byte {
		x, err := mem.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		b, err := io.ReadAll(x)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	put := func(name string, b []byte) {
		x, err := mem.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		x.Write(bytes.Clone(b))
		x.Close()
	}
	check := func(what string, good bool) {
		t.Helper()
		err := f.CheckManifest(name)
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "MANIFEST-000007") {
			t.Fatalf("%s: %v", what, err)
		}
	}
	m, err := f.Create(name, manifestCategory)
	if err != nil {
		t.Fatal(err)
	}
	for i, sync := range []func() error{m.Sync, m.SyncData, m.Sync} {
		if _, err := m.Write(bytes.Repeat([]byte{byte(i + 1)}, 100)); err != nil {
			t.Fatal(err)
		}
		if err := sync(); err != nil {
			t.Fatal(err)
		}
		check("synced", true)
	}
	m.Write([]byte("not synced"))
	check("written", true)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	list, sum := content(name), content(sums)
	for at := range list {
		b := bytes.Clone(list)
		b[at] ^= 4
		put(name, b)
		check("a bit is changed", at >= 300)
		put(name, list[:at])
		check("cut short", at >= 300)
	}
	put(name, list)
	for at := range sum {
		b := bytes.Clone(sum)
		b[at] ^= 4
		put(sums, b)
		check("a bit of the sum is changed", true)
		put(sums, sum[:at])
		check("the sum is cut short", true)
	}
	put(sums, sum)
	if err := f.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := mem.Stat(sums); err == nil {
		t.Error("the sum is left behind")
	}
	put(name, []byte("another"))
	check("without a sum", true)
}
