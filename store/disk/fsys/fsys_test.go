package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdEnv); dir != "" {
		hold(dir)
		return
	}
	if failure := os.Getenv(guardEnv); failure != "" {
		meet(failure)
		return
	}
	goleak.VerifyTestMain(m)
}

// start returns a file system over a fresh folder, closed with the test.
func start(t *testing.T, base vfs.FS, o Options) *FS {
	t.Helper()
	f := Wrap(base, o)
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// hintOf returns the advice that an error carries.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// fill makes Pebble create, recycle and remove files of every kind.
func fill(t *testing.T, db *pebble.DB) {
	t.Helper()
	for i := range 3 {
		for j := range 20 {
			if err := db.Set([]byte{byte(i), byte(j)}, make([]byte, 1000), pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Compact(t.Context(), []byte{0}, []byte{255}, true); err != nil {
		t.Fatal(err)
	}
}

func TestModesOfWhatPebbleMakes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no modes here")
	}
	for _, mask := range []int{0, 0o022, 0o277} {
		old := umask(mask)
		dir := filepath.Join(t.TempDir(), "above", "store")
		f := start(t, vfs.Default, Options{Dir: dir, MinFree: -1, Ballast: 1 << 10})
		db, err := pebble.Open(dir, &pebble.Options{FS: f, Logger: quiet{t}})
		if err != nil {
			umask(old)
			t.Fatal(err)
		}
		fill(t, db)
		backup := filepath.Join(filepath.Dir(dir), "backup")
		err = db.Checkpoint(backup, pebble.WithFlushedWAL())
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		umask(old)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, _ error) error {
			fi, err := d.Info()
			if err != nil {
				t.Fatal(err)
			}
			want := fileMode
			if d.IsDir() {
				want = dirMode
			}
			if n++; fi.Mode().Perm() != want {
				t.Errorf("umask %03o: %s has mode %04o, want %04o", mask, path, fi.Mode().Perm(), want)
			}
			return nil
		})
		if n < 15 {
			t.Errorf("only %d files were looked at", n)
		}
		if f.Written() < 60*1000 {
			t.Errorf("%d bytes counted", f.Written())
		}
	}
}

// quiet shows what Pebble logs, and fails the test where Pebble would end the process.
type quiet struct{ t *testing.T }

func (q quiet) Infof(string, ...any)           {}
func (q quiet) Errorf(format string, a ...any) { q.t.Logf(format, a...) }
func (q quiet) Fatalf(format string, a ...any) { q.t.Errorf("fatal: "+format, a...) }

func TestCheckModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no modes here")
	}
	dir := filepath.Join(t.TempDir(), "a b")
	if err := CheckModes(dir); err != nil {
		t.Errorf("what does not exist was refused: %v", err)
	}
	file := filepath.Join(dir, "000001.log")
	for _, test := range []struct {
		dir, file fs.FileMode
		want      string
	}{
		{0o700, 0o600, ""}, {0o500, 0o400, ""},
		{0o750, 0o600, "open " + dir + ": folder of the store is open to others (mode 0750)"},
		{0o701, 0o600, "open " + dir + ": folder of the store is open to others (mode 0701)"},
		{0o700, 0o604, "open " + file + ": file of the store is open to others (mode 0604)"},
		{0o700, 0o640, "open " + file + ": file of the store is open to others (mode 0640)"},
	} {
		os.MkdirAll(dir, 0o700)
		os.Chmod(dir, 0o700)
		os.WriteFile(file, nil, 0o600)
		os.Chmod(file, test.file)
		os.Chmod(dir, test.dir)
		err := CheckModes(dir)
		if test.want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || err.Error() != test.want {
			t.Errorf("%v, want %s", err, test.want)
		}
		if want := "chmod -R go= '" + dir + "'"; hintOf(err) != want {
			t.Errorf("hint %q, want %q", hintOf(err), want)
		}
		f := Wrap(vfs.Default, Options{Dir: dir})
		if err := f.Start(); err == nil {
			t.Errorf("a store with modes %o and %o was opened", test.dir, test.file)
			f.Close()
		}
	}
	link := dir + " too"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := CheckModes(link); err == nil {
		t.Error("a link hides the modes")
	}
	if err := CheckModes(file); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Error(err)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/var/lib/sealmq": "/var/lib/sealmq", "a b": "'a b'", "it's": `'it'\''s'`, "-r": "'./-r'", "": "''",
	} {
		if got := quote(in); got != want {
			t.Errorf("%q is quoted as %s, want %s", in, got, want)
		}
	}
}

// TestMemory: over a file system in memory there are neither modes nor marks nor a ballast.
func TestMemory(t *testing.T) {
	f := start(t, vfs.NewMem(), Options{Dir: "store"})
	db, err := pebble.Open("store", &pebble.Options{FS: f, Logger: quiet{t}})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := f.List("store")
	for _, n := range names {
		if n == ballastName {
			t.Error("there is a ballast")
		}
	}
	if f.Err() != nil || f.Full() != nil || f.Free() != -1 || f.Written() == 0 {
		t.Errorf("%v, %v, %d free, %d written", f.Err(), f.Full(), f.Free(), f.Written())
	}
}

// TestFolderSurvivesPowerLoss: what Start makes is synced, up to the folder that was there before.
func TestFolderSurvivesPowerLoss(t *testing.T) {
	mem := vfs.NewCrashableMem()
	start(t, mem, Options{Dir: "a/b/store"})
	if _, err := mem.CrashClone(vfs.CrashCloneCfg{}).Stat("a/b/store"); err != nil {
		t.Error(err)
	}
}
