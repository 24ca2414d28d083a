package gate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// v2 makes a header of version 2.
func v2(command, family byte, rest string) string {
	n := len(rest)
	return proxySignature + string([]byte{command, family, byte(n >> 8), byte(n)}) + rest
}

const (
	v4Block = "\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x22\xb3"
	v6Block = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\xdc\x04\x22\xb3"
)

// summed is a header with a checksum, right or not.
func summed(off uint32) string {
	b := []byte(v2(0x21, 0x11, v4Block+"\x04\x00\x02xx"+"\x03\x00\x04\x00\x00\x00\x00"+"\xee\x00\x00"))
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	at := len(b) - 7
	binary.BigEndian.PutUint32(b[at:], sum+off)
	return string(b)
}

// ssl is a field about TLS, with a common name that is not believed.
const ssl = "\x20\x00\x0f\x07\x00\x00\x00\x00\x22\x00\x07\nadmin\x00"

var proxyHeaders = []struct{ header, src, dst string }{
	{"PROXY TCP4 192.0.2.1 198.51.100.1 56324 8883\r\n", "192.0.2.1:56324", "198.51.100.1:8883"},
	{"PROXY TCP4 1.1.1.1 2.2.2.2 1 0\r\n", "1.1.1.1:1", "2.2.2.2:0"},
	{"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535", "255.255.255.255:65535"},
	{"PROXY TCP6 2001:db8::1 2001:db8::2 56324 8883\r\n", "[2001:db8::1]:56324", "[2001:db8::2]:8883"},
	{"PROXY TCP6 :: :: 1 1\r\n", "[::]:1", "[::]:1"},
	{"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.1 1 2\r\n", "192.0.2.1:1", "198.51.100.1:2"},
	{"PROXY UNKNOWN\r\n", "", ""},
	{"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", "", ""},
	{v2(0x20, 0x00, ""), "local", ""},
	{v2(0x20, 0x11, v4Block), "local", ""},
	{v2(0x20, 0x99, "whatever"), "local", ""},
	{v2(0x21, 0x00, ""), "", ""},
	{v2(0x21, 0x00, "what follows has no form"), "", ""},
	{v2(0x21, 0x11, v4Block), "192.0.2.1:56324", "198.51.100.1:8883"},
	{v2(0x21, 0x11, v4Block+ssl), "192.0.2.1:56324", "198.51.100.1:8883"},
	{v2(0x21, 0x11, v4Block+"\x04\x0f\x00"+strings.Repeat("n", 0xf00)), "192.0.2.1:56324", "198.51.100.1:8883"},
	{v2(0x21, 0x21, v6Block), "[2001:db8::1]:56324", "[2001:db8::2]:8883"},
	{v2(0x21, 0x31, strings.Repeat("u", 216)), "", ""},
	{v2(0x21, 0x12, v4Block), "", ""},
	{v2(0x21, 0x10, "short"), "", ""},
	{summed(0), "192.0.2.1:56324", "198.51.100.1:8883"},
}

func TestProxyHeaders(t *testing.T) {
	addr := func(a netip.AddrPort) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	for _, c := range proxyHeaders {
		src := c.src
		local := src == "local"
		if local {
			src = ""
		}
		check := func(how string, h ProxyHeader, err error) {
			t.Helper()
			if err != nil || h.Local != local || addr(h.Source) != src || addr(h.Destination) != c.dst {
				t.Errorf("%.40q %s: %+v, %v", c.header, how, h, err)
			}
		}
		for _, after := range []string{"", "\x16\x03\x01\x02\x00", "\n", "PROXY"} {
			h, n, err := ParseProxy([]byte(c.header + after))
			check("parsed", h, err)
			if n != len(c.header) {
				t.Errorf("%.40q: %d bytes, want %d", c.header, n, len(c.header))
			}
		}
		for i := range len(c.header) {
			h, n, err := ParseProxy([]byte(c.header[:i]))
			if err != nil || n <= i || n > len(c.header) || h != (ProxyHeader{}) {
				t.Errorf("%.40q, %d bytes of it: %d, %v", c.header, i, n, err)
			}
			if _, err := ReadProxy(strings.NewReader(c.header[:i])); i == 0 && err != io.EOF || i > 0 && err != io.ErrUnexpectedEOF {
				t.Errorf("%.40q, %d bytes of it: %v", c.header, i, err)
			}
		}
		// Byte by byte, and not one too many.
		r := strings.NewReader(c.header + "hello")
		h, err := ReadProxy(iotest.OneByteReader(r))
		check("read", h, err)
		if r.Len() != len("hello") {
			t.Errorf("%.40q: %d bytes left of what follows", c.header, r.Len())
		}
	}
}

