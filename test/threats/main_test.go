package threats

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// root is the repository.
const root = "../.."

// patience bounds every single wait. It is only ever used up by a failure.
var patience = flag.Duration("patience", time.Minute, "how long a test waits for what has to happen")

var long = flag.Bool("long", false, "take the measures that need many attempts")

// program is the path of the sealmq binary, built once for all tests.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "4") // they wait more than they work
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "sealmq-threats")
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
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build ./cmd/sealmq: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// eventually waits until check finds nothing wrong.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	for end := time.Now().Add(*patience); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
