package differential

import (
	"bytes"
	"encoding/binary"
)

// mutate breaks some of the packets. The label says how.
func (g *generator) mutate(s *step) {
	if g.chance(5) { // two packets in one write
		s.packet = append(s.packet, frame(tPingreq<<4, nil)...)
		s.label += " +PINGREQ"
	}
	if !g.chance(g.broken) || len(s.packet) < 2 {
		return
	}
	s.valid = false
	_, size := header(s.packet)
	head, body := s.packet[0], bytes.Clone(s.packet[size:])
	flaw := ""
	switch g.IntN(11) {
	case 0:
		flaw = "bit"
		s.packet[g.IntN(len(s.packet))] ^= 1 << g.IntN(8)
	case 1:
		flaw = "byte"
		s.packet[g.IntN(len(s.packet))] = byte(g.IntN(256))
	case 2:
		flaw = "cut"
		s.packet = frame(head, body[:g.IntN(len(body)+1)])
	case 3:
		flaw = "longer"
		s.packet = frame(head, append(body, []byte("\x00\x01\x02\x03")[:1+g.IntN(4)]...))
	case 4:
		flaw = "length"
		length := max(0, len(body)+pick(g, -2, -1, 1, 2, 20))
		s.packet = append(appendVarint([]byte{head}, length), body...)
	case 5:
		flaw = "long varint"
		s.packet = append([]byte{head, byte(len(body))&0x7f | 0x80, byte(len(body) >> 7)}, body...)
		if g.chance(50) {
			flaw = "varint of five bytes"
			s.packet = append([]byte{head, 0xff, 0xff, 0xff, 0xff, 0x01}, body...)
		}
	case 6:
		flaw = "flags"
		s.packet[0] ^= byte(1 + g.IntN(15))
	case 7:
		flaw = "type"
		s.packet[0] = head&15 | byte(g.IntN(16))<<4
	case 8:
		flaw = "string"
		if i := bytes.IndexAny(body, "abcklm"); i >= 0 {
			bad := pick(g, "\x00", "\xff", "\xc0\xaf", "\xed\xa0\x80", "#", "+", "\x7f")
			body = append(append(bytes.Clone(body[:i]), bad...), body[i+1:]...)
			if i > 1 && len(bad) > 1 && g.chance(80) { // the length may be the string's
				binary.BigEndian.PutUint16(body[i-2:], binary.BigEndian.Uint16(body[i-2:])+uint16(len(bad)-1))
			}
		}
		s.packet = frame(head, body)
	case 9:
		flaw = "property"
		if s.version == 5 {
			g.breakProperties(s, head, body)
		}
	case 10:
		flaw = "doubled"
		i := g.IntN(len(body) + 1)
		j := i + g.IntN(len(body)-i+1)
		s.packet = frame(head, append(bytes.Clone(body[:j]), body[i:]...))
	}
	s.label += " flaw=" + flaw
}

// breakProperties puts properties at the front of the packet's own: unknown,
// of another packet, or the same ones again.
func (g *generator) breakProperties(s *step, head byte, body []byte) {
	at := 0
	switch head >> 4 {
	case tConnect:
		at = 10
	case tSubscribe, tUnsubscribe:
		at = 2
	case tPublish:
		if len(body) > 2 {
			at = 2 + int(binary.BigEndian.Uint16(body))
		}
		if head&6 != 0 {
			at += 2
		}
	case tDisconnect:
		at = 1
	case tPubrel:
		at = 3
	default:
		return
	}
	if at >= len(body) {
		return
	}
	length, n := header(append([]byte{0}, body[at:]...))
	n--
	if n < 1 || at+n+length > len(body) {
		return
	}
	old := body[at+n : at+n+length]
	more := pick(g,
		[]byte{0x00}, []byte{0x7f, 0}, []byte{0x80, 0x01, 0}, old,
		[]byte{pMessageExpiry, 0, 0, 0}, []byte{pContentType, 0xff, 0xff},
		[]byte{pReceiveMaximum, 0, 5}, []byte{pSessionExpiry, 0, 0, 0, 9}, []byte{pAlias, 0, 1}, []byte{pWillDelay, 0, 0, 0, 1},
		[]byte{pUser, 0, 1, 0xff, 0, 0}, []byte{pUser, 0, 1, 0, 0, 0}, []byte{pReasonString, 0, 1, 'x'}, []byte{pPayloadFormat, 1},
		[]byte{pSubscriptionID, 0x80, 0x80, 0x80, 0x80, 1}, []byte{pSubscriptionID, 5}, []byte{0x24, 1}, []byte{0x25, 1}, []byte{0x12, 0, 1, 'x'})
	all := append(bytes.Clone(more), old...)
	rest := body[at+n+length:]
	body = append(appendVarint(bytes.Clone(body[:at]), len(all)), all...)
	s.packet = frame(head, append(body, rest...))
}
