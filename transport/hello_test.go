package transport

import (
	"bytes"
	"crypto/tls"
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// clientHello returns the message that crypto/tls sends, in its record.
func clientHello(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go tls.Client(a, cfg).Handshake()
	buf := make([]byte, 4096)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// withExtension appends an extension to a ClientHello in a record.
func withExtension(hello []byte, id uint16, body ...byte) []byte {
	msg := bytes.Clone(hello[recordHeader:])
	msg = append(msg, byte(id>>8), byte(id), byte(len(body)>>8), byte(len(body)))
	msg = append(msg, body...)
	n := len(msg) - 4
	msg[1], msg[2], msg[3] = byte(n>>16), byte(n>>8), byte(n)
	// type, length, version, random, session, suites, methods, extensions
	at := 4 + 2 + 32
	at += 1 + int(msg[at])
	at += 2 + int(msg[at])<<8 + int(msg[at+1])
	at += 1 + int(msg[at])
	n = len(msg) - at - 2
	msg[at], msg[at+1] = byte(n>>8), byte(n)
	return append([]byte{22, 3, 1, byte(len(msg) >> 8), byte(len(msg))}, msg...)
}

func TestParseHello(t *testing.T) {
	raw := clientHello(t, &tls.Config{
		ServerName: "broker.example", NextProtos: []string{"mqtt", "h2"},
		MinVersion: tls.VersionTLS12,
	})
	h, ok := parseHello(raw[recordHeader:])
	if !ok {
		t.Fatal("not read")
	}
	if h.serverName != "broker.example" || !slices.Equal(h.alpn, []string{"mqtt", "h2"}) {
		t.Errorf("%q %q", h.serverName, h.alpn)
	}
	if !slices.Equal(h.versions, []uint16{tls.VersionTLS13, tls.VersionTLS12}) {
		t.Errorf("versions %x", h.versions)
	}
	if !slices.Contains(h.ciphers, tls.TLS_AES_128_GCM_SHA256) {
		t.Errorf("ciphers %x", h.ciphers)
	}
	for n := range len(raw) - recordHeader {
		if got, _ := parseHello(raw[recordHeader : recordHeader+n]); n < 4 && got.versions != nil {
			t.Errorf("something read from %d bytes", n)
		}
	}
}

func TestRecordCap(t *testing.T) {
	raw := clientHello(t, &tls.Config{ServerName: "x"})
	for _, tt := range []struct {
		name  string
		hello []byte
		want  int
	}{
		{"none", raw, 16384},
		{"max_fragment_length 512", withExtension(raw, extMaxFragmentLength, 1), 512},
		{"max_fragment_length 4096", withExtension(raw, extMaxFragmentLength, 4), 4096},
		{"max_fragment_length 9", withExtension(raw, extMaxFragmentLength, 9), 16384},
		{"record_size_limit 16385", withExtension(raw, extRecordSizeLimit, 0x40, 1), 16384},
		{"record_size_limit 600", withExtension(raw, extRecordSizeLimit, 0x02, 0x58), 599},
		{"record_size_limit 3", withExtension(raw, extRecordSizeLimit, 0, 3), 16384},
	} {
		h, ok := parseHello(tt.hello[recordHeader:])
		if got := h.recordCap(16384); !ok || got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// The message comes out the same however it was cut into records.
func TestReframe(t *testing.T) {
	raw := clientHello(t, &tls.Config{ServerName: "x"})
	msg, rest, state := assemble(append(bytes.Clone(raw), "rest"...))
	if state != helloWhole || string(rest) != "rest" || !bytes.Equal(msg, raw[recordHeader:]) {
		t.Fatal(state, len(msg), rest)
	}
	cut := split(msg, 3, 1, []byte("rest"))
	again, rest, state := assemble(cut)
	if state != helloWhole || string(rest) != "rest" || !bytes.Equal(again, msg) {
		t.Fatal("differs after split", state)
	}
	if bytes.Count(cut, []byte{22, 3, 1, 1, 0xf4}) == 0 {
		t.Error("not split")
	}
	for n := range raw {
		if _, _, state := assemble(raw[:n]); state != helloMore {
			t.Fatalf("%d bytes: state %d", n, state)
		}
	}
}

func FuzzHello(f *testing.F) {
	raw := clientHello(f, &tls.Config{ServerName: "broker.example", NextProtos: []string{"mqtt"}})
	f.Add(raw)
	f.Add(withExtension(raw, extMaxFragmentLength, 2))
	f.Add([]byte{22, 3, 1, 0, 0})
	f.Add([]byte("\x10\x0c\x00\x04MQTT"))
	f.Fuzz(func(t *testing.T, b []byte) {
		msg, rest, state := assemble(b)
		if state != helloWhole {
			return
		}
		h, ok := parseHello(msg)
		if c := h.recordCap(16384); c < 63 || c > 16384 {
			t.Fatalf("record cap %d", c)
		}
		if !ok {
			return
		}
		again, rest2, state := assemble(split(msg, 3, 1, rest))
		if state != helloWhole || !bytes.Equal(again, msg) || !bytes.Equal(rest, rest2) {
			t.Fatal("split changes the message")
		}
		h2, _ := parseHello(again)
		if d := cmp.Diff(h, h2, cmp.AllowUnexported(hello{})); d != "" {
			t.Fatal(d)
		}
	})
}
