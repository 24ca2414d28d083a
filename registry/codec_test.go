package registry

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/pki"
)

// sampleEntry has something of everything.
func sampleEntry() *entry {
	issuer := [keySize]byte{1, 2, 3}
	e := &entry{id: "pump-17", groups: []string{"a", "b"}, attributes: []attribute{{"firmware", ""}, {"site", "nördlich"}}, note: "note",
		state: Quarantined, created: 1, changed: start.UnixMilli(), certs: []cert{
			{serial: [serialSize]byte{0x80, 19: 1}, spki: [keySize]byte{9}, issuer: &issuer, notBefore: 2000, notAfter: maxTime, state: CertActive},
			{serial: [serialSize]byte{19: 1}, spki: [keySize]byte{8}, issuer: &issuer, notBefore: -1000, notAfter: 5, state: CertRevoked,
				reason: pki.AACompromise, revokedAt: 77},
		}}
	return e
}

func recode(v []byte) ([]byte, error) {
	e, err := decodeEntry("pump-17", v, newInterner())
	if err != nil {
		return nil, err
	}
	return appendEntry(nil, e), nil
}

func recodeSeen(v []byte) ([]byte, error) {
	s, roots, err := decodeSeen(v, newInterner())
	if err != nil {
		return nil, err
	}
	return appendSeen(nil, &s, roots), nil
}

func sampleSeen() *Seen {
	return &Seen{At: start, Address: "[2001:db8::1]:5", TLSVersion: "1.3", Group: "X25519MLKEM768", CipherSuite: "TLS_AES_128_GCM_SHA256",
		Serial: "8001", Firmware: "1.2.3"}
}

func TestCodec(t *testing.T) {
	purged := sampleEntry()
	purged.purged, purged.state, purged.groups, purged.attributes, purged.note = true, Revoked, nil, nil, ""
	for name, c := range map[string]struct {
		value  []byte
		recode func([]byte) ([]byte, error)
	}{
		"device": {appendEntry(nil, sampleEntry()), recode}, "purged": {appendEntry(nil, purged), recode},
		"bare": {appendEntry(nil, &entry{state: Active}), recode}, "seen": {appendSeen(nil, sampleSeen(), ""), recodeSeen},
		"roots": {appendSeen(nil, sampleSeen(), strings.Repeat("r", 2*keySize)), recodeSeen},
	} {
		got, err := c.recode(c.value)
		if err != nil || !bytes.Equal(got, c.value) {
			t.Errorf("%s: %x became %x, %v", name, c.value, got, err)
		}
		for i := range c.value {
			if name == "roots" && i == len(c.value)-1-2*keySize {
				continue // without roots it is whole
			}
			if _, err := c.recode(c.value[:i]); !errors.Is(err, errDamaged) {
				t.Errorf("%s cut after %d bytes: %v", name, i, err)
			}
		}
		if _, err := c.recode(append(bytes.Clone(c.value), 0)); !errors.Is(err, errDamaged) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
		c.value[0]++
		if _, err := c.recode(c.value); !errors.Is(err, errDamaged) {
			t.Errorf("%s of another layout: %v", name, err)
		}
	}
}

