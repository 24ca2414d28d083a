package mqtt

import "testing"

func TestSubscribe(t *testing.T) {
	ident := Properties{SubscriptionIDs: []uint32{128}}
	runGolden(t, []golden{
		{"3.1", V31, "82 06 0001 0001'#' 02", &Subscribe{PacketID: 1, Filters: []Subscription{{Filter: []byte("#"), QoS: 2}}}, nil},
		{"3.1.1", V311, "82 0c 000a 0003'a/b' 01 0001'+' 00",
			&Subscribe{PacketID: 10, Filters: []Subscription{{Filter: []byte("a/b"), QoS: 1}, {Filter: []byte("+")}}}, []int{8}},
		{"5", V5, "82 07 0001 00 0001't' 2e", &Subscribe{PacketID: 1, Filters: []Subscription{
			{Filter: []byte("t"), QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}}}, nil},
		{"5 with identifier", V5, "82 0a 0001 03 0b8001 0001'/' 10",
			&Subscribe{PacketID: 1, Props: ident, Filters: []Subscription{{Filter: []byte("/"), RetainHandling: 1}}}, nil},
		{"shared", V5, "82 11 0001 00 000b'$share/g/+/' 01",
			&Subscribe{PacketID: 1, Filters: []Subscription{{Filter: []byte("$share/g/+/"), QoS: 1}}}, nil},
	})
	// Undefined option bits and DUP of 3.1.
	p := new(Subscribe)
	if err := p.Parse(V31, 10, unhex(t, "0001 0001't' fd")); err != nil || p.Filters[0].QoS != 1 {
		t.Error(p, err)
	}
	// A filter that only version 5 reads as a shared one.
	if err := p.Parse(V311, 2, unhex(t, "0001 0009'$share//t' 00")); err != nil {
		t.Error(err)
	}
}

// clauses: MQTT5 [MQTT-2.2.1-3] [MQTT-3.8.1-1] [MQTT-3.8.3-1] [MQTT-3.8.3-2] [MQTT-3.8.3-3] [MQTT-3.8.3-4] [MQTT-3.8.3-5] [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.8.2-1] [MQTT-4.8.2-2] MQTT311 [MQTT-2.3.1-1] [MQTT-3.8.1-1] [MQTT-3.8.3-1] [MQTT-3.8.3-3] [MQTT-3.8.3-4] [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1]
func TestSubscribeRefuses(t *testing.T) {
	cases := []refused{
		{"empty", V311, "", MalformedPacket, "packet identifier is cut short"},
		{"id 0", V311, "0000 0001't' 00", ProtocolError, "packet identifier is zero"},
		{"id 0, 5", V5, "0000 00 0001't' 00", ProtocolError, "packet identifier is zero"},
		{"no filter", V311, "0001", ProtocolError, "no topic filter"},
		{"no filter, 5", V5, "0001 00", ProtocolError, "no topic filter"},
		{"no property length", V5, "0001", MalformedPacket, "property length"},
		{"no options", V311, "0001 0001't'", MalformedPacket, "subscription options are cut short"},
		{"filter cut", V311, "0001 0002't'", MalformedPacket, "topic filter is cut short"},
		{"half a second filter", V311, "0001 0001't' 00 00", MalformedPacket, "topic filter is cut short"},
		{"QoS 3", V311, "0001 0001't' 03", MalformedPacket, "QoS"},
		{"QoS 3, 3.1", V31, "0001 0001't' 03", MalformedPacket, "QoS"},
		{"QoS 3, 5", V5, "0001 00 0001't' 03", ProtocolError, "QoS 3"},
		{"option of 5 in 3.1.1", V311, "0001 0001't' 04", MalformedPacket, "QoS"},
		{"reserved bits", V5, "0001 00 0001't' 40", MalformedPacket, "reserved"},
		{"reserved bit 7", V5, "0001 00 0001't' 80", MalformedPacket, "reserved"},
		{"reserved bits 3.1.1", V311, "0001 0001't' 80", MalformedPacket, "QoS"},
		{"retain handling 3", V5, "0001 00 0001't' 30", ProtocolError, "retain handling 3"},
		{"empty filter", V311, "0001 0000 00", TopicFilterInvalid, "topic filter is empty"},
		{"# in the middle", V5, "0001 00 0003'#/a' 00", TopicFilterInvalid, "#"},
		{"# in a level", V311, "0001 0002'a#' 00", TopicFilterInvalid, "#"},
		{"+ in a level", V311, "0001 0002'a+' 00", TopicFilterInvalid, "+"},
		{"U+0000", V311, "0001 0001 00 00", MalformedPacket, "topic filter contains U+0000"},
		{"surrogate", V5, "0001 00 0003 edbfbf 00", MalformedPacket, "topic filter is not"},
		{"share without name", V5, "0001 00 0009'$share//t' 00", TopicFilterInvalid, "share name"},
		{"share without filter", V5, "0001 00 0009'$share/g/' 00", TopicFilterInvalid, "no filter"},
		{"share name alone", V5, "0001 00 0008'$share/g' 00", TopicFilterInvalid, "no filter"},
		{"share of nothing", V5, "0001 00 0007'$share/' 00", TopicFilterInvalid, "share name"},
		{"share name with wildcard", V5, "0001 00 000a'$share/+/t' 00", TopicFilterInvalid, "share name"},
		{"no local on shared", V5, "0001 00 000a'$share/g/t' 04", ProtocolError, "no local"},
		{"identifier twice", V5, "0001 04 0b010b02 0001't' 00", ProtocolError, "more than once"},
		{"identifier 0", V5, "0001 02 0b00 0001't' 00", ProtocolError, "zero"},
		{"identifier of five bytes", V5, "0001 06 0bffffffff7f 0001't' 00", MalformedPacket, "four bytes"},
		{"reason string", V5, "0001 03 1f0000 0001't' 00", MalformedPacket, "not allowed in SUBSCRIBE"},
	}
	runRefused(t, SUBSCRIBE, cases)
	for flags := range uint8(16) {
		if err := new(Subscribe).Parse(V311, flags, unhex(t, "0001 0001't' 00")); (err == nil) != (flags == 2) {
			t.Errorf("flags %x: %v", flags, err)
		}
	}
}

