package testkit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kinds are the control packet types by their number; 0 is reserved.
var kinds = [16]string{"RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}

func kindNumber(kind string) (byte, bool) {
	for i, k := range kinds {
		if k == kind {
			return byte(i), true
		}
	}
	return 0, false
}

// defaultFlags are the fixed header flags that the standard prescribes.
func defaultFlags(kind byte) byte {
	switch kind {
	case 6, 8, 10:
		return 2
	}
	return 0
}

type propType uint8

const (
	propByte propType = iota
	propUint16
	propUint32
	propVarint
	propString
	propBinary
	propPair
)

type propDef struct {
	id   byte
	name string
	typ  propType
	in   string // the packets that may carry it, "W" is the will
}

// properties is table 2-4 of the MQTT 5 standard.
var properties = []propDef{
	{0x01, "payload_format", propByte, "PUBLISH W"},
	{0x02, "message_expiry", propUint32, "PUBLISH W"},
	{0x03, "content_type", propString, "PUBLISH W"},
	{0x08, "response_topic", propString, "PUBLISH W"},
	{0x09, "correlation", propBinary, "PUBLISH W"},
	{0x0b, "sub_id", propVarint, "PUBLISH SUBSCRIBE"},
	{0x11, "session_expiry", propUint32, "CONNECT CONNACK DISCONNECT"},
	{0x12, "assigned_client_id", propString, "CONNACK"},
	{0x13, "server_keep_alive", propUint16, "CONNACK"},
	{0x15, "auth_method", propString, "CONNECT CONNACK AUTH"},
	{0x16, "auth_data", propBinary, "CONNECT CONNACK AUTH"},
	{0x17, "request_problem_info", propByte, "CONNECT"},
	{0x18, "delay", propUint32, "W"},
	{0x19, "request_response_info", propByte, "CONNECT"},
	{0x1a, "response_info", propString, "CONNACK"},
	{0x1c, "server_reference", propString, "CONNACK DISCONNECT"},
	{0x1f, "reason", propString, "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"},
	{0x21, "receive_maximum", propUint16, "CONNECT CONNACK"},
	{0x22, "topic_alias_maximum", propUint16, "CONNECT CONNACK"},
	{0x23, "topic_alias", propUint16, "PUBLISH"},
	{0x24, "maximum_qos", propByte, "CONNACK"},
	{0x25, "retain_available", propByte, "CONNACK"},
	{0x26, "user", propPair, "CONNECT CONNACK PUBLISH W PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK DISCONNECT AUTH"},
	{0x27, "maximum_packet_size", propUint32, "CONNECT CONNACK"},
	{0x28, "wildcard_available", propByte, "CONNACK"},
	{0x29, "sub_id_available", propByte, "CONNACK"},
	{0x2a, "shared_available", propByte, "CONNACK"},
}

func propByName(name string) *propDef {
	for i := range properties {
		if properties[i].name == name {
			return &properties[i]
		}
	}
	return nil
}

func propByID(id byte) *propDef {
	for i := range properties {
		if properties[i].id == id {
			return &properties[i]
		}
	}
	return nil
}

// Fields are what a packet says, by name, in the order of appearance per name.
type Fields map[string][]string

func (f Fields) add(k, v string) { f[k] = append(f[k], v) }
func (f Fields) num(k string, n int) {
	f[k] = append(f[k], strconv.Itoa(n))
}

// Get is the first value of a field, "" when there is none.
func (f Fields) Get(k string) string {
	if v := f[k]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Int is the first value of a field as a number, 0 when there is none.
func (f Fields) Int(k string) int {
	n, _ := strconv.Atoi(f.Get(k))
	return n
}

func appendVarint(dst []byte, n int) []byte {
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 {
			return append(dst, b)
		}
		dst = append(dst, b|0x80)
	}
}

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func appendProp(dst []byte, d *propDef, val string) ([]byte, error) {
	dst = append(dst, d.id)
	switch d.typ {
	case propString, propBinary:
		return appendString(dst, val), nil
	case propPair:
		k, v, ok := strings.Cut(val, ":")
		if !ok {
			return nil, fmt.Errorf("%s=%q: want key:value", d.name, val)
		}
		return appendString(appendString(dst, k), v), nil
	}
	n, err := strconv.ParseUint(val, 0, 32)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.name, err)
	}
	switch d.typ {
	case propByte:
		return append(dst, byte(n)), nil
	case propUint16:
		return binary.BigEndian.AppendUint16(dst, uint16(n)), nil
	case propUint32:
		return binary.BigEndian.AppendUint32(dst, uint32(n)), nil
	}
	return appendVarint(dst, int(n)), nil
}

