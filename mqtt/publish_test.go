package mqtt

import (
	"bytes"
	"strings"
	"testing"
)

func TestPublish(t *testing.T) {
	full := Properties{PayloadFormat: 1, MessageExpiry: 2, ContentType: []byte("ct"), ResponseTopic: []byte("r/t"),
		CorrelationData: []byte{0}, TopicAlias: 3, SubscriptionIDs: []uint32{1, 268435455},
		User: []UserProperty{{[]byte("k"), []byte("v")}, {[]byte("k"), []byte{}}}}
	full.Set(PropPayloadFormat, PropMessageExpiry, PropContentType, PropResponseTopic, PropCorrelationData, PropTopicAlias)
	alias := Properties{TopicAlias: 9}
	alias.Set(PropTopicAlias)
	runGolden(t, []golden{
		{"3.1", V31, "30 05 0003'a/b'", &Publish{Topic: []byte("a/b")}, nil},
		{"QoS 0", V311, "31 07 0003'a/b' 'hi'", &Publish{Retain: true, Topic: []byte("a/b"), Payload: []byte("hi")}, []int{5, 6}},
		{"QoS 1", V311, "3a 06 0001't' 0100 'x'", &Publish{Dup: true, QoS: 1, PacketID: 256, Topic: []byte("t"), Payload: []byte("x")}, []int{5}},
		{"QoS 2", V311, "34 05 0001't' ffff", &Publish{QoS: 2, PacketID: 65535, Topic: []byte("t")}, nil},
		{"5", V5, "30 05 0001't' 00 'x'", &Publish{Topic: []byte("t"), Payload: []byte("x")}, []int{4}},
		{"alias alone", V5, "32 08 0000 0001 03 23 0009", &Publish{QoS: 1, PacketID: 1, Props: alias}, nil},
		{"every property", V5, "30 34 0003'a/b' 2d 0101 0200000002 03 0002'ct' 08 0003'r/t' 09 000100 23 0003" +
			" 0b01 0bffffff7f 26 0001'k' 0001'v' 26 0001'k' 0000 'x'",
			&Publish{Topic: []byte("a/b"), Props: full, Payload: []byte("x")}, []int{51}},
		{"BOM and control characters stay", V5, "30 0a 0007'a' efbbbf 01'b' 7f 00",
			&Publish{Topic: []byte("a\ufeff\x01b\x7f")}, nil},
	})
}

