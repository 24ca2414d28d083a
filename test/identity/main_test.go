package identity

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/sealmq/sealmq/test/internal/built"
)

// patience bounds every single wait. It is only ever used up by a failure.
var patience = flag.Duration("patience", time.Minute, "how long a test waits for what has to happen")

var long = flag.Bool("long", false, "run the measures in full size, a quarter of an hour")

// program is the path of the sealmq binary, built once for all tests.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "4") // they wait more than they work
	os.Exit(built.Run(m, &program))
}

// size is how much of something a measure takes.
func size(short, full int) int {
	if *long {
		return full
	}
	return short
}
