package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// CheckModes refuses a folder that its group or others can open, or that holds a file or folder of which that is true.
// The error has a Hint, the chmod line that helps. Windows, where modes say nothing, is not checked; nor is what does
// not exist.
func CheckModes(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	fi, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("open folder of the store: %w", err)
	case !fi.IsDir():
		return fmt.Errorf("open folder of the store: %s is not a folder", dir)
	}
	root := dir
	if t, err := filepath.EvalSymlinks(dir); err == nil {
		root = t // WalkDir does not follow a link
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("open folder of the store: %w", err)
		}
		if d.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		fi, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return fmt.Errorf("open folder of the store: %w", err)
		}
		if fi.Mode().Perm()&0o077 == 0 {
			return nil
		}
		what := "file of the store"
		if d.IsDir() {
			what = "folder of the store"
		}
		return &hinted{
			fmt.Errorf("open %s: %s is open to others (mode %04o)", path, what, fi.Mode().Perm()),
			"chmod -R go= " + quote(dir),
		}
	})
	return err
}

// hinted is an error with a line that says what to do.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint is one line of advice.
func (e *hinted) Hint() string { return e.hint }

// quote makes s one word for a shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:,@%", r)
	}
	if s != "" && s[0] != '-' && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	if strings.HasPrefix(s, "-") {
		s = "./" + s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// createPrivate creates an empty file that never was anybody else's to open, in the place of one that exists.
func createPrivate(name string) error {
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL
	f, err := os.OpenFile(name, flags, fileMode)
	for errors.Is(err, fs.ErrExist) {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f, err = os.OpenFile(name, flags, fileMode)
	}
	if err != nil {
		return err
	}
	err = os.Chmod(name, fileMode) // the umask may have taken bits away
	if err2 := f.Close(); err == nil {
		err = err2
	}
	return err
}
