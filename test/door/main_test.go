package door

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/sealmq/sealmq/test/internal/built"
)

// patience bounds every single wait. It is only ever used up by a failure.
var patience = flag.Duration("patience", time.Minute, "how long a test waits for what has to happen")

var long = flag.Bool("long", false, "run the floods in full size, some minutes, and print what was measured")

// program is the path of the sealmq binary, built once for all tests.
var program string

func TestMain(m *testing.M) {
	if runtime.GOOS != "linux" {
		fmt.Println("skipped: strangers need the addresses of 127.0.0.0/8, which Linux has")
		os.Exit(0)
	}
	os.Exit(built.Run(m, &program))
}

// size is how much of something a test takes.
func size(short, full int) int {
	if *long {
		return full
	}
	return short
}