// reader decodes strictly: whatever the standard forbids is an error.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, a ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, a...)
	}
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.fail("packet too short: %d bytes wanted, %d left", n, len(r.b))
		return make([]byte, min(n, 65535))
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte { return r.take(1)[0] }
func (r *reader) u16() int   { return int(binary.BigEndian.Uint16(r.take(2))) }
func (r *reader) u32() int   { return int(binary.BigEndian.Uint32(r.take(4))) }
func (r *reader) bin() string {
	return string(r.take(r.u16()))
}

func (r *reader) str() string {
	s := r.bin()
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		r.fail("string %q is not allowed UTF-8", s)
	}
	return s
}

func (r *reader) varint() int {
	n, shift := 0, 0
	for i := range 4 {
		b := r.byte()
		n |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			if b == 0 && i > 0 {
				r.fail("variable byte integer is not minimal [MQTT-1.5.5-1]")
			}
			return n
		}
		shift += 7
	}
	r.fail("variable byte integer of more than 4 bytes")
	return 0
}

func (r *reader) props(f Fields, kind string) {
	n := r.varint()
	p := reader{b: r.take(n), err: r.err}
	for len(p.b) > 0 && p.err == nil {
		id := p.byte()
		d := propByID(id)
		if d == nil || !containsWord(d.in, kind) {
			p.fail("property 0x%02x is not allowed in %s", id, kind)
			break
		}
		if len(f[d.name]) > 0 && d.typ != propPair && !(d.name == "sub_id" && kind == "PUBLISH") {
			p.fail("property %s appears twice", d.name)
		}
		switch d.typ {
		case propByte:
			f.num(d.name, int(p.byte()))
		case propUint16:
			f.num(d.name, p.u16())
		case propUint32:
			f.num(d.name, p.u32())
		case propVarint:
			f.num(d.name, p.varint())
		case propString:
			f.add(d.name, p.str())
		case propBinary:
			f.add(d.name, p.bin())
		case propPair:
			k := p.str()
			f.add(d.name, k+":"+p.str())
		}
	}
	if p.err != nil {
		r.fail("%v", p.err)
	}
}

func containsWord(list, w string) bool {
	for s := range strings.FieldsSeq(list) {
		if s == w {
			return true
		}
	}
	return false
}

// Packet is one packet as a server sent it.
type Packet struct {
	Kind   string
	Fields Fields
	Size   int // of the whole packet in bytes
	Raw    []byte
}

