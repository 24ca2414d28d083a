package mqtt

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Generators of valid packets.

func genText() *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		s := rapid.StringOfN(rapid.RuneFrom([]rune("abcXYZ09/$ é€😀\ufeff\x01\x7f")), 0, 20, -1).Draw(t, "text")
		return []byte(s)
	})
}

func genBytes() *rapid.Generator[[]byte] { return rapid.SliceOfN(rapid.Byte(), 0, 20) }

func genName() *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte { return append(genText().Draw(t, "name"), 'n') })
}

func genFilter() *rapid.Generator[[]byte] {
	return rapid.Map(rapid.SampledFrom([]string{"#", "+", "/", "a/b/c", "+/+", "a/+/#", "$share/g/a/#", "$SYS/#", "$share", "a//b", "+/é"}),
		func(s string) []byte { return []byte(s) })
}

// genProps draws properties that the context allows.
func genProps(t *rapid.T, v Version, c PropertyContext) (p Properties) {
	if v != V5 {
		return p
	}
	for id := Property(1); id <= lastProperty; id++ {
		if allowed[c]>>id&1 == 0 || !rapid.Bool().Draw(t, id.String()) {
			continue
		}
		switch forms[id] {
		case formBool:
			*p.byteField(id) = rapid.ByteMax(1).Draw(t, "bool")
		case formShort:
			*p.shortField(id) = rapid.Uint16Min(1).Draw(t, "short")
		case formLong:
			*p.longField(id) = rapid.Uint32Min(1).Draw(t, "long")
		case formText:
			*p.bytesField(id) = genName().Draw(t, "text")
		case formBinary:
			*p.bytesField(id) = genBytes().Draw(t, "binary")
		case formList:
			if id == PropUser {
				p.User = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) UserProperty {
					return UserProperty{genText().Draw(t, "key"), genText().Draw(t, "value")}
				}), 1, 4).Draw(t, "user")
				continue
			}
			n := 4
			if c == PropertyContext(SUBSCRIBE) {
				n = 1
			}
			p.SubscriptionIDs = rapid.SliceOfN(rapid.Uint32Range(1, MaxRemaining), 1, n).Draw(t, "ids")
			continue
		}
		p.Set(id)
	}
	if p.Has(PropAuthData) || c == PropertyContext(AUTH) {
		p.AuthMethod = genText().Draw(t, "method")
		p.Set(PropAuthMethod)
	}
	return p
}

func genCode(t *rapid.T, typ Type) ReasonCode {
	var codes []ReasonCode
	for c := range 256 {
		if ReasonCode(c).ValidFor(typ) {
			codes = append(codes, ReasonCode(c))
		}
	}
	return rapid.SampledFrom(codes).Draw(t, "code")
}

// genPacket draws a packet that is valid in version v.
func genPacket(t *rapid.T, v Version) packet {
	last := AUTH
	if v != V5 {
		last = DISCONNECT
	}
	typ := Type(rapid.IntRange(int(CONNECT), int(last)).Draw(t, "type"))
	id := rapid.Uint16Min(1).Draw(t, "packet id")
	props := genProps(t, v, PropertyContext(typ))
	flip := func(name string) bool { return rapid.Bool().Draw(t, name) }
	qos := rapid.Uint8Max(2).Draw(t, "qos")
	switch typ {
	case CONNECT:
		p := &Connect{Version: v, Bridge: v != V5 && flip("bridge"), CleanStart: flip("clean"), Props: props,
			KeepAlive: rapid.Uint16().Draw(t, "keep alive"), ClientID: genName().Draw(t, "id"),
			HasWill: flip("will"), HasUsername: flip("username"), HasPassword: flip("password")}
		if p.HasWill {
			p.Will = Will{QoS: qos, Retain: flip("retain"), Topic: genName().Draw(t, "topic"), Payload: genBytes().Draw(t, "payload"),
				Props: genProps(t, v, InWill)}
		}
		if p.HasUsername {
			p.Username = genText().Draw(t, "user")
		}
		if p.HasPassword = p.HasPassword && (v == V5 || p.HasUsername); p.HasPassword {
			p.Password = genBytes().Draw(t, "pass")
		}
		return p
	case CONNACK:
		p := &Connack{Code: genCode(t, typ), Props: props}
		if v != V5 {
			p.Code, _ = fromV3Connack(p.Code.V3Connack())
		}
		p.SessionPresent = p.Code == Success && v != V31 && flip("session")
		return p
	case PUBLISH:
		p := &Publish{QoS: qos, Retain: flip("retain"), Topic: genName().Draw(t, "topic"), Payload: genBytes().Draw(t, "payload"), Props: props}
		if qos > 0 {
			p.PacketID, p.Dup = id, flip("dup")
		}
		if p.Props.Has(PropTopicAlias) && flip("alias alone") {
			p.Topic = nil
		}
		return p
	case SUBSCRIBE:
		return &Subscribe{PacketID: id, Props: props, Filters: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Subscription {
			s := Subscription{Filter: genFilter().Draw(t, "filter"), QoS: rapid.Uint8Max(2).Draw(t, "qos")}
			if v == V5 {
				s.NoLocal = !isShared(s.Filter) && flip("no local")
				s.RetainAsPublished, s.RetainHandling = flip("as published"), rapid.Uint8Max(2).Draw(t, "handling")
			}
			return s
		}), 1, 4).Draw(t, "filters")}
	case UNSUBSCRIBE:
		return &Unsubscribe{PacketID: id, Props: props, Filters: rapid.SliceOfN(genFilter(), 1, 4).Draw(t, "filters")}
	case SUBACK, UNSUBACK:
		var codes []ReasonCode
		if v == V5 || typ == SUBACK {
			for range rapid.IntRange(1, 4).Draw(t, "n") {
				c := genCode(t, typ)
				if v != V5 && c.IsError() {
					c = failureV3
				}
				codes = append(codes, c)
			}
		}
		if typ == SUBACK {
			return &Suback{PacketID: id, Codes: codes, Props: props}
		}
		return &Unsuback{PacketID: id, Codes: codes, Props: props}
	case DISCONNECT:
		if v != V5 {
			return &Disconnect{}
		}
		return &Disconnect{Code: genCode(t, typ), Props: props}
	case AUTH:
		return &Auth{Code: genCode(t, typ), Props: props}
	case PINGREQ, PINGRESP:
		typ = PUBACK
		props = genProps(t, v, PropertyContext(typ))
	}
	p := &Ack{Type: typ, PacketID: id, Props: props}
	if v == V5 {
		p.Code = genCode(t, typ)
	}
	return p
}

