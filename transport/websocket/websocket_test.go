package websocket

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppendHeader(t *testing.T) {
	for _, c := range []struct {
		op   Opcode
		size int
		want []byte
	}{
		// RFC 6455, 5.7.
		{OpPing, 5, []byte{0x89, 0x05}},
		{OpBinary, 256, []byte{0x82, 0x7e, 0x01, 0x00}},
		{OpBinary, 65536, []byte{0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0}},

		{OpBinary, 0, []byte{0x82, 0}},
		{OpBinary, 125, []byte{0x82, 125}},
		{OpBinary, 126, []byte{0x82, 126, 0, 126}},
		{OpBinary, 65535, []byte{0x82, 126, 0xff, 0xff}},
	} {
		if got := AppendHeader([]byte("x"), c.op, c.size); !bytes.Equal(got[1:], c.want) || got[0] != 'x' {
			t.Errorf("AppendHeader(%d, %d) = % x", c.op, c.size, got)
		}
		if n := HeaderLen(c.size); n != len(c.want) {
			t.Errorf("HeaderLen(%d) = %d", c.size, n)
		}
	}
}

func TestAppendClose(t *testing.T) {
	for _, c := range []struct {
		code   uint16
		reason string
		want   string
	}{
		{CloseNormal, "", "\x88\x02\x03\xe8"},
		{CloseProtocol, "why", "\x88\x05\x03\xeawhy"},
		{CloseNoStatus, "why", "\x88\x00"},
	} {
		if got := AppendClose(nil, c.code, c.reason); string(got) != c.want {
			t.Errorf("AppendClose(%d, %q) = %q", c.code, c.reason, got)
		}
	}
	for n := range 4 {
		got := AppendClose(nil, CloseProtocol, strings.Repeat("x", n)+strings.Repeat("é", 100))
		if len(got) > 2+MaxControl || len(got) < MaxControl || int(got[1]) != len(got)-2 || !utf8.Valid(got[4:]) {
			t.Errorf("long reason: % x", got)
		}
		if got := AppendClose(nil, CloseProtocol, strings.Repeat("\x80", 200)); len(got) != 4 {
			t.Errorf("long reason that is no text: % x", got)
		}
	}
}

func TestAppendAnswer(t *testing.T) {
	for _, c := range []struct {
		ev   Event
		data string
		want string
	}{
		{Ping, "Hello", "\x8a\x05Hello"},
		{Ping, "", "\x8a\x00"},
		{Close, "\x03\xe9going", "\x88\x02\x03\xe9"},
		{Close, "", "\x88\x00"},
		{Data, "x", ""},
		{None, "", ""},
	} {
		if got := AppendAnswer(nil, c.ev, []byte(c.data)); string(got) != c.want {
			t.Errorf("answer to %d %q: %q", c.ev, c.data, got)
		}
	}
}
