// Package secret reads files that hold one secret: a token, or the password of an account.
package secret

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

const most = 8 << 10 // bytes of the file

// exposed is a file that others than its owner may read or write.
type exposed struct {
	path string
	mode os.FileMode
}

func (e *exposed) Error() string {
	return fmt.Sprintf("open %s: it is open to others (mode %04o)", e.path, e.mode)
}
func (e *exposed) Hint() string { return "chmod 600 " + e.path }

// Read returns the first line of a file, which only its owner may read. The error about its mode has a Hint.
func Read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return "", err
	}
	if mode := fi.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return "", &exposed{path, mode}
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", err
	}
	if len(b) > most {
		return "", fmt.Errorf("open %s: more than %d bytes", path, most)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" || strings.ContainsRune(line, 0) {
		return "", fmt.Errorf("open %s: its first line holds no secret", path)
	}
	return line, nil
}
