// Package built makes the sealmq program that a package of tests drives, with
// the race detector when the tests have it.
package built

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

var given = flag.String("sealmq", "", "the sealmq program to test; empty: that of the environment variable SEALMQ_PROGRAM, else built from this repository")

// Run runs the tests of a package with the program's path in *path, and returns
// what to exit with. The package's folder is two below that of the module sealmq.
func Run(m *testing.M, path *string) int {
	flag.Parse()
	if Race {
		os.Setenv("GORACE", "atexit_sleep_ms=0") // else each of hundreds of short processes lasts a second longer
	}
	if *path = *given; *path == "" {
		*path = os.Getenv("SEALMQ_PROGRAM")
	}
	if *path != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "sealmq-program-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	*path = filepath.Join(dir, "sealmq")
	args := []string{"build", "-o", *path}
	if Race {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "./cmd/sealmq")...)
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build ./cmd/sealmq: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
