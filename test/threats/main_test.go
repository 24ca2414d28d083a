package threats

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/sealmq/sealmq/test/internal/built"
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
	os.Exit(built.Run(m, &program))
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