// clauses: BAD [15]
func TestProxyErrors(t *testing.T) {
	long := v2(0x21, 0x11, v4Block+strings.Repeat("\x04\x00\x00", 1400))
	for _, header := range []string{
		"GET / HTTP/1.1\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c", "proxy TCP4", "PROXYTCP4", "\x00",
		"PROXY \r\n", "PROXY\r\n", "PROXY TCP4\r\n", "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
		"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1\t2\r\n",
		"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", "PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
		"PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n", "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", "PROXY TCP4 192.0.2.1\r192.0.2.2 1 2\r\n",
		"PROXY UNKNOWN " + strings.Repeat("x", 107), "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", "PROXY " + strings.Repeat(" ", 101) + "\r",
		v2(0x11, 0x11, v4Block), v2(0x31, 0x11, v4Block), v2(0x22, 0x11, v4Block), v2(0x2f, 0x00, ""),
		v2(0x21, 0x13, v4Block), v2(0x21, 0x41, v4Block), v2(0x21, 0xff, v4Block),
		v2(0x21, 0x11, v4Block[:11]), v2(0x21, 0x21, v6Block[:35]), v2(0x21, 0x31, strings.Repeat("u", 215)), v2(0x21, 0x11, ""),
		v2(0x21, 0x11, v4Block+"\x04"), v2(0x21, 0x11, v4Block+"\x04\x00"), v2(0x21, 0x11, v4Block+"\x04\x00\x01"), v2(0x21, 0x11, v4Block+"\x20\xff\xff\x01"),
		v2(0x21, 0x11, v4Block+"\x03\x00\x03abc"), v2(0x21, 0x11, v4Block+"\x03\x00\x04abcd"), summed(1),
		long, proxySignature + "\x21\x11\xff\xff", proxySignature + "\x20\x00\xff\xff",
	} {
		h, _, err := ParseProxy([]byte(header))
		if !errors.Is(err, ErrProxy) || h != (ProxyHeader{}) {
			t.Errorf("%.60q: %+v, %v", header, h, err)
			continue
		}
		if len(err.Error()) > 300 {
			t.Errorf("%.60q: an error of %d bytes", header, len(err.Error()))
		}
		if _, err := ReadProxy(strings.NewReader(header)); !errors.Is(err, ErrProxy) {
			t.Errorf("%.60q read: %v", header, err)
		}
	}
}

// A load balancer that sends without end is not read without end.
//
// clauses: BAD [15]
func TestReadProxyIsBounded(t *testing.T) {
	for _, begin := range []string{"PROXY UNKNOWN ", proxySignature + "\x21\x11\x0f\xf0"} {
		r := &counter{begin: begin}
		if _, err := ReadProxy(r); !errors.Is(err, ErrProxy) || r.n > maxProxy {
			t.Errorf("%q: %v after %d bytes", begin, err, r.n)
		}
	}
	fault := errors.New("gone")
	if _, err := ReadProxy(iotest.ErrReader(fault)); err != fault {
		t.Error(err)
	}
}

type counter struct {
	begin string
	n     int
}

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
		if c.n+i < len(c.begin) {
			p[i] = c.begin[c.n+i]
		}
	}
	c.n += len(p)
	return len(p), nil
}

func FuzzParseProxy(f *testing.F) {
	for _, c := range proxyHeaders {
		f.Add([]byte(c.header + "\x16\x03"))
	}
	f.Add([]byte("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := ParseProxy(b)
		switch {
		case err != nil:
			if !errors.Is(err, ErrProxy) || h != (ProxyHeader{}) || len(err.Error()) > 300 {
				t.Fatalf("%+v, %v", h, err)
			}
		case n > maxProxy || n < 15:
			t.Fatalf("%d bytes", n)
		case n > len(b):
			if h != (ProxyHeader{}) {
				t.Fatalf("%+v of a part", h)
			}
		default:
			if h.Source.IsValid() != h.Destination.IsValid() || h.Local && h.Source.IsValid() || h.Source.Addr().Is4In6() || h.Source.Addr().Zone() != "" {
				t.Fatalf("%+v", h)
			}
			// What follows makes no difference, and no part is taken for the whole or refused.
			if again, m, err := ParseProxy(b[:n]); again != h || m != n || err != nil {
				t.Fatalf("alone: %+v, %d, %v", again, m, err)
			}
			for i := range n {
				if _, m, err := ParseProxy(b[:i]); err != nil || m <= i || m > n {
					t.Fatalf("%d of %d: %d, %v", i, n, m, err)
				}
			}
		}
		r := bytes.NewReader(b)
		read, rerr := ReadProxy(r)
		if err == nil && n <= len(b) && (rerr != nil || read != h || r.Len() != len(b)-n) {
			t.Fatalf("read %+v, %v, %d left", read, rerr, r.Len())
		}
		if rerr == nil && (err != nil || n > len(b)) {
			t.Fatalf("read %+v, not parsed: %v", read, err)
		}
	})
}
