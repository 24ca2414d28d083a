package mqtt

import "testing"

func TestAck(t *testing.T) {
	user := Properties{User: []UserProperty{{[]byte("k"), []byte("v")}}}
	reason := Properties{ReasonString: []byte("no")}
	reason.Set(PropReasonString)
	runGolden(t, []golden{
		{"PUBACK 3.1", V31, "40 02 0001", &Ack{Type: PUBACK, PacketID: 1}, nil},
		{"PUBREC 3.1.1", V311, "50 02 ffff", &Ack{Type: PUBREC, PacketID: 65535}, nil},
		{"PUBREL 3.1.1", V311, "62 02 0100", &Ack{Type: PUBREL, PacketID: 256}, nil},
		{"PUBCOMP 5", V5, "70 02 0001", &Ack{Type: PUBCOMP, PacketID: 1}, nil},
		{"PUBREL with code", V5, "62 03 0001 92", &Ack{Type: PUBREL, PacketID: 1, Code: PacketIDNotFound}, []int{2}},
		{"PUBACK with properties", V5, "40 09 0001 97 05 1f 0002'no'",
			&Ack{Type: PUBACK, PacketID: 1, Code: QuotaExceeded, Props: reason}, []int{2, 3}},
		{"PUBREC of success with properties", V5, "50 0b 0001 00 07 26 0001'k' 0001'v'", &Ack{Type: PUBREC, PacketID: 1, Props: user}, []int{2, 3}},
	})
	var p Ack
	p.Type = PUBACK
	if err := p.Parse(V5, 0, []byte{0, 1, 0, 0}); err != nil { // the long form of nothing
		t.Error(err)
	}
	p.Type = PUBLISH
	if err := p.Parse(V5, 0, []byte{0, 1}); err == nil {
		t.Error("an Ack of PUBLISH parsed")
	}
	// 3.1 knows DUP of PUBREL.
	p.Type = PUBREL
	if err := p.Parse(V31, 10, []byte{0, 1}); err != nil {
		t.Error(err)
	}
	checkRefused(t, p.Parse(V311, 10, []byte{0, 1}), MalformedPacket, "reserved flags of PUBREL")
}

// clauses: MQTT5 [MQTT-2.1.3-1] [MQTT-3.6.1-1] MQTT311 [MQTT-3.6.1-1]
func TestAckRefuses(t *testing.T) {
	for typ := PUBACK; typ <= PUBCOMP; typ++ {
		runRefused(t, typ, []refused{
			{"empty", V311, "", MalformedPacket, "packet identifier is cut short"},
			{"half an id", V5, "00", MalformedPacket, "packet identifier is cut short"},
			{"id 0", V5, "0000", ProtocolError, "packet identifier is zero"},
			{"more behind", V311, "0001 00", MalformedPacket, "goes on"},
			{"more behind 5", V5, "0001 00 00 00", MalformedPacket, "goes on"},
			{"properties cut", V5, "0001 00 01", MalformedPacket, "properties are cut short"},
			{"property of CONNECT", V5, "0001 00 03 210001", MalformedPacket, "Receive Maximum is not allowed"},
			{"reason string twice", V5, "0001 00 06 1f0000 1f0000", ProtocolError, "more than once"},
		})
		for flags := range uint8(16) {
			err := (&Ack{Type: typ}).Parse(V5, flags, []byte{0, 1})
			if good := flags == ackFlags(typ); good != (err == nil) {
				t.Errorf("%v with flags %x: %v", typ, flags, err)
			}
		}
	}
}

func TestDisconnect(t *testing.T) {
	props := Properties{SessionExpiry: 1, ServerReference: []byte("b")}
	props.Set(PropSessionExpiry, PropServerReference)
	runGolden(t, []golden{
		{"3.1", V31, "e0 00", &Disconnect{}, nil},
		{"3.1.1", V311, "e0 00", &Disconnect{}, nil},
		{"5", V5, "e0 00", &Disconnect{}, nil},
		{"with will", V5, "e0 01 04", &Disconnect{Code: DisconnectWithWill}, []int{0}},
		{"with properties", V5, "e0 0b 9c 09 1100000001 1c 0001'b'", &Disconnect{Code: UseAnotherServer, Props: props}, []int{0, 1}},
	})
	runRefused(t, DISCONNECT, []refused{
		{"body in 3.1.1", V311, "00", MalformedPacket, "goes on"},
		{"body in 3.1", V31, "00", MalformedPacket, "goes on"},
		{"code of CONNACK", V5, "85", ProtocolError, "reason code"},
		{"more behind", V5, "00 00 00", MalformedPacket, "goes on"},
		{"unknown property", V5, "00 02 0600", MalformedPacket, "unknown property in DISCONNECT"},
	})
}

func TestAuth(t *testing.T) {
	props := Properties{AuthMethod: []byte("m"), AuthData: []byte{0}}
	props.Set(PropAuthMethod, PropAuthData)
	runGolden(t, []golden{
		{"continue", V5, "f0 0a 18 08 15 0001'm' 16 0001 00", &Auth{Code: ContinueAuthentication, Props: props}, nil},
	})
	if b := new(Auth).Append(nil, V5); string(b) != "\xf0\x00" || new(Auth).Size(V5) != 2 {
		t.Errorf("%x", b)
	}
	runRefused(t, AUTH, []refused{
		{"3.1.1", V311, "18 04 15 0001'm'", ProtocolError, "before version 5"},
		{"no method", V5, "18 00", ProtocolError, "without Authentication Method"},
		{"no body", V5, "", ProtocolError, "without Authentication Method"},
		{"code alone", V5, "18", MalformedPacket, "cut short"},
		{"data alone", V5, "18 04 16 0001'd'", ProtocolError, "without Authentication Method"},
		{"code", V5, "04 04 15 0001'm'", ProtocolError, "reason code"},
		{"method twice", V5, "18 08 15 0001'm' 15 0001'm'", ProtocolError, "more than once"},
	})
	checkRefused(t, new(Auth).Parse(V5, 1, unhex(t, "18 04 15 0001'm'")), MalformedPacket, "reserved flags of AUTH")
}
