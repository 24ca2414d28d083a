// Package pki is the certificate authority of a SealMQ installation: it makes
// the CA, issues certificates by one fixed profile, and keeps them as PEM files
// in the data folder.
//
//	DATA/ca/root.{pem,key}      trust anchor, 20 years; the key may be moved offline
//	DATA/ca/broker.{pem,key}    issues broker certificates, 5 years
//	DATA/ca/device.{pem,key}    issues device and operator certificates, 5 years
//	DATA/server/{cert,key}.pem  the broker's certificate, 90 days, reissued at 2/3
//	DATA/server/hosts           names asked for beside the machine's own, one a line
//	DATA/operator/{ca,cert,key}.pem
//
// Keys that the package makes are P-256; a .key file may also be encrypted, or
// name a program or token that signs. Folders are 0700, keys 0600, and a key that
// others may read is refused. Files are written whole or not at all, and a file
// that the package did not make is never overwritten. One process at a time may
// change a CA folder. The package starts no goroutine and imports nothing of the
// project. DESIGN.md tells how a root is replaced and what is checked in a CSR.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"runtime/debug"
	"time"
)

var (
	// ErrNoCA: the folder holds no CA.
	ErrNoCA = errors.New("no certificate authority here")
	// ErrClock: the clock shows a time before this program was built.
	ErrClock = errors.New("the system clock is wrong")
)

// oldest is the earliest believable time; a machine without a battery-backed
// clock starts in 1970 and would issue certificates that have already expired.
var oldest = time.Date(2026, time.June, 1, 0, 0, 0, 0, time.UTC)

// CheckClock returns ErrClock when now precedes the build of this program.
func CheckClock(now time.Time) error {
	floor := oldest
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key != "vcs.time" {
				continue
			}
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil && t.After(floor) {
				floor = t
			}
		}
	}
	if now.Before(floor) {
		return &hinted{
			err:  wrap("issue certificate", ErrClock, "it says "+now.UTC().Format(time.RFC3339)),
			hint: "set the date (timedatectl set-ntp true), then start again",
		}
	}
	return nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// hinted is an error with a line that says what to do; commands find it by its Hint method.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// Hint is one line of advice, without a full stop.
func (e *hinted) Hint() string { return e.hint }

type detailed struct {
	op     string
	err    error
	detail string
}

func (e *detailed) Error() string { return e.op + ": " + e.err.Error() + ": " + e.detail }
func (e *detailed) Unwrap() error { return e.err }

func wrap(op string, err error, detail string) error { return &detailed{op, err, detail} }
