package password

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Source is a password file that may change while it is in use. It is for one goroutine at a time.
type Source struct {
	path   string
	seen   look // at the last Poll
	read   look // when it was read last
	sum    [sha256.Size]byte
	some   bool // the file in use has users
	failed bool // the last reading has
}

// look is what a file looks like from outside; info is nil if it cannot be looked at.
type look struct {
	info fs.FileInfo
	// young: written so lately that another write may look the same.
	young bool
}

// youngest is the age from which on a file that is written again shows another time, also where times are coarse.
const youngest = 3 * time.Second

func lookAt(path string) look {
	fi, err := os.Stat(path)
	if err != nil {
		return look{}
	}
	age := time.Since(fi.ModTime())
	return look{fi, age >= 0 && age < youngest}
}

func (l look) same(m look) bool {
	if l.info == nil || m.info == nil {
		return l.info == nil && m.info == nil
	}
	return os.SameFile(l.info, m.info) && l.info.ModTime().Equal(m.info.ModTime()) && l.info.Size() == m.info.Size() && l.info.Mode() == m.info.Mode()
}

// Open reads a file as Load does.
func Open(path string) (*Source, *File, error) {
	s := &Source{path: path}
	s.seen = lookAt(path)
	f, err := s.load()
	return s, f, err
}

func (s *Source) load() (*File, error) {
	s.read = s.seen
	text, err := readFile(s.path)
	if err != nil {
		return nil, err
	}
	if len(text) == 0 && s.some {
		return nil, &hinted{fmt.Errorf("load passwords: %s is empty", s.path), "if nobody is to get in by password, leave a line with # in it"}
	}
	f, err := Parse(s.path, text)
	if err != nil {
		return nil, err
	}
	s.sum, s.some = sha256.Sum256(text), len(f.order) > 0
	return f, nil
}

// Poll looks at the file and returns it when it has changed; nil if it has not. A file is read once it looks the same at two
// calls: until then it may be half written. After an error the file from before stays good, and the error comes again only
// after the next change. A file that had users and is empty is an error.
func (s *Source) Poll() (*File, error) {
	now := lookAt(s.path)
	still := now.same(s.seen)
	s.seen = now
	if !still || now.same(s.read) && !s.read.young {
		return nil, nil
	}
	again, before, failed := now.same(s.read), s.sum, s.failed
	f, err := s.load()
	s.failed = err != nil
	switch {
	case err != nil && again && failed:
		return nil, nil // told
	case err != nil:
		return nil, err
	case s.sum == before && !failed:
		return nil, nil
	}
	return f, nil
}
