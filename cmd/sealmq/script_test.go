package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealmq/sealmq/pki"
)

const raceOptions = "atexit_sleep_ms=10"

// TestMain also is sealmq itself for the processes that tests start. Under the race detector each of those would sleep for
// a second at its end.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", raceOptions)
	testscript.Main(m, map[string]func(){"sealmq": main})
}

// TestScripts runs testdata/*.txt, the specification of the command line.
// A script has in $PORT and $PORT2 free TCP ports and, beside the commands of
// testscript, `listening PORT`, which waits until something listens there,
// `awaits FILE REGEXP`, which waits for a line that another process writes,
// `envsubst FILE...`, which fills in $PORT, `mode FILE 0600`, which compares
// the mode of a file, and `sealkeys DIR PASSPHRASE`, which encrypts the keys of a CA.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", raceOptions)
			for _, name := range []string{"PORT", "PORT2"} {
				port, err := freePort()
				if err != nil {
					return err
				}
				env.Setenv(name, strconv.Itoa(port))
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"listening": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 1 {
					ts.Fatalf("usage: listening PORT")
				}
				ts.Check(awaitPort("127.0.0.1:" + args[0]))
			},
			"awaits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 2 {
					ts.Fatalf("usage: awaits FILE REGEXP")
				}
				re, err := regexp.Compile("(?m)" + args[1])
				ts.Check(err)
				for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
					b, err := os.ReadFile(ts.MkAbs(args[0]))
					if re.Match(b) {
						return
					}
					if time.Now().After(deadline) {
						ts.Fatalf("%s has no %s: %s %v", args[0], args[1], b, err)
					}
				}
			},
			"envsubst": func(ts *testscript.TestScript, neg bool, args []string) {
				for _, f := range args {
					b := os.Expand(ts.ReadFile(f), ts.Getenv)
					ts.Check(os.WriteFile(ts.MkAbs(f), []byte(b), 0o600))
				}
			},
			"sealkeys": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 2 {
					ts.Fatalf("usage: sealkeys DIR PASSPHRASE")
				}
				_, err := pki.EncryptKeys(ts.MkAbs(args[0]), pki.Config{Keys: pki.KeyOptions{
					Passphrase: func(string) ([]byte, error) { return []byte(args[1]), nil }, Work: 10,
				}})
				ts.Check(err)
			},
			"mode": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 2 {
					ts.Fatalf("usage: mode FILE MODE")
				}
				fi, err := os.Stat(ts.MkAbs(args[0]))
				ts.Check(err)
				if got := "0" + strconv.FormatUint(uint64(fi.Mode().Perm()), 8); got != args[1] {
					ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
				}
			},
		},
	})
}

func freePort() (port int, err error) {
	for range 100 { // below those that outgoing connections get, so that none takes it meanwhile
		port = 20000 + rand.IntN(10000)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprint(":", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

func awaitPort(addr string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}
