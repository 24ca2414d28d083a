package mqtt

import (
	"errors"
	"testing"
)

func TestParseHeader(t *testing.T) {
	for in, want := range map[string]Header{
		"10 00":          {CONNECT, 0, 0, 2},
		"30 7f":          {PUBLISH, 0, 127, 2},
		"3d 8001":        {PUBLISH, 13, 128, 3},
		"32 ff7f":        {PUBLISH, 2, 16383, 3},
		"34 808001":      {PUBLISH, 4, 16384, 4},
		"31 ffff7f":      {PUBLISH, 1, 2097151, 4},
		"30 80808001":    {PUBLISH, 0, 2097152, 5},
		"30 ffffff7f 00": {PUBLISH, 0, 268435455, 5},
		"62 02":          {PUBREL, 2, 2, 2},
		"82 05 00":       {SUBSCRIBE, 2, 5, 2},
		"8a 05":          {SUBSCRIBE, 10, 5, 2}, // DUP of version 3.1
		"c0 00 c0":       {PINGREQ, 0, 0, 2},
		"d0 00":          {PINGRESP, 0, 0, 2},
		"e0 00":          {DISCONNECT, 0, 0, 2},
		"f0 02":          {AUTH, 0, 2, 2},
	} {
		if h, err := ParseHeader(unhex(t, in)); err != nil || h != want {
			t.Errorf("%s: %+v, %v", in, h, err)
		}
	}
	for _, in := range []string{"", "10", "30 80", "30 8080", "30 ffffff", "c0", "82"} {
		if _, err := ParseHeader(unhex(t, in)); err != ErrIncomplete {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// clauses: MQTT5 [MQTT-1.5.5-1] [MQTT-2.1.3-1] [MQTT-3.3.1-2] [MQTT-3.3.1-4] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1] MQTT311 [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-3.3.1-2] [MQTT-3.3.1-4] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
func TestParseHeaderRefuses(t *testing.T) {
	for in, text := range map[string]string{
		"00":            "packet type 0",
		"05 00":         "packet type 0",
		"30 80808080":   "more than four bytes",
		"30 ffffffff":   "more than four bytes",
		"30 ffffffff7f": "more than four bytes",
		"30 8000":       "longer than it needs",
		"30 ff8000":     "longer than it needs",
		"10 80808000":   "longer than it needs",
		"36":            "QoS 3",
		"3f 00":         "QoS 3",
		"38":            "DUP with QoS 0",
		"39 02":         "DUP with QoS 0",
		"c0 01":         "PINGREQ has a body",
		"d0 8001":       "PINGRESP has a body",
		"60":            "reserved flags of PUBREL",
		"80":            "reserved flags of SUBSCRIBE",
		"a0":            "reserved flags of UNSUBSCRIBE",
		"68":            "reserved flags of PUBREL",
		"83":            "reserved flags of SUBSCRIBE",
	} {
		_, err := ParseHeader(unhex(t, in))
		checkRefused(t, err, MalformedPacket, text)
	}
	// Every type but PUBLISH has one value of the flags, and PUBREL, SUBSCRIBE and UNSUBSCRIBE may say DUP in 3.1.
	for b := range 256 {
		typ, flags := Type(b>>4), uint8(b&15)
		_, err := ParseHeader([]byte{byte(b), 0})
		good := typ != 0 && flags == 0
		switch typ {
		case PUBLISH:
			good = flags&6 != 6 && flags&14 != 8
		case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
			good = flags == 2 || flags == 10
		}
		if (err == nil) != good {
			t.Errorf("%02x: %v", b, err)
		}
		if typ == PUBREL || typ == SUBSCRIBE || typ == UNSUBSCRIBE {
			for _, v := range versions {
				bad := checkFlags(typ, v, flags) != nil
				if bad == (flags == 2 || flags == 10 && v == V31) {
					t.Errorf("%v with flags %x in %v refused: %v", typ, flags, v, bad)
				}
			}
		}
	}
}

// clauses: MQTT5 [MQTT-1.5.5-1]
func TestVarint(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 16383, 16384, 2097151, 2097152, MaxRemaining} {
		b := AppendVarint(nil, n)
		v, size, err := ParseVarint(append(b, 0xFF))
		if v != n || size != len(b) || size != VarintLen(n) || err != nil {
			t.Errorf("%d: %x, parsed %d of %d bytes, %v", n, b, v, size, err)
		}
		for i := range b {
			if _, _, err := ParseVarint(b[:i]); err != ErrIncomplete {
				t.Errorf("%x: %v", b[:i], err)
			}
		}
	}
}

func TestPing(t *testing.T) {
	if s := string(AppendPingresp(AppendPingreq(nil))); s != "\xc0\x00\xd0\x00" {
		t.Errorf("%x", s)
	}
}

func FuzzHeader(f *testing.F) {
	for _, s := range []string{"", "\x10", "\x30\x80\x80\x80\x80", "\x30\xff\xff\xff\x7f", "\x82\x80\x00", "\xc0\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		var e *Error
		if err != nil {
			if err != ErrIncomplete && !errors.As(err, &e) {
				t.Fatalf("%x: %T", b, err)
			}
			if err == ErrIncomplete && len(b) >= 5 {
				t.Fatalf("%x: incomplete", b)
			}
			return
		}
		if out := AppendHeader(nil, h.Type, h.Flags, h.Length); len(out) != h.Size || string(out) != string(b[:h.Size]) {
			t.Fatalf("%x: %+v becomes %x", b, h, out)
		}
	})
}
