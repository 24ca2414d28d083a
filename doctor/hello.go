package doctor

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
)

// hello is a ClientHello of ours: it asks what the broker would agree to, and
// no handshake follows. Offering groups without keys makes a server of TLS 1.3
// name the one it wants.
type hello struct {
	version uint16 // the highest, and for TLS 1.3 the only one
	suites  []uint16
	groups  []tls.CurveID
	name    string // for SNI; empty for addresses
}

// answer is what came back.
type answer struct {
	alert   int // -1: none
	version uint16
	suite   uint16
	group   tls.CurveID // of TLS 1.3
	err     error       // neither a ServerHello nor an alert came
}

func (a *answer) agreed() bool { return a.err == nil && a.alert < 0 }

var errNotTLS = errors.New("the answer is not TLS")

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 4 << 10

// ask sends h and reads the first words of the answer.
func (h *hello) ask(conn net.Conn) answer {
	if _, err := conn.Write(h.append(nil)); err != nil {
		return answer{alert: -1, err: err}
	}
	var b []byte
	for {
		a, err := parseAnswer(b)
		if !errors.Is(err, io.ErrUnexpectedEOF) || len(b) >= maxAnswer {
			a.err = err
			if a.agreed() {
				// user_canceled: the broker's log should not call it a rejection.
				conn.Write([]byte{21, 3, 3, 0, 2, 1, 90})
			}
			return a
		}
		part := make([]byte, 1024)
		n, err := conn.Read(part)
		b = append(b, part[:n]...)
		if n == 0 && err != nil {
			return answer{alert: -1, err: err}
		}
	}
}

// TLS extensions.
const (
	extServerName        = 0
	extGroups            = 10
	extPointFormats      = 11
	extSignatures        = 13
	extMasterSecret      = 23
	extSupportedVersions = 43
	extKeyShare          = 51
	extRenegotiation     = 0xff01
)

func (h *hello) append(dst []byte) []byte {
	legacy := min(h.version, tls.VersionTLS12)
	body := binary.BigEndian.AppendUint16(nil, legacy)
	random := make([]byte, 32)
	rand.Read(random)
	body = append(body, random...)
	body = append(body, 0) // session id
	body = vector(body, 2, func(b []byte) []byte {
		for _, s := range h.suites {
			b = binary.BigEndian.AppendUint16(b, s)
		}
		return b
	})
	body = append(body, 1, 0) // no compression
	body = vector(body, 2, h.extensions)
	msg := vector([]byte{1}, 3, func(b []byte) []byte { return append(b, body...) })
	dst = append(dst, 22, 3, 1)
	return vector(dst, 2, func(b []byte) []byte { return append(b, msg...) })
}

func (h *hello) extensions(b []byte) []byte {
	ext := func(id uint16, value func([]byte) []byte) {
		b = binary.BigEndian.AppendUint16(b, id)
		b = vector(b, 2, value)
	}
	if h.name != "" {
		ext(extServerName, func(b []byte) []byte {
			return vector(b, 2, func(b []byte) []byte {
				return vector(append(b, 0), 2, func(b []byte) []byte { return append(b, h.name...) })
			})
		})
	}
	if len(h.groups) > 0 {
		ext(extGroups, func(b []byte) []byte {
			return vector(b, 2, func(b []byte) []byte {
				for _, g := range h.groups {
					b = binary.BigEndian.AppendUint16(b, uint16(g))
				}
				return b
			})
		})
		ext(extPointFormats, func(b []byte) []byte { return append(b, 1, 0) })
	}
	if h.version >= tls.VersionTLS12 {
		ext(extSignatures, func(b []byte) []byte {
			return vector(b, 2, func(b []byte) []byte {
				for _, s := range []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512,
					tls.Ed25519, tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512, tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512,
					tls.PKCS1WithSHA1, tls.ECDSAWithSHA1} {
					b = binary.BigEndian.AppendUint16(b, uint16(s))
				}
				return b
			})
		})
	}
	if h.version >= tls.VersionTLS13 {
		ext(extSupportedVersions, func(b []byte) []byte { return append(b, 2, 3, 4) })
		ext(extKeyShare, func(b []byte) []byte { return append(b, 0, 0) })
	} else {
		ext(extMasterSecret, func(b []byte) []byte { return b })
		ext(extRenegotiation, func(b []byte) []byte { return append(b, 0) })
	}
	return b
}

// vector appends what fill appends, behind its length of size bytes.
func vector(dst []byte, size int, fill func([]byte) []byte) []byte {
	at := len(dst)
	dst = fill(append(dst, make([]byte, size)...))
	n := len(dst) - at - size
	for i := range size {
		dst[at+i] = byte(n >> (8 * (size - 1 - i)))
	}
	return dst
}

// reader takes a byte string apart; what is read beyond its end is empty.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) uint(size int) int {
	v := 0
	for _, x := range r.take(size) {
		v = v<<8 | int(x)
	}
	return v
}

func (r *reader) vector(size int) reader { return reader{b: r.take(r.uint(size))} }

// parseAnswer reads the first message of a server. More bytes are needed when
// it returns io.ErrUnexpectedEOF.
func parseAnswer(raw []byte) (answer, error) {
	a := answer{alert: -1}
	var msg []byte
	for {
		if len(raw) > 0 && raw[0] != 21 && raw[0] != 22 || len(raw) > 1 && raw[1] != 3 {
			return a, errNotTLS
		}
		if len(raw) < 5 {
			return a, io.ErrUnexpectedEOF
		}
		n := int(raw[3])<<8 | int(raw[4])
		if n == 0 || n > 1<<14+256 {
			return a, errNotTLS
		}
		if raw[0] == 21 {
			if len(raw) < 7 {
				return a, io.ErrUnexpectedEOF
			}
			if raw[5] == 1 && n == 2 { // a warning: the answer is behind it
				raw = raw[7:]
				continue
			}
			a.alert = int(raw[6])
			return a, nil
		}
		whole := len(raw) >= 5+n
		msg = append(msg, raw[5:min(5+n, len(raw))]...)
		if len(msg) >= 4 {
			if msg[0] != 2 {
				return a, errNotTLS
			}
			size := 4 + int(msg[1])<<16 + int(msg[2])<<8 + int(msg[3])
			if size > maxAnswer {
				return a, errNotTLS
			}
			if len(msg) >= size {
				return parseServerHello(msg[4:size])
			}
		}
		if !whole {
			return a, io.ErrUnexpectedEOF
		}
		raw = raw[5+n:]
	}
}

func parseServerHello(body []byte) (answer, error) {
	a := answer{alert: -1}
	m := reader{b: body}
	a.version = uint16(m.uint(2))
	m.take(32) // random
	m.vector(1)
	a.suite = uint16(m.uint(2))
	m.take(1) // compression
	if m.bad {
		return a, errNotTLS
	}
	exts := m.vector(2)
	for len(exts.b) > 0 {
		id := exts.uint(2)
		x := exts.vector(2)
		switch id {
		case extSupportedVersions:
			a.version = uint16(x.uint(2))
		case extKeyShare:
			a.group = tls.CurveID(x.uint(2))
		}
	}
	return a, nil
}