// What is appended is parsed as what it was; the size agrees; a cut body is refused or is itself a packet.
func TestAppendParse(t *testing.T) {
	used := map[Type]packet{}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SampledFrom(versions).Draw(t, "version")
		p := genPacket(t, v)
		b := p.Append(nil, v)
		if n := p.Size(v); n != len(b) {
			t.Fatalf("size %d, appended %d", n, len(b))
		}
		h, err := ParseHeader(b)
		if err != nil || h.Size+h.Length != len(b) {
			t.Fatal(h, err)
		}
		q := used[h.Type]
		if q == nil {
			q = newPacket(h.Type)
			used[h.Type] = q
		}
		for i := range h.Length {
			roundTrip(t, v, h.Type, h.Flags, b[h.Size:h.Size+i], q)
		}
		if err := q.Parse(v, h.Flags, b[h.Size:]); err != nil {
			t.Fatal(err)
		}
		if d := same(p, q); d != "" {
			t.Fatalf("(-want +got)\n%s", d)
		}
	})
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// roundTrip parses a body; when it is good, what Append makes of it must mean the same.
func roundTrip(t fataler, v Version, typ Type, flags uint8, body []byte, p packet) {
	t.Helper()
	before := slices.Clone(body)
	err := p.Parse(v, flags, body)
	if !slices.Equal(before, body) {
		t.Fatalf("Parse changed the bytes")
	}
	var e *Error
	if err != nil {
		if !errors.As(err, &e) || !e.Code.IsError() || e.Text == "" {
			t.Fatalf("error %v of type %T", err, err)
		}
		return
	}
	if c, ok := p.(*Connect); ok {
		v = c.Version
	}
	out := p.Append(nil, v)
	if n := p.Size(v); n != len(out) {
		t.Fatalf("size %d, appended %d", n, len(out))
	}
	if c, ok := p.(*Connack); ok && v == V5 && len(body) == 2 {
		v = V311
		out = c.Append(nil, v)
	}
	h, err := ParseHeader(out)
	if err != nil || h.Type != typ {
		t.Fatalf("appended %x: %v", out, err)
	}
	q := newPacket(typ)
	if err := q.Parse(v, h.Flags, out[h.Size:]); err != nil {
		t.Fatalf("%x becomes %x: %v", body, out, err)
	}
	if d := same(p, q); d != "" {
		t.Fatalf("%x becomes %x (-first +second)\n%s", body, out, d)
	}
	if strict := v != V31; strict && len(out)-h.Size > len(body) {
		t.Fatalf("%x grows to %x", body, out[h.Size:])
	}
}

func FuzzPacket(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.p.Append(nil, s.v), byte(s.v))
	}
	f.Fuzz(func(t *testing.T, b []byte, v byte) {
		h, err := ParseHeader(b)
		if err != nil || h.Length != len(b)-h.Size {
			return
		}
		if p := newPacket(h.Type); p != nil {
			roundTrip(t, versions[v%3], h.Type, h.Flags, b[h.Size:], p)
		}
	})
}

// FuzzBody needs no right length in front: every input reaches a parser.
func FuzzBody(f *testing.F) {
	for _, s := range samples() {
		b := s.p.Append(nil, s.v)
		h, _ := ParseHeader(b)
		f.Add(b[0], byte(s.v), b[h.Size:])
	}
	f.Fuzz(func(t *testing.T, first, v byte, body []byte) {
		if p := newPacket(Type(first >> 4)); p != nil {
			roundTrip(t, versions[v%3], Type(first>>4), first&15, body, p)
		}
	})
}
