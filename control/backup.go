package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// A backup is a folder like a data folder, with a manifest that is written last: without it a backup is not whole.
const (
	manifestName   = "backup.json"
	manifestFormat = 1
	maxManifest    = 64 << 20
	maxFile        = 64 << 20 // of the files beside the store
	maxDepth       = 16       // of folders beside the store
)

// Backup is the manifest of a backup.
type Backup struct {
	Format  int          `json:"format"`
	Made    time.Time    `json:"made"`
	Version string       `json:"version"` // of the program that made it
	Store   bool         `json:"store"`   // it has a copy of the durable store, in the folder StoreName
	Files   []BackupFile `json:"files"`   // all others, by path
	Omitted []string     `json:"omitted"` // files with private keys that were left out
}

// BackupFile is a file of a backup.
type BackupFile struct {
	Path   string `json:"path"` // slash-separated, from the backup's folder
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// BackupOptions say what goes into a backup.
type BackupOptions struct {
	Checkpoint  func(dir string) error // copies the durable store into a folder to be made; nil: there is none
	WithoutKeys bool
	Version     string // of the program
}

// WriteBackup copies the data folder into the folder to, which must be missing or empty: the durable store as of one
// moment, every other file as it is. Folders get mode 0700 and files 0600. When it fails, what it wrote is removed.
func WriteBackup(data, to string, o BackupOptions) (b Backup, err error) {
	if inside(data, to) {
		return b, hintf("choose a folder outside of "+data, "back up to %s: it is inside the data folder, and so would be part of itself", to)
	}
	made, err := emptyFolder(to)
	if err != nil {
		return b, fmt.Errorf("back up to %s: %w", to, err)
	}
	defer func() {
		if err != nil {
			clearFolder(to, made)
			err = fmt.Errorf("back up to %s: %w", to, err)
		}
	}()
	b = Backup{Format: manifestFormat, Made: time.Now().UTC().Truncate(time.Second), Version: o.Version, Files: []BackupFile{}, Omitted: []string{}}
	if o.Checkpoint != nil {
		b.Store = true
		if err := o.Checkpoint(filepath.Join(to, StoreName)); err != nil {
			return b, err
		}
	}
	if err := b.copyFolder(data, to, ".", o.WithoutKeys, 0); err != nil {
		return b, err
	}
	text, err := json.MarshalIndent(b, "", "\t")
	if err != nil {
		return b, err
	}
	if err := writeFile(filepath.Join(to, manifestName), append(text, '\n')); err != nil {
		return b, err
	}
	return b, errors.Join(syncFolder(to), syncFolder(filepath.Dir(to)))
}

// copyFolder copies the files of one folder of data, and those below it.
func (b *Backup) copyFolder(data, to, rel string, withoutKeys bool, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("read %s: folders %d deep, perhaps a link to a folder above", filepath.Join(data, rel), depth)
	}
	entries, err := os.ReadDir(filepath.Join(data, rel))
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := path.Join(rel, e.Name())
		if p == StoreName || p == SocketName || p == manifestName {
			continue
		}
		from := filepath.Join(data, p)
		fi, err := os.Stat(from) // what a link names is copied
		if errors.Is(err, fs.ErrNotExist) {
			if _, e := os.Lstat(from); errors.Is(e, fs.ErrNotExist) {
				continue // a file being replaced, under the name that it has meanwhile
			}
		}
		switch {
		case err != nil:
			return err
		case fi.IsDir():
			if err := os.Mkdir(filepath.Join(to, p), 0o700); err != nil {
				return err
			}
			err = b.copyFolder(data, to, p, withoutKeys, depth+1)
		case fi.Mode().IsRegular():
			err = b.copyFile(from, filepath.Join(to, p), p, withoutKeys)
		}
		if err != nil {
			return err
		}
	}
	return syncFolder(filepath.Join(to, rel))
}

func (b *Backup) copyFile(from, to, rel string, withoutKeys bool) error {
	text, err := readBounded(from, maxFile)
	if err != nil {
		return err
	}
	if withoutKeys && secret(rel, text) {
		b.Omitted = append(b.Omitted, rel)
		return nil
	}
	sum := sha256.Sum256(text)
	b.Files = append(b.Files, BackupFile{rel, int64(len(text)), hex.EncodeToString(sum[:])})
	return writeFile(to, text)
}

// secret tells files with private keys by what they hold, and by the names that they have here.
func secret(rel string, text []byte) bool {
	return bytes.Contains(text, []byte("PRIVATE KEY-----")) || path.Ext(rel) == ".key" || path.Base(rel) == "key.pem"
}

// IsBackup tells whether a folder says that it is a backup.
func IsBackup(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, manifestName))
	return err == nil
}

