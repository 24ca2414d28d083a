package authn

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// patience bounds every single wait. It is only ever used up by a failure.
var patience = flag.Duration("patience", time.Minute, "how long a test waits for what has to happen")

// program is the path of the sealmq binary, built once for all tests.
var program string

var tested = flag.String("sealmq", "", "the sealmq program to test; empty: built from this repository")

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "4") // they wait more than they work
	os.Exit(func() int {
		if program = *tested; program != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "sealmq-authn")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "sealmq")
		args := []string{"build", "-o", program}
		if raceDetector {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, "./cmd/sealmq")...)
		build.Dir = filepath.Join("..", "..")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build ./cmd/sealmq: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}
