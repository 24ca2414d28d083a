package pki

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// maxFile bounds every file that is read, in bytes.
const maxFile = 1 << 20

// readFile reads a bounded regular file.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("read %s: longer than %d bytes", path, maxFile)
	}
	return b, nil
}

// readSecret reads a file that nobody but its owner may read.
func readSecret(path string) ([]byte, error) {
	if err := CheckSecret(path); err != nil {
		return nil, err
	}
	return readFile(path)
}

// CheckSecret refuses a private key file, or the folder of one, that its group
// or others may open. The error carries the chmod line as a hint. Windows,
// where modes say nothing, is not checked.
func CheckSecret(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if runtime.GOOS == "windows" || fi.Mode().Perm()&0o077 == 0 {
		return nil
	}
	mode, what := "600", "private key"
	if fi.IsDir() {
		mode, what = "700", "folder of private keys"
	}
	return &hinted{
		err:  fmt.Errorf("open %s: %s is open to others (mode %04o)", path, what, fi.Mode().Perm()),
		hint: fmt.Sprintf("chmod %s %s", mode, quote(path)),
	}
}

// WriteFile replaces path with b, whole or not at all, and durably.
func WriteFile(path string, b []byte, mode fs.FileMode) error { return writeAtomic(path, b, mode) }

// writeAtomic replaces path with b: a temporary file, fsync, rename, fsync of the folder.
func writeAtomic(path string, b []byte, mode fs.FileMode) error {
	tmp, err := writeTemp(path, b, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeNew is writeAtomic for a path that must not exist yet (fs.ErrExist).
func writeNew(path string, b []byte, mode fs.FileMode) error {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	tmp, err := writeTemp(path, b, mode)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	// A link fails where a rename would overwrite. File systems without links get the rename.
	switch err := os.Link(tmp, path); {
	case err == nil:
	case errors.Is(err, fs.ErrExist):
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	default:
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(path))
}

func writeTemp(path string, b []byte, mode fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(mode); err != nil && runtime.GOOS != "windows" {
		return "", err
	}
	if _, err := f.Write(b); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// makeDir creates a 0700 folder, or accepts one that only its owner may open.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return CheckSecret(dir)
}

// quote makes a path safe to paste into a POSIX shell.
func quote(s string) string {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			continue
		}
		switch c {
		case '/', '.', '-', '_', '+', ':', ',', '@', '%':
			continue
		}
		out := []byte{'\''}
		for j := 0; j < len(s); j++ {
			if s[j] == '\'' {
				out = append(out, `'\''`...)
				continue
			}
			out = append(out, s[j])
		}
		return string(append(out, '\''))
	}
	if s == "" {
		return "''"
	}
	return s
}
