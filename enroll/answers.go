package enroll

import (
	"encoding/hex"
	"sync"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// answers remembers the certificates issued last, for devices that ask again since they have lost the answer.
type answers struct {
	mu   sync.Mutex
	m    map[answerKey]answer
	ring []answerKey // the oldest is at next
	next int
}

type answerKey struct {
	id   string
	spki pki.SPKI
}

type answer struct {
	out *identity.Issued
	at  time.Time
}

// answerLife is how long a repeated request gets the same certificate.
const answerLife = time.Hour

func newAnswers(most int) *answers {
	return &answers{m: make(map[answerKey]answer), ring: make([]answerKey, most)}
}

func (as *answers) put(id string, spki pki.SPKI, out *identity.Issued, now time.Time) {
	k := answerKey{id, spki}
	as.mu.Lock()
	defer as.mu.Unlock()
	if _, ok := as.m[k]; !ok {
		delete(as.m, as.ring[as.next])
		as.ring[as.next] = k
		as.next = (as.next + 1) % len(as.ring)
	}
	as.m[k] = answer{out, now}
}

// get returns the certificate that a device was given for a key within the last hour, if the registry has it as active.
func (as *answers) get(id string, spki pki.SPKI, d *registry.Device, now time.Time) *identity.Issued {
	as.mu.Lock()
	a, ok := as.m[answerKey{id, spki}]
	as.mu.Unlock()
	if !ok || now.Sub(a.at) >= answerLife || now.Before(a.at) {
		return nil
	}
	serial := serialOf(a.out)
	for i := range d.Certificates {
		if c := &d.Certificates[i]; c.Serial == serial && c.State == registry.CertActive {
			return a.out
		}
	}
	return nil
}

// serialOf is a serial as the registry writes it.
func serialOf(out *identity.Issued) string {
	b := out.Leaf.SerialNumber.Bytes()
	if len(b) == 0 {
		b = []byte{0}
	}
	return hex.EncodeToString(b)
}