// clauses: MQTT5 [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.4-3] [MQTT-1.5.7-1] [MQTT-2.2.1-3] [MQTT-3.3.1-2] [MQTT-3.3.1-4] [MQTT-3.3.2-1] [MQTT-3.3.2-2] [MQTT-3.3.2-8] [MQTT-3.3.2-13] [MQTT-3.3.2-14] [MQTT-3.3.2-19] [MQTT-4.7.3-1] [MQTT-4.7.3-2] MQTT311 [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-2.3.1-1] [MQTT-3.3.1-2] [MQTT-3.3.1-4] [MQTT-3.3.2-1] [MQTT-3.3.2-2]
func TestPublishRefuses(t *testing.T) {
	runRefused(t, PUBLISH, []refused{ // the first byte is the flags
		{"empty body", V311, "00", MalformedPacket, "topic name is cut short"},
		{"topic longer than packet", V311, "00 0005'abcd'", MalformedPacket, "topic name is cut short"},
		{"topic of 65535", V5, "00 ffff'a'", MalformedPacket, "topic name is cut short"},
		{"empty topic 3.1.1", V311, "00 0000", TopicNameInvalid, "empty"},
		{"empty topic without alias", V5, "00 0000 00", ProtocolError, "no Topic Alias"},
		{"empty topic, other properties", V5, "00 0000 02 0101", ProtocolError, "no Topic Alias"},
		{"wildcard +", V311, "00 0003'a/+'", TopicNameInvalid, "wildcard"},
		{"wildcard #", V5, "00 0003'a/#' 00", TopicNameInvalid, "wildcard"},
		{"U+0000", V311, "00 0003'a' 00 'b'", MalformedPacket, "topic name contains U+0000"},
		{"surrogate", V311, "00 0004'a' eda080", MalformedPacket, "topic name is not well-formed UTF-8"},
		{"overlong", V5, "00 0003'a' c080 00", MalformedPacket, "topic name is not well-formed UTF-8"},
		{"above U+10FFFF", V5, "00 0004 f4908080 00", MalformedPacket, "topic name is not well-formed UTF-8"},
		{"cut code point", V5, "00 0002'a' c3 00", MalformedPacket, "topic name is not well-formed UTF-8"},
		{"ill-formed behind a wildcard", V5, "00 0002'+' ff 00", MalformedPacket, "topic name is not well-formed UTF-8"},
		{"QoS 3", V311, "06 0001't' 0001", MalformedPacket, "QoS 3"},
		{"DUP with QoS 0", V311, "08 0001't'", MalformedPacket, "DUP"},
		{"no packet id", V311, "02 0001't'", MalformedPacket, "packet identifier is cut short"},
		{"half a packet id", V311, "04 0001't' 00", MalformedPacket, "packet identifier is cut short"},
		{"packet id 0", V5, "02 0001't' 0000 00", ProtocolError, "packet identifier is zero"},
		{"packet id 0, 3.1.1", V311, "02 0001't' 0000", ProtocolError, "packet identifier is zero"},
		{"no property length", V5, "00 0001't'", MalformedPacket, "property length is cut short"},
		{"property length too long", V5, "00 0001't' 02 01", MalformedPacket, "properties are cut short"},
		{"property length of five bytes", V5, "00 0001't' ffffffff01", MalformedPacket, "more than four bytes"},
		{"overlong property length", V5, "00 0001't' 8000", MalformedPacket, "longer than it needs"},
		{"alias 0", V5, "00 0001't' 03 230000", TopicAliasInvalid, "zero"},
		{"empty topic, alias 0", V5, "00 0000 03 230000", TopicAliasInvalid, "zero"},
		{"alias twice", V5, "00 0001't' 06 230001 230001", ProtocolError, "Topic Alias occurs more than once"},
		{"payload format 2", V5, "00 0001't' 02 0102", ProtocolError, "neither 0 nor 1"},
		{"response topic with wildcard", V5, "00 0001't' 06 08 0003'a/+'", ProtocolError, "Response Topic contains a wildcard"},
		{"response topic with #", V5, "00 0001't' 04 08 0001'#'", ProtocolError, "Response Topic contains a wildcard"},
		{"empty response topic", V5, "00 0001't' 03 08 0000", ProtocolError, "Response Topic is empty"},
		{"ill-formed response topic", V5, "00 0001't' 04 08 0001 ff", MalformedPacket, "Response Topic is not"},
		{"U+0000 in content type", V5, "00 0001't' 04 03 0001 00", MalformedPacket, "Content Type contains U+0000"},
		{"subscription id 0", V5, "00 0001't' 02 0b00", ProtocolError, "Subscription Identifier is zero"},
		{"subscription id too large", V5, "00 0001't' 06 0b8080808001", MalformedPacket, "Subscription Identifier"},
		{"subscription id cut short", V5, "00 0001't' 02 0b80", MalformedPacket, "Subscription Identifier is cut short"},
		{"user property key", V5, "00 0001't' 06 26 0001 ff 0000", MalformedPacket, "name of a User Property"},
		{"user property value", V5, "00 0001't' 06 26 0000 0001 00", MalformedPacket, "value of a User Property contains U+0000"},
		{"user property cut", V5, "00 0001't' 05 26 0000 0001 'x'", MalformedPacket, "value of a User Property is cut short"},
		{"property of CONNECT", V5, "00 0001't' 05 1100000001", MalformedPacket, "Session Expiry Interval is not allowed in PUBLISH"},
		{"unknown property", V5, "00 0001't' 02 0400", MalformedPacket, "unknown property"},
		{"property 127", V5, "00 0001't' 02 7f00", MalformedPacket, "unknown property"},
		{"property id of two bytes", V5, "00 0001't' 03 818000", MalformedPacket, "unknown property"},
	})
}

