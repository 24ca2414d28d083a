package disk

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var writeGolden = flag.Bool("golden", false, "make the golden store of the present format, if there is none")

// Every format that was released opens for ever: testdata/format-N is a store of format N, made by the program of its
// time and never changed again, and format-N.jsonl is what it holds.
func TestGoldenStores(t *testing.T) {
	newest := filepath.Join("testdata", fmt.Sprintf("format-%d", formatVersion))
	if *writeGolden {
		if _, err := os.Stat(newest); err == nil {
			t.Fatalf("%s is there, and stays as it is", newest)
		}
		dir := sample(t)
		reopen(t, dir) // so that there are tables too
		if err := os.CopyFS(newest, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(newest, "BALLAST"))
		os.Remove(filepath.Join(newest, "LOCK"))
		if err := os.WriteFile(newest+".jsonl", exportAll(t, dir), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stores, err := filepath.Glob("testdata/format-*.jsonl")
	if err != nil || len(stores) < formatVersion {
		t.Fatalf("%d golden stores (%v), want one for each of %d formats", len(stores), err, formatVersion)
	}
	for _, list := range stores {
		golden := strings.TrimSuffix(list, ".jsonl")
		t.Run(filepath.Base(golden), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
				t.Fatal(err)
			}
			private(t, dir)
			want, err := os.ReadFile(list)
			if err != nil {
				t.Fatal(err)
			}
			if got := exportAll(t, dir); !bytes.Equal(got, want) {
				t.Errorf("before it was opened it holds\n%s\nwant\n%s", got, want)
			}
			reopen(t, dir)
			if _, err := Check(dir, func(p Problem) { t.Errorf("%+v", p) }); err != nil {
				t.Error(err)
			}
			if got := exportAll(t, dir); !bytes.Equal(got, want) {
				t.Errorf("after it was opened it holds\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func reopen(t *testing.T, dir string) {
	t.Helper()
	s, err := Open(dir, Config{MinFree: -1}, Options{Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(silent{t}); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// private gives files and folders the modes that a checkout does not keep.
func private(t *testing.T, dir string) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o600)
		if info.IsDir() {
			mode = 0o700
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func exportAll(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, what := range []Contents{Sessions, Queues, Retained} {
		if err := Export(dir, what, &b); err != nil {
			t.Fatal(err)
		}
	}
	return moment.ReplaceAll(b.Bytes(), []byte("TIME"))
}

// moment is a time of day. The clock of a store stands still while nobody has it open.
var moment = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)
