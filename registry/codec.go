package registry

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// Records begin with the version of their layout. Numbers are varints, texts have their length before them. The device's id
// is in the key.
const layout = 1

// errDamaged is the error of a record that this package did not write.
var errDamaged = errors.New("stored value is damaged")

const purgedFlag = 1

// stateCodes and certCodes are what states are in records: their positions.
func stateCodes() []State                  { return []State{"", Active, Pending, Disabled, Quarantined, Revoked} }
func certCodes() []CertState               { return []CertState{"", CertActive, CertSuperseded, CertRevoked} }
func code[T comparable](all []T, v T) byte { return byte(slices.Index(all, v)) }

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendEntry(b []byte, e *entry) []byte {
	flags := byte(0)
	if e.purged {
		flags = purgedFlag
	}
	b = append(b, layout, flags, code(stateCodes(), e.state))
	b = binary.AppendVarint(b, e.created)
	b = binary.AppendVarint(b, e.changed)
	b = appendText(b, e.note)
	b = binary.AppendUvarint(b, uint64(len(e.groups)))
	for _, g := range e.groups {
		b = appendText(b, g)
	}
	b = binary.AppendUvarint(b, uint64(len(e.attributes)))
	for _, a := range e.attributes {
		b = appendText(appendText(b, a.name), a.value)
	}
	b = binary.AppendUvarint(b, uint64(len(e.certs)))
	for i := range e.certs {
		c := &e.certs[i]
		b = append(append(append(b, c.serial[:]...), c.issuer[:]...), c.spki[:]...)
		b = binary.AppendVarint(b, c.notBefore)
		b = binary.AppendVarint(b, c.notAfter)
		b = append(b, code(certCodes(), c.state), byte(c.reason))
		b = binary.AppendVarint(b, c.revokedAt)
	}
	return b
}

// decoder reads a record. After the first error everything is zero.
type decoder struct {
	b   []byte
	bad bool
}

func newDecoder(b []byte) decoder {
	d := decoder{b: b}
	if d.byte() != layout {
		d.fail()
	}
	return d
}

func (d *decoder) fail() { d.b, d.bad = nil, true }

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) len(most int) int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > uint64(most) {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

// bytes returns a part of the record.
func (d *decoder) bytes(most int) []byte { return d.take(d.len(most)) }

func (d *decoder) end() error {
	if d.bad || len(d.b) > 0 {
		return errDamaged
	}
	return nil
}

func decodeEntry(id string, v []byte, in *interner) (*entry, error) {
	if checkID(id) != nil {
		return nil, errDamaged
	}
	d := newDecoder(v)
	flags, state := d.byte(), d.byte()
	if flags&^purgedFlag != 0 || state == 0 || int(state) >= len(stateCodes()) {
		return nil, errDamaged
	}
	e := &entry{id: id, purged: flags&purgedFlag != 0, state: stateCodes()[state], created: d.int(), changed: d.int(), last: new(sighting)}
	e.note = in.text(d.bytes(MaxNote))
	if n := d.len(MaxGroups); n > 0 {
		e.groups = make([]string, n)
	}
	for i := range e.groups {
		e.groups[i] = in.text(d.bytes(math.MaxUint8))
	}
	if n := d.len(MaxAttributes); n > 0 {
		e.attributes = make([]attribute, n)
	}
	for i := range e.attributes {
		e.attributes[i] = attribute{in.text(d.bytes(math.MaxUint8)), in.text(d.bytes(MaxAttribute))}
	}
	if n := d.len(maxKept); n > 0 {
		e.certs = make([]cert, n)
	}
	for i := range e.certs {
		c := &e.certs[i]
		copy(c.serial[:], d.take(serialSize))
		var key [keySize]byte
		copy(key[:], d.take(keySize))
		c.issuer = in.key(key)
		copy(c.spki[:], d.take(keySize))
		c.notBefore, c.notAfter = d.int(), d.int()
		c.state = certCodes()[int(d.byte())%len(certCodes())]
		c.reason, c.revokedAt = pki.Reason(d.byte()), d.int()
		if c.check() != nil {
			return nil, errDamaged
		}
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	if !validMilli(e.created) || !validMilli(e.changed) {
		return nil, errDamaged
	}
	if !slices.IsSortedFunc(e.certs, newestFirst) {
		return nil, errDamaged
	}
	dev := e.device()
	if dev.check() != nil || !slices.Equal(dev.Groups, e.groups) || len(dev.Attributes) != len(e.attributes) {
		return nil, errDamaged
	}
	return e, nil
}

// validMilli reports whether a time is one that JSON can say.
func validMilli(t int64) bool { return t >= minTime*1000 && t < (maxTime+1)*1000 }

func appendSeen(b []byte, s *Seen, roots string) []byte {
	b = binary.AppendVarint(append(b, layout), s.At.UnixMilli())
	for _, t := range []string{s.Address, s.TLSVersion, s.Group, s.CipherSuite, s.Serial, s.Firmware} {
		b = appendText(b, t)
	}
	if roots != "" {
		b = appendText(b, roots)
	}
	return b
}

// decodeSeen reads what appendSeen wrote. Without roots there is nothing in their place.
func decodeSeen(v []byte, in *interner) (s Seen, roots string, err error) {
	d := newDecoder(v)
	at := d.int()
	if !validMilli(at) {
		d.fail()
	}
	s.At = time.UnixMilli(at).UTC()
	for _, p := range []*string{&s.Address, &s.TLSVersion, &s.Group, &s.CipherSuite, &s.Serial, &s.Firmware} {
		*p = in.text(d.bytes(maxSeen))
	}
	if len(d.b) > 0 {
		if roots = in.text(d.bytes(maxRoots * keySize)); len(roots) == 0 || len(roots)%keySize != 0 {
			d.fail()
		}
	}
	return s, roots, d.end()
}

// interner keeps one copy of texts that many devices have, and of the names of issuers' keys. It is not for several
// goroutines at once.
type interner struct {
	texts map[string]string
	keys  map[[keySize]byte]*[keySize]byte
}

const (
	internMost   = 1 << 14 // texts
	internLength = 64      // bytes of a text; longer ones are not looked for
)

func newInterner() *interner {
	return &interner{make(map[string]string), make(map[[keySize]byte]*[keySize]byte)}
}

func (in *interner) text(b []byte) string {
	if s, ok := in.texts[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(in.texts) < internMost && len(s) <= internLength {
		in.texts[s] = s
	}
	return s
}

func (in *interner) key(k [keySize]byte) *[keySize]byte {
	p := in.keys[k]
	if p == nil {
		p = &k
		if len(in.keys) < internMost {
			in.keys[k] = p
		}
	}
	return p
}