// reasonCodes are the values that the standard allows a server to send, per packet.
var reasonCodes = map[string][]int{
	"CONNACK":    {0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f},
	"PUBACK":     {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	"PUBREC":     {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	"PUBREL":     {0, 0x92},
	"PUBCOMP":    {0, 0x92},
	"SUBACK":     {0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2},
	"UNSUBACK":   {0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91},
	"DISCONNECT": {0, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2},
	"AUTH":       {0, 0x18},
}

func (r *reader) code(kind string, v int) string {
	c := int(r.byte())
	switch {
	case v < 5 && kind == "CONNACK":
		if c > 5 {
			r.fail("CONNACK return code %d", c)
		}
	case v < 5 && kind == "SUBACK":
		if c > 2 && c != 0x80 {
			r.fail("SUBACK return code %#x", c)
		}
	default:
		ok := false
		for _, x := range reasonCodes[kind] {
			ok = ok || x == c
		}
		if !ok {
			r.fail("reason code %#x is not allowed in %s", c, kind)
		}
	}
	return strconv.Itoa(c)
}

var errPartial = errors.New("partial packet")

// decode reads one packet that a server sent to a client of version v and returns what follows it.
func decode(v int, b []byte) (*Packet, []byte, error) {
	n, shift, i := 0, 0, 1
	for {
		if i >= len(b) {
			return nil, b, errPartial
		}
		c := b[i]
		n |= int(c&0x7f) << shift
		shift += 7
		i++
		if c&0x80 == 0 {
			if c == 0 && i > 2 {
				return nil, b, errors.New("remaining length is not minimal")
			}
			break
		}
		if i == 5 {
			return nil, b, errors.New("remaining length of more than 4 bytes")
		}
	}
	if len(b) < i+n {
		return nil, b, errPartial
	}
	p := &Packet{Kind: kinds[b[0]>>4], Fields: Fields{}, Size: i + n, Raw: b[:i+n]}
	r := reader{b: b[i : i+n]}
	f := p.Fields
	flags := b[0] & 15
	if p.Kind != "PUBLISH" && flags != defaultFlags(b[0]>>4) {
		r.fail("%s with flags %#x", p.Kind, flags)
	}
	switch p.Kind {
	case "CONNACK":
		sp := r.byte()
		if sp > 1 {
			r.fail("CONNACK flags %#x [MQTT-3.2.2-1]", sp)
		}
		f.num("sp", int(sp))
		f.add("code", r.code(p.Kind, v))
		if v == 5 {
			r.props(f, p.Kind)
		}
	case "PUBLISH":
		f.num("dup", int(flags>>3))
		q := int(flags >> 1 & 3)
		f.num("q", q)
		f.num("retain", int(flags&1))
		if q == 3 {
			r.fail("PUBLISH with QoS 3 [MQTT-3.3.1-4]")
		}
		if q == 0 && flags&8 != 0 {
			r.fail("PUBLISH with QoS 0 and DUP [MQTT-3.3.1-2]")
		}
		topic := r.str()
		f.add("topic", topic)
		f.add("wire_topic", topic)
		if strings.ContainsAny(topic, "+#") {
			r.fail("PUBLISH to %q [MQTT-3.3.2-2]", topic)
		}
		if q > 0 {
			f.num("id", r.u16())
		}
		if v == 5 {
			r.props(f, p.Kind)
		}
		f.add("payload", string(r.b))
		r.b = nil
	case "PUBACK", "PUBREC", "PUBREL", "PUBCOMP":
		f.num("id", r.u16())
		if v == 5 && len(r.b) > 0 {
			f.add("code", r.code(p.Kind, v))
			if len(r.b) > 0 {
				r.props(f, p.Kind)
			}
		} else {
			f.num("code", 0)
		}
	case "SUBACK", "UNSUBACK":
		f.num("id", r.u16())
		if v == 5 {
			r.props(f, p.Kind)
		}
		var codes []string
		for len(r.b) > 0 && r.err == nil {
			codes = append(codes, r.code(p.Kind, v))
		}
		if v < 5 && p.Kind == "UNSUBACK" && codes != nil {
			r.fail("UNSUBACK with a payload")
		}
		f.add("codes", strings.Join(codes, ","))
	case "PINGRESP":
	case "DISCONNECT", "AUTH":
		if v < 5 {
			r.fail("%s to a client of version %d", p.Kind, v)
		}
		f.num("code", 0)
		if len(r.b) > 0 {
			f["code"][0] = r.code(p.Kind, v)
			if len(r.b) > 0 {
				r.props(f, p.Kind)
			}
		}
		if p.Kind == "DISCONNECT" && len(f["session_expiry"]) > 0 {
			r.fail("DISCONNECT from the server with a session expiry [MQTT-3.14.2-2]")
		}
	default:
		r.fail("a server must not send %s", p.Kind)
	}
	if id, ok := f["id"]; ok && id[0] == "0" {
		r.fail("%s with packet identifier 0", p.Kind)
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("%s has %d bytes too many", p.Kind, len(r.b))
	}
	if r.err != nil {
		return p, b[i+n:], fmt.Errorf("%w (% x)", r.err, clip(p.Raw, 64))
	}
	return p, b[i+n:], nil
}

func clip(b []byte, n int) []byte { return b[:min(len(b), n)] }

// readPacket reads one packet; io.EOF means that the stream ended between packets.
func readPacket(version func() int, r io.Reader, buf []byte) (*Packet, []byte, error) {
	tmp := make([]byte, 8192)
	for {
		if len(buf) > 0 {
			p, rest, err := decode(version(), buf)
			if !errors.Is(err, errPartial) {
				return p, rest, err
			}
		}
		n, err := r.Read(tmp)
		buf = append(buf[:len(buf):len(buf)], tmp[:n]...)
		if err != nil && n == 0 {
			if errors.Is(err, io.EOF) && len(buf) > 0 {
				err = fmt.Errorf("the stream ends inside a packet: % x", clip(buf, 64))
			}
			return nil, buf, err
		}
	}
}
