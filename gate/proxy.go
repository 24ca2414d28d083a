package gate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ProxyHeader is what a load balancer says of a connection by the PROXY protocol, version 1 or 2.
type ProxyHeader struct {
	// Local: the load balancer itself connects, for a health check.
	Local bool
	// Source and Destination are the client's and its destination's addresses. They are invalid if the header does not
	// say them; then those of the connection itself count.
	Source, Destination netip.AddrPort
}

// Bounds of headers.
const (
	maxProxyLine = 107     // of version 1, with its end
	maxProxy     = 4 << 10 // of version 2, with everything; what is known of it has less than 1,000
	proxyFixed   = 16      // of version 2, before the addresses
)

// proxySignature begins a header of version 2.
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

const proxyWord = "PROXY "

// ErrProxy is wrapped by the errors about headers of the PROXY protocol.
var ErrProxy = errors.New("no valid header of the PROXY protocol")

func proxyError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProxy, fmt.Sprintf(format, args...))
}

// ReadProxy reads a header from the beginning of a connection, and not a byte more than it has. The caller bounds the time.
// An error of r that is not wrapped in ErrProxy comes as it is; io.ErrUnexpectedEOF if the header is cut off.
func ReadProxy(r io.Reader) (ProxyHeader, error) {
	buf := make([]byte, 0, 256)
	for {
		h, n, err := ParseProxy(buf)
		if err != nil || n <= len(buf) {
			return h, err
		}
		at := len(buf)
		buf = slices.Grow(buf, n-at)
		got, err := io.ReadAtLeast(r, buf[at:n], 1) // what is no header is refused before it is long enough for one
		if err != nil {
			if at > 0 && err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return ProxyHeader{}, err
		}
		buf = buf[:at+got]
	}
}

// ParseProxy reads the header at the beginning of b, which has n bytes. If n is more than len(b) the header is not whole: at
// least n bytes are needed to go on, and never more than it has. Headers of more than 4 KiB are errors, as is everything
// that the protocol does not allow. Of the fields after the addresses only the checksum is looked at: what they say of
// TLS and its certificates is not believed.
func ParseProxy(b []byte) (h ProxyHeader, n int, err error) {
	switch {
	case bytes.HasPrefix(b, []byte(proxySignature)):
		return parseProxy2(b)
	case bytes.HasPrefix(b, []byte(proxyWord)):
		return parseProxy1(b)
	case strings.HasPrefix(proxySignature, string(b[:min(len(b), len(proxySignature))])),
		strings.HasPrefix(proxyWord, string(b[:min(len(b), len(proxyWord))])):
		return h, len("PROXY UNKNOWN\r\n"), nil // the shortest there is
	}
	return h, 0, proxyError("it begins with %.12q", b[:min(len(b), 12)])
}

// parseProxy1 reads a line such as "PROXY TCP4 192.0.2.1 192.0.2.2 4711 8883\r\n".
func parseProxy1(b []byte) (h ProxyHeader, n int, err error) {
	line := b[:min(len(b), maxProxyLine)]
	end := bytes.IndexByte(line, '\n')
	if end < 0 {
		if n = lackingProxy1(line); n > maxProxyLine {
			return h, 0, proxyError("a line of more than %d bytes", maxProxyLine)
		}
		return h, n, nil
	}
	n = end + 1
	text, ok := strings.CutSuffix(string(line[:n]), "\r\n")
	if !ok {
		return h, 0, proxyError("the line does not end with CR LF")
	}
	f := strings.Split(text, " ")
	if f[1] == "UNKNOWN" {
		return h, n, nil // what follows is to be ignored
	}
	if f[1] != "TCP4" && f[1] != "TCP6" {
		return h, 0, proxyError("protocol %.20q", f[1])
	}
	if len(f) != 6 {
		return h, 0, proxyError("%d words", len(f))
	}
	if h.Source, err = proxyAddress(f[1], f[2], f[4]); err == nil {
		h.Destination, err = proxyAddress(f[1], f[3], f[5])
	}
	if err != nil {
		return ProxyHeader{}, 0, err
	}
	return h, n, nil
}

