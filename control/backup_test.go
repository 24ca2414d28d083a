package control

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const testKey = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"

// dataFolder is one with a store, certificates and keys.
func dataFolder(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "data")
	for name, text := range map[string]string{
		"ca/root.pem": "cert", "ca/root.key": testKey, "server/key.pem": testKey, "server/hosts": "broker.lan\n",
		"operator/odd.name": testKey, "store/CURRENT": "not copied as a file",
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func checkpoint(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "deeper"), 0o700); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "CURRENT"), []byte("checkpoint"), 0o600),
		os.WriteFile(filepath.Join(dir, "deeper", "1.sst"), make([]byte, 1<<20), 0o600))
}

// tree is every file below dir with its text.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; p != dir && runtime.GOOS != "windows" && fi.Mode().Perm() != want {
			t.Errorf("%s has mode %v", p, fi.Mode())
		}
		if d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			rel, _ := filepath.Rel(dir, p)
			m[filepath.ToSlash(rel)] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBackupAndRestore(t *testing.T) {
	data, to := dataFolder(t), filepath.Join(t.TempDir(), "backup")
	if _, err := WriteBackup(data, to, BackupOptions{Checkpoint: checkpoint, Version: "v1"}); err != nil {
		t.Fatal(err)
	}
	b, err := OpenBackup(to)
	if err != nil || !b.Store || len(b.Omitted) != 0 || b.Version != "v1" || b.Made.IsZero() {
		t.Fatalf("%+v %v", b, err)
	}
	back := filepath.Join(t.TempDir(), "back")
	if err := os.Mkdir(back, 0o700); err != nil { // an empty one is taken
		t.Fatal(err)
	}
	if err := b.Restore(to, back); err != nil {
		t.Fatal(err)
	}
	got := tree(t, back)
	want := map[string]string{"ca/root.pem": "cert", "ca/root.key": testKey, "server/key.pem": testKey, "server/hosts": "broker.lan\n",
		"operator/odd.name": testKey, "store/CURRENT": "checkpoint", "store/deeper/1.sst": string(make([]byte, 1<<20))}
	if len(got) != len(want) {
		t.Errorf("restored %d files, want %d", len(got), len(want))
	}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s is %.40q, want %.40q", name, got[name], text)
		}
	}
	if err := b.Restore(to, back); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("over a folder in use: %v", err)
	}
}

func TestBackupWithoutKeys(t *testing.T) {
	data, to := dataFolder(t), filepath.Join(t.TempDir(), "backup")
	b, err := WriteBackup(data, to, BackupOptions{WithoutKeys: true})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(b.Omitted)
	if want := []string{"ca/root.key", "operator/odd.name", "server/key.pem"}; !slices.Equal(b.Omitted, want) || b.Store {
		t.Errorf("%+v", b)
	}
	for name, text := range tree(t, to) {
		if strings.Contains(text, "PRIVATE") {
			t.Errorf("%s holds a key", name)
		}
	}
	if _, err := OpenBackup(to); err != nil {
		t.Error(err)
	}
}

// A link's target is copied: a key may lie elsewhere. One that leads back up ends the backup.
func TestBackupFollowsLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege there")
	}
	data := dataFolder(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(secret, []byte("elsewhere"), 0o600), os.Symlink(secret, filepath.Join(data, "ca", "device.key"))); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "backup")
	if _, err := WriteBackup(data, to, BackupOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, to)["ca/device.key"]; got != "elsewhere" {
		t.Errorf("link became %q", got)
	}
	if err := os.Symlink(data, filepath.Join(data, "ca", "up")); err != nil {
		t.Fatal(err)
	}
	to = filepath.Join(t.TempDir(), "backup")
	if _, err := WriteBackup(data, to, BackupOptions{}); err == nil || !strings.Contains(err.Error(), "folders 17 deep") {
		t.Errorf("a loop: %v", err)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("a failed backup stays")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(data, link); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteBackup(data, filepath.Join(link, "b"), BackupOptions{}); err == nil || !strings.Contains(err.Error(), "inside the data folder") {
		t.Errorf("inside, through a link: %v", err)
	}
}

func TestDamagedBackups(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(dir string) error
		want   string
	}{
		"interrupted":   {func(dir string) error { return os.Remove(filepath.Join(dir, manifestName)) }, "is no backup"},
		"altered":       {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca/root.key"), []byte("x"), 0o600) }, "ca/root.key is not what was backed up"},
		"file missing":  {func(dir string) error { return os.Remove(filepath.Join(dir, "ca/root.key")) }, "root.key: no such file"},
		"store missing": {func(dir string) error { return os.RemoveAll(filepath.Join(dir, StoreName)) }, "the folder store is missing"},
		"no JSON":       {manifest("{"), "is damaged: backup.json"},
		"no format":     {manifest("{}"), "names no format"},
		"newer":         {manifest(`{"format":2,"version":"v9"}`), "made by sealmq v9"},
		"escaping":      {manifest(`{"format":1,"files":[{"path":"../x"}]}`), `names the file "../x"`},
		"absolute":      {manifest(`{"format":1,"files":[{"path":"/etc/passwd"}]}`), `names the file "/etc/passwd"`},
		"gone":          {os.RemoveAll, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "backup")
			if _, err := WriteBackup(dataFolder(t), to, BackupOptions{Checkpoint: checkpoint}); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(to); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenBackup(to); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func manifest(text string) func(string) error {
	return func(dir string) error { return os.WriteFile(filepath.Join(dir, manifestName), []byte(text), 0o600) }
}

// A manifest that restores what it likes would be the way to write anywhere.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"made":"2026-01-02T03:04:05Z","version":"v1","store":false,"files":[{"path":"ca/root.pem","size":4,"sha256":"06298432e8066b29e2223bcc23aa9504b56ae508fabf3435508869b9c3190e22"}],"omitted":[]}`))
	f.Add([]byte(`{"format":1,"files":[{"path":"../x"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := decodeManifest("backup", text)
		if err != nil {
			return
		}
		for _, file := range b.Files {
			if p := filepath.Join("to", filepath.FromSlash(file.Path)); !inside("to", p) || filepath.Clean(p) == "to" {
				t.Fatalf("%q is outside", file.Path)
			}
		}
	})
}