func TestUnsubscribe(t *testing.T) {
	props := Properties{User: []UserProperty{{[]byte("k"), []byte("v")}}}
	runGolden(t, []golden{
		{"3.1.1", V311, "a2 08 0001 0001't' 0001'#'", &Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("t"), []byte("#")}}, []int{5}},
		{"5", V5, "a2 0d 0001 07 26 0001'k' 0001'v' 0001't'", &Unsubscribe{PacketID: 1, Props: props, Filters: [][]byte{[]byte("t")}}, nil},
	})
}

// clauses: MQTT5 [MQTT-3.10.1-1] [MQTT-3.10.3-1] [MQTT-3.10.3-2] MQTT311 [MQTT-3.10.1-1] [MQTT-3.10.3-1] [MQTT-3.10.3-2]
func TestUnsubscribeRefuses(t *testing.T) {
	runRefused(t, UNSUBSCRIBE, []refused{
		{"id 0", V311, "0000 0001't'", ProtocolError, "zero"},
		{"no filter", V311, "0001", ProtocolError, "no topic filter"},
		{"no filter, 5", V5, "0001 00", ProtocolError, "no topic filter"},
		{"filter cut", V5, "0001 00 0002't'", MalformedPacket, "topic filter is cut short"},
		{"empty filter", V311, "0001 0000", TopicFilterInvalid, "empty"},
		{"bad filter", V5, "0001 00 0003'a/#' 0002'#a'", TopicFilterInvalid, "#"},
		{"ill-formed", V311, "0001 0001 ff", MalformedPacket, "topic filter is not"},
		{"share name", V5, "0001 00 000a'$share/+/t'", TopicFilterInvalid, "share name"},
		{"subscription identifier", V5, "0001 02 0b01 0001't'", MalformedPacket, "not allowed in UNSUBSCRIBE"},
	})
	for flags := range uint8(16) {
		if err := new(Unsubscribe).Parse(V5, flags, unhex(t, "0001 00 0001't'")); (err == nil) != (flags == 2) {
			t.Errorf("flags %x: %v", flags, err)
		}
	}
}

func TestSuback(t *testing.T) {
	reason := Properties{ReasonString: []byte("no")}
	reason.Set(PropReasonString)
	runGolden(t, []golden{
		{"3.1.1", V311, "90 06 0001 00010280", &Suback{PacketID: 1, Codes: []ReasonCode{0, 1, 2, 0x80}}, []int{3, 4, 5}},
		{"5", V5, "90 0a 0001 05 1f 0002'no' 0187", &Suback{PacketID: 1, Codes: []ReasonCode{1, NotAuthorized}, Props: reason}, []int{9}},
		{"UNSUBACK 3.1", V31, "b0 02 0001", &Unsuback{PacketID: 1}, nil},
		{"UNSUBACK 5", V5, "b0 05 0001 00 0011", &Unsuback{PacketID: 1, Codes: []ReasonCode{0, NoSubscriptionExisted}}, []int{4}},
	})
	runRefused(t, SUBACK, []refused{
		{"id 0", V311, "0000 00", ProtocolError, "zero"},
		{"no code", V311, "0001", ProtocolError, "no reason code"},
		{"no code, 5", V5, "0001 00", ProtocolError, "no reason code"},
		{"code of 5 in 3.1.1", V311, "0001 87", ProtocolError, "reason code"},
		{"code 3", V311, "0001 03", ProtocolError, "reason code"},
	})
	runRefused(t, UNSUBACK, []refused{
		{"id 0", V311, "0000", ProtocolError, "zero"},
		{"codes in 3.1.1", V311, "0001 00", MalformedPacket, "goes on"},
		{"no code", V5, "0001 00", ProtocolError, "no reason code"},
		{"code", V5, "0001 00 01", ProtocolError, "reason code"},
	})
	// Before version 5 there is one failure, and UNSUBACK says nothing.
	if b := (&Suback{PacketID: 1, Codes: []ReasonCode{1, NotAuthorized, QuotaExceeded}}).Append(nil, V311); string(b) != "\x90\x05\x00\x01\x01\x80\x80" {
		t.Errorf("%x", b)
	}
	if b := (&Unsuback{PacketID: 1, Codes: []ReasonCode{0x11}}).Append(nil, V311); string(b) != "\xb0\x02\x00\x01" {
		t.Errorf("%x", b)
	}
}