// What the limits do not allow is no record.
func TestCodecRefuses(t *testing.T) {
	for name, change := range map[string]func(e *entry){
		"state":                func(e *entry) { e.state = "" },
		"group":                func(e *entry) { e.groups = []string{"a b"} },
		"order of groups":      func(e *entry) { e.groups = []string{"b", "a"} },
		"attribute":            func(e *entry) { e.attributes[0].name = "" },
		"attributes twice":     func(e *entry) { e.attributes[0].name = "site" },
		"value":                func(e *entry) { e.attributes[0].value = "\n" },
		"note":                 func(e *entry) { e.note = "\x1b[2J" },
		"time":                 func(e *entry) { e.changed = 1 << 60 },
		"serial":               func(e *entry) { e.certs[0].serial = [serialSize]byte{} },
		"serial twice":         func(e *entry) { e.certs[1].serial = e.certs[0].serial },
		"order":                func(e *entry) { e.certs[0], e.certs[1] = e.certs[1], e.certs[0] },
		"reason":               func(e *entry) { e.certs[1].reason = 8 },
		"reason of active":     func(e *entry) { e.certs[0].reason = 1 },
		"time of active":       func(e *entry) { e.certs[0].revokedAt = 1 },
		"no time of a revoked": func(e *entry) { e.certs[1].revokedAt = 0 },
		"validity":             func(e *entry) { e.certs[1].notAfter = -2000 },
		"end":                  func(e *entry) { e.certs[0].notAfter++ },
	} {
		e := sampleEntry()
		change(e)
		if _, err := recode(appendEntry(nil, e)); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decodeEntry("a/b", appendEntry(nil, sampleEntry()), newInterner()); !errors.Is(err, errDamaged) {
		t.Errorf("id: %v", err)
	}
}

// The longest record is shorter than what the store takes when space is low.
func TestLongestRecord(t *testing.T) {
	d := Device{ID: "d", State: Revoked, Note: strings.Repeat("n", MaxNote), Attributes: map[string]string{}}
	for i := range MaxGroups {
		d.Groups = append(d.Groups, fmt.Sprintf("%064d", i))
	}
	for i := range MaxAttributes {
		d.Attributes[fmt.Sprintf("%064d", i)] = strings.Repeat("v", MaxAttribute)
	}
	e := &entry{id: d.ID, created: maxTime * 1000, changed: maxTime * 1000}
	e.set(&d)
	var key [keySize]byte
	for i := range maxKept {
		e.certs = append(e.certs, cert{serial: [serialSize]byte{byte(i + 1)}, issuer: &key, notBefore: minTime, notAfter: maxTime, revokedAt: maxTime,
			state: CertRevoked, reason: pki.KeyCompromise})
	}
	v := appendEntry(nil, e)
	if len(v) > 25<<10 {
		t.Errorf("%d bytes", len(v))
	}
	if _, err := recode(v); err != nil {
		t.Error(err)
	}
}

// No value makes a decoder panic, and what is taken is the same after another round, and can be shown.
func FuzzDecode(f *testing.F) {
	f.Add(appendEntry(nil, sampleEntry()), false)
	f.Add(appendSeen(nil, sampleSeen(), strings.Repeat("r", keySize)), true)
	f.Fuzz(func(t *testing.T, v []byte, seen bool) {
		f := recode
		if seen {
			f = recodeSeen
		}
		a, err := f(v)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Fatal(err)
			}
			return
		}
		b, err := f(a)
		if err != nil || !bytes.Equal(a, b) {
			t.Fatalf("%x became %x: %v", a, b, err)
		}
		if !seen {
			e, _ := decodeEntry("pump-17", v, newInterner())
			d := e.device()
			if err := d.check(); err != nil {
				t.Fatal(err)
			}
			for i := range d.Certificates {
				c, err := packCert(&d.Certificates[i], func([keySize]byte) *[keySize]byte { return e.certs[i].issuer })
				if diff := cmp.Diff(e.certs[i], c, cmp.AllowUnexported(cert{})); err != nil || diff != "" {
					t.Fatal(err, diff)
				}
			}
		}
	})
}

func TestSerials(t *testing.T) {
	for in, want := range map[string]string{"1": "01", "01": "01", "00:AB:cd": "abcd", "0123": "0123", strings.Repeat("f", 40): strings.Repeat("f", 40)} {
		b, err := parseSerial(in)
		if got := serialText(b); err != nil || got != want {
			t.Errorf("%s is %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "::", "x", "-1", "0x1", strings.Repeat("f", 41), strings.Repeat("0", 81)} {
		if _, err := parseSerial(in); err == nil {
			t.Errorf("%q is a serial", in)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{"": "", "v1.2": "v1.2", "a\x00b\n": "a\uFFFDb\uFFFD", "\xffx": "\uFFFDx", strings.Repeat("ä", 9): strings.Repeat("ä", 5),
		strings.Repeat("x", 1000): strings.Repeat("x", 10)} {
		if got := clean(in, 10); got != want || checkText("", got, 10) != nil {
			t.Errorf("%q is %q", in, got)
		}
	}
	if (time.Time{}).UnixMilli() != minTime*1000 {
		t.Error("the first time is another")
	}
}
