package certs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// snapshot is what files looked like from outside.
type snapshot []fileState

type fileState struct {
	path string
	info fs.FileInfo // nil: it could not be looked at
	// young: written so lately that another write may look the same.
	young bool
}

// youngest is the age from which on a file that is written again shows another time, also where times are coarse.
const youngest = 3 * time.Second

// take looks at files. Links are followed: what counts is what is read.
func take(paths []string) snapshot {
	s := make(snapshot, len(paths))
	now := time.Now() // file times are of the same clock
	for i, p := range paths {
		s[i].path = p
		if fi, err := os.Stat(p); err == nil {
			age := now.Sub(fi.ModTime())
			s[i].info, s[i].young = fi, age >= 0 && age < youngest
		}
	}
	return s
}

// same tells whether the files have not changed between the two.
func (s snapshot) same(t snapshot) bool {
	if len(s) != len(t) {
		return false
	}
	for i, a := range s {
		b := t[i]
		switch {
		case a.path != b.path || (a.info == nil) != (b.info == nil):
			return false
		case a.info == nil:
		case !os.SameFile(a.info, b.info) || !a.info.ModTime().Equal(b.info.ModTime()) || a.info.Size() != b.info.Size() ||
			a.info.Mode() != b.info.Mode():
			return false
		}
	}
	return true
}

// settled tells whether the next snapshot shows every change.
func (s snapshot) settled() bool {
	for _, f := range s {
		if f.young {
			return false
		}
	}
	return true
}

var errChanging = errors.New("the files are being written")

// steady runs read while files stay as they are: what was read belongs together. It tries three times.
func steady(paths []string, read func() error) (snapshot, error) {
	s := take(paths)
	for range 3 {
		err := read()
		after := take(paths)
		if s.same(after) {
			return after, err
		}
		s = after
	}
	return s, errChanging
}

// replace writes a file of the data folder: whole, or not at all.
func replace(path string, b []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if e := f.Sync(); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

const maxCAFile = 1 << 20

func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("read %s: longer than %d bytes", path, most)
	}
	return b, err
}
