package door

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// patience bounds every single wait. It is only ever used up by a failure.
var patience = flag.Duration("patience", time.Minute, "how long a test waits for what has to happen")

var long = flag.Bool("long", false, "run the floods in full size, some minutes, and print what was measured")

// program is the path of the sealmq binary, built once for all tests.
var program string

var tested = flag.String("sealmq", "", "the sealmq program to test; empty: built from this repository")

func TestMain(m *testing.M) {
	flag.Parse()
	if runtime.GOOS != "linux" {
		fmt.Println("skipped: strangers need the addresses of 127.0.0.0/8, which Linux has")
		os.Exit(0)
	}
	os.Exit(func() int {
		if program = *tested; program != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "sealmq-door")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "sealmq")
		args := []string{"build", "-o", program}
		if raceDetector {
			args = append(args, "-race")
			os.Setenv("GORACE", "atexit_sleep_ms=0") // else each short process lasts a second longer
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

// size is how much of something a test takes.
func size(short, full int) int {
	if *long {
		return full
	}
	return short
}
