package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sealmq/sealmq/pki"
)

// maxSmall bounds the files with certificates, keys and passwords that commands read.
const maxSmall = 1 << 20

// readSmall reads a file of at most a megabyte; "-" is what comes from a reader that the caller gives.
func readSmall(name string, stdin ...io.Reader) ([]byte, error) {
	in := io.Reader(nil)
	if name == "-" && len(stdin) > 0 {
		in = stdin[0]
	} else {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxSmall+1))
	if err == nil && len(b) > maxSmall {
		err = fmt.Errorf("read %s: more than %d bytes", name, maxSmall)
	}
	return b, err
}

// target is a folder that files are going to be written to. Nothing in it is overwritten.
type target struct {
	dir  string
	made bool // by us: nothing else is in it
}

// reserve makes the folder and checks that files with these names can be written into it. cancel undoes that.
func reserve(dir string, names []string) (t *target, err error) {
	t = &target{dir: dir}
	for _, name := range names {
		if path := filepath.Join(dir, name); exists(path) {
			return nil, withExit(exitFile, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist},
				"nothing was written; choose another folder with --out")
		}
	}
	t.made = !exists(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	probe, err := os.CreateTemp(dir, ".sealmq-")
	if err != nil {
		t.cancel()
		return nil, err
	}
	return t, errors.Join(probe.Close(), os.Remove(probe.Name()))
}

func (t *target) cancel() {
	if t.made {
		os.Remove(t.dir) // fails if something is in it, which is not ours
	}
}

// write writes all files or none.
func (t *target) write(files []pki.File) error {
	if t.made { // a folder of keys that is made inside a repository stays out of it
		files = append(files, pki.File{Name: ".gitignore", Content: []byte("*\n")})
	}
	err := writeFiles(t.dir, files)
	if err != nil {
		t.cancel()
	}
	return err
}

// writeFiles writes new files into a folder, which is made if it is missing: all of them or none.
func writeFiles(dir string, files []pki.File) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for i, f := range files {
		if err := writeNew(filepath.Join(dir, f.Name), f.Content, f.Secret); err != nil {
			for _, done := range files[:i] {
				os.Remove(filepath.Join(dir, done.Name))
			}
			return err
		}
	}
	return nil
}

// in is the path of a file in the folder.
func (t *target) in(name string) string { return filepath.Join(t.dir, name) }

func (t *target) String() string { return filepath.Clean(t.dir) + string(filepath.Separator) }

// writeNew writes a file that is not there yet; what cannot be written whole is removed again.
func writeNew(name string, content []byte, secret bool) error {
	mode := fs.FileMode(0o644)
	if secret {
		mode = 0o600
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(name)
	}
	return err
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// folderFor is the folder of an id: not every file system takes a colon.
func folderFor(id string) string { return strings.ReplaceAll(id, ":", "_") }