// clauses: MQTT5 [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
func TestAppendForwardProps(t *testing.T) {
	const raw = "26 0001'z' 0001'1' 0200000002 08 0003'r/t' 0b01 26 0001'a' 0001'2' 23 0003 0101 09 000100 03 0002'ct' 26 0001'z' 0001'1'"
	const want = "26 0001'z' 0001'1' 08 0003'r/t' 26 0001'a' 0001'2' 0101 09 000100 03 0002'ct' 26 0001'z' 0001'1'"
	props := unhex(t, raw)
	body := append(AppendVarint(unhex(t, "0001't'"), len(props)), props...)
	var p Publish
	if err := p.Parse(V5, 0, body); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p.RawProps, props) {
		t.Errorf("raw properties %x", p.RawProps)
	}
	if got := p.AppendForwardProps([]byte("x")); string(got) != "x"+string(unhex(t, want)) {
		t.Errorf("got  %x\nwant %x", got[1:], unhex(t, want))
	}
	for i := range props { // bytes that no Parse has seen
		(&Publish{RawProps: props[:i]}).AppendForwardProps(nil)
	}

	p.RawProps = nil
	sorted := "0101 03 0002'ct' 08 0003'r/t' 09 000100 26 0001'z' 0001'1' 26 0001'a' 0001'2' 26 0001'z' 0001'1'"
	if got := p.AppendForwardProps(nil); !bytes.Equal(got, unhex(t, sorted)) {
		t.Errorf("from Props: %x\nwant %x", got, unhex(t, sorted))
	}

	w := Will{RawProps: unhex(t, "18 00000005 0101")}
	if got := w.AppendForwardProps(nil); !bytes.Equal(got, []byte{1, 1}) {
		t.Errorf("will: %x", got)
	}
	if got := new(Publish).AppendForwardProps(nil); len(got) != 0 {
		t.Errorf("no properties: %x", got)
	}
}

func FuzzForwardProps(f *testing.F) {
	f.Add([]byte("\x26\x00\x01z\x00\x011\x02\x00\x00\x00\x02\x0b\x80\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := (&Publish{RawProps: raw}).AppendForwardProps(nil)
		var p Properties
		if p.parse(raw, PropertyContext(PUBLISH)) != nil {
			return
		}
		// Of valid properties the forwarded ones arrive whole, and nothing else.
		var q Properties
		if err := q.parse(got, PropertyContext(PUBLISH)); err != nil {
			t.Fatal(err)
		}
		for _, id := range []Property{PropMessageExpiry, PropTopicAlias, PropSubscriptionIDs} {
			if q.Has(id) {
				t.Fatalf("%v forwarded", id)
			}
			p.Unset(id)
		}
		if p.set != q.set || string(p.Append(nil)) != string(q.Append(nil)) {
			t.Fatalf("%x forwarded as %x", raw, got)
		}
	})
}

func benchmarkParse(b *testing.B, v Version, p Publish) {
	in := p.Append(nil, v)
	h, err := ParseHeader(in)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Parse(v, h.Flags, in[h.Size:]); err != nil {
			b.Fatal(err)
		}
	}
}

var benchTopic = []byte("plant/7/pump/17/pressure")

func BenchmarkPublishParse(b *testing.B) {
	payload := []byte(strings.Repeat("x", 64))
	b.Run("3.1.1", func(b *testing.B) { benchmarkParse(b, V311, Publish{Topic: benchTopic, Payload: payload}) })
	b.Run("3.1.1/QoS1", func(b *testing.B) {
		benchmarkParse(b, V311, Publish{QoS: 1, PacketID: 1, Topic: benchTopic, Payload: payload})
	})
	b.Run("5", func(b *testing.B) { benchmarkParse(b, V5, Publish{Topic: benchTopic, Payload: payload}) })
	b.Run("5/alias", func(b *testing.B) {
		props := Properties{TopicAlias: 1}
		props.Set(PropTopicAlias)
		benchmarkParse(b, V5, Publish{Props: props, Payload: payload})
	})
	b.Run("5/properties", func(b *testing.B) {
		props := Properties{PayloadFormat: 1, ContentType: []byte("text/plain"), User: []UserProperty{{[]byte("key"), []byte("value")}}}
		props.Set(PropPayloadFormat, PropContentType)
		benchmarkParse(b, V5, Publish{Topic: benchTopic, Props: props, Payload: payload})
	})
}

func BenchmarkPublishAppend(b *testing.B) {
	p := Publish{QoS: 1, PacketID: 1, Topic: benchTopic, Payload: []byte(strings.Repeat("x", 64))}
	for _, v := range []Version{V311, V5} {
		b.Run(v.String(), func(b *testing.B) {
			dst := make([]byte, 0, 256)
			b.ReportAllocs()
			for b.Loop() {
				dst = p.Append(dst[:0], v)
			}
		})
	}
}

func BenchmarkParseHeader(b *testing.B) {
	in := []byte{0x32, 0x84, 0x01}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseHeader(in); err != nil {
			b.Fatal(err)
		}
	}
}