// OpenBackup reads the manifest of a backup and checks that every file beside the store is there and unaltered. The store
// has a check of its own.
func OpenBackup(dir string) (b Backup, err error) {
	text, err := readBounded(filepath.Join(dir, manifestName), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Stat(dir); e != nil {
			return b, e
		}
		return b, hintf("a backup that was interrupted has none either: make another", "%s is no backup: it has no %s", dir, manifestName)
	}
	if err != nil {
		return b, err
	}
	if b, err = decodeManifest(dir, text); err != nil {
		return b, err
	}
	for _, f := range b.Files {
		if _, err := f.read(dir); err != nil {
			return b, damaged(dir, "%v", err)
		}
	}
	if b.Store {
		if fi, err := os.Stat(filepath.Join(dir, StoreName)); err != nil || !fi.IsDir() {
			return b, damaged(dir, "the folder %s is missing", StoreName)
		}
	}
	return b, nil
}

func damaged(dir, format string, a ...any) error {
	return hintf("use another backup", "backup %s is damaged: %s", dir, fmt.Sprintf(format, a...))
}

// decodeManifest reads the manifest of a backup in dir. Every path in it is a plain one inside of the backup.
func decodeManifest(dir string, text []byte) (b Backup, err error) {
	if err := json.Unmarshal(text, &b); err != nil {
		return b, damaged(dir, "%s: %v", manifestName, err)
	}
	if b.Format > manifestFormat {
		return b, hintf("restore it with that version or a later one", "backup %s was made by sealmq %s, in a format that this version does not know", dir, b.Version)
	}
	if b.Format < 1 {
		return b, damaged(dir, "%s names no format", manifestName)
	}
	for _, f := range b.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) || path.Clean(f.Path) != f.Path || f.Path == "." {
			return b, damaged(dir, "%s names the file %q", manifestName, f.Path)
		}
	}
	return b, nil
}

// read returns the file if it is what the manifest says.
func (f BackupFile) read(dir string) ([]byte, error) {
	text, err := readBounded(filepath.Join(dir, filepath.FromSlash(f.Path)), maxFile)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != f.SHA256 {
		return nil, fmt.Errorf("%s is not what was backed up", f.Path)
	}
	return text, nil
}

// Restore makes the data folder to, which must be missing or empty, from the backup b that OpenBackup read in dir. When it
// fails, what it wrote is removed.
func (b Backup) Restore(dir, to string) (err error) {
	made, err := emptyFolder(to)
	if err != nil {
		return fmt.Errorf("restore to %s: %w", to, err)
	}
	defer func() {
		if err != nil {
			clearFolder(to, made)
			err = fmt.Errorf("restore to %s: %w", to, err)
		}
	}()
	if b.Store {
		if err := copyTree(filepath.Join(dir, StoreName), filepath.Join(to, StoreName)); err != nil {
			return err
		}
	}
	folders := []string{"."}
	for _, f := range b.Files {
		text, err := f.read(dir)
		if err != nil {
			return err
		}
		folder := path.Dir(f.Path)
		if err := os.MkdirAll(filepath.Join(to, filepath.FromSlash(folder)), 0o700); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(to, filepath.FromSlash(f.Path)), text); err != nil {
			return err
		}
		if !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	for _, f := range folders {
		if err := syncFolder(filepath.Join(to, filepath.FromSlash(f))); err != nil {
			return err
		}
	}
	return syncFolder(filepath.Dir(filepath.Clean(to)))
}

// emptyFolder makes dir, or accepts an empty folder; made tells which. The folder above must exist: where a disk that is
// not mounted should be, nothing is written.
func emptyFolder(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = hintf("choose another folder; nothing is overwritten", "the folder is not empty")
	}
	return false, err
}

// clearFolder removes what is in dir, and dir itself.
func clearFolder(dir string, itself bool) {
	if itself {
		_ = os.RemoveAll(dir)
		return
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		_ = os.RemoveAll(filepath.Join(dir, e.Name()))
	}
}

// inside tells whether path is the folder or in it, through links too.
func inside(folder, path string) bool {
	f, err := realPath(folder)
	if err != nil {
		return false
	}
	p, err := realPath(path)
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(f, p)
	return err == nil && filepath.IsLocal(rel)
}

// realPath is absolute and free of links, as far as the path exists.
func realPath(p string) (string, error) {
	p, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	if r, err := filepath.EvalSymlinks(p); err == nil {
		return r, nil
	}
	if dir := filepath.Dir(p); dir != p {
		r, err := realPath(dir)
		return filepath.Join(r, filepath.Base(p)), err
	}
	return p, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("read %s: more than %d MiB, which no file of a broker has", path, limit>>20)
	}
	return b, err
}

// writeFile makes a file, 0600, that is on the disk when it returns.
func writeFile(path string, b []byte) error { return writeFrom(path, bytes.NewReader(b)) }

func writeFrom(path string, r io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close())
}

// copyTree copies a folder of regular files, whole.
func copyTree(from, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		switch {
		case e.IsDir():
			err = copyTree(src, dst)
		case e.Type().IsRegular():
			err = copyOne(src, dst)
		default:
			err = fmt.Errorf("%s is neither a file nor a folder", src)
		}
		if err != nil {
			return err
		}
	}
	return syncFolder(to)
}

func copyOne(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return writeFrom(to, f)
}