// lackingProxy1 is the least length that a header has which begins with line.
func lackingProxy1(line []byte) int {
	n := len(line) + 2
	if len(line) > 0 && line[len(line)-1] == '\r' {
		n--
	}
	switch {
	case bytes.HasPrefix(line, []byte("PROXY TCP4 ")):
		n = max(n, len("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n"))
	case bytes.HasPrefix(line, []byte("PROXY TCP6 ")):
		n = max(n, len("PROXY TCP6 :: :: 1 1\r\n"))
	}
	return max(n, len("PROXY UNKNOWN\r\n"))
}

func proxyAddress(family, addr, port string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" || a.Is4() != (family == "TCP4") {
		return netip.AddrPort{}, proxyError("address %.50q", addr)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return netip.AddrPort{}, proxyError("port %.20q", port)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// Fields of version 2 after the addresses, and the one that is looked at.
const (
	proxyFieldHead = 3
	proxyChecksum  = 3
)

// parseProxy2 reads a header of version 2.
func parseProxy2(b []byte) (h ProxyHeader, n int, err error) {
	if len(b) < proxyFixed {
		return h, proxyFixed, nil
	}
	n = proxyFixed + int(binary.BigEndian.Uint16(b[14:]))
	if v := b[12] >> 4; v != 2 {
		return h, 0, proxyError("version %d", v)
	}
	command := b[12] & 15
	if command > 1 {
		return h, 0, proxyError("command %d", command)
	}
	if n > maxProxy {
		return h, 0, proxyError("%d bytes are more than %d", n, maxProxy)
	}
	family, protocol := b[13]>>4, b[13]&15
	var size, ports int // of an address, of both ports
	switch {
	case command == 0: // from a health check the rest is ignored
	case family > 3 || protocol > 2:
		return h, 0, proxyError("family and protocol %#02x", b[13])
	case family == 0 || protocol != 1: // unspecified, or datagrams: it says nothing of a stream
	case family == 1:
		size, ports = 4, 4
	case family == 2:
		size, ports = 16, 4
	case family == 3: // unix
		size = 108
	}
	if n < proxyFixed+2*size+ports {
		return h, 0, proxyError("%d bytes are too few for its addresses", n)
	}
	if len(b) < n {
		return h, n, nil
	}
	if command == 0 {
		return ProxyHeader{Local: true}, n, nil
	}
	rest := b[proxyFixed:n]
	if ports > 0 {
		src, _ := netip.AddrFromSlice(rest[:size])
		dst, _ := netip.AddrFromSlice(rest[size : 2*size])
		h.Source = netip.AddrPortFrom(src.Unmap(), binary.BigEndian.Uint16(rest[2*size:]))
		h.Destination = netip.AddrPortFrom(dst.Unmap(), binary.BigEndian.Uint16(rest[2*size+2:]))
	}
	if size == 0 {
		return h, n, nil // what follows has no known form
	}
	if err := checkProxyFields(b[:n], proxyFixed+2*size+ports); err != nil {
		return ProxyHeader{}, 0, err
	}
	return h, n, nil
}

// checkProxyFields checks the lengths of the fields from at on, and the checksum if there is one.
func checkProxyFields(header []byte, at int) error {
	for at < len(header) {
		if len(header)-at < proxyFieldHead {
			return proxyError("a field is cut off")
		}
		kind, size := header[at], int(binary.BigEndian.Uint16(header[at+1:]))
		at += proxyFieldHead
		if size > len(header)-at {
			return proxyError("a field of %d bytes in %d", size, len(header)-at)
		}
		if kind == proxyChecksum {
			if size != 4 {
				return proxyError("a checksum of %d bytes", size)
			}
			table := crc32.MakeTable(crc32.Castagnoli)
			sum := crc32.Update(0, table, header[:at])
			sum = crc32.Update(sum, table, make([]byte, 4))
			sum = crc32.Update(sum, table, header[at+4:])
			if sum != binary.BigEndian.Uint32(header[at:]) {
				return proxyError("wrong checksum")
			}
		}
		at += size
	}
	return nil
}
