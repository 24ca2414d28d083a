package mqtt

import (
	"slices"
	"testing"
)

func TestConnect(t *testing.T) {
	props := Properties{SessionExpiry: 1, ReceiveMaximum: 2, MaximumPacketSize: 3, TopicAliasMaximum: 4, RequestResponseInfo: 1,
		AuthMethod: []byte("m"), AuthData: []byte("d"), User: []UserProperty{{[]byte("k"), []byte("v")}}}
	props.Set(PropSessionExpiry, PropReceiveMaximum, PropMaximumPacketSize, PropTopicAliasMaximum, PropRequestProblemInfo,
		PropRequestResponseInfo, PropAuthMethod, PropAuthData)
	will := Properties{WillDelay: 9, PayloadFormat: 1}
	will.Set(PropWillDelay, PropPayloadFormat)
	id := []byte("id")
	runGolden(t, []golden{
		{"3.1", V31, "10 10 0006'MQIsdp' 03 02 000a 0002'id'",
			&Connect{Version: V31, CleanStart: true, KeepAlive: 10, ClientID: id}, nil},
		{"3.1.1", V311, "10 0e 0004'MQTT' 04 00 0000 0002'id'", &Connect{Version: V311, ClientID: id}, nil},
		{"3.1.1 without id", V311, "10 0c 0004'MQTT' 04 02 0000 0000", &Connect{Version: V311, CleanStart: true}, nil},
		{"bridge 3.1", V31, "10 10 0006'MQIsdp' 83 00 0000 0002'id'", &Connect{Version: V31, Bridge: true, ClientID: id}, nil},
		{"bridge 3.1.1", V311, "10 0e 0004'MQTT' 84 00 0000 0002'id'", &Connect{Version: V311, Bridge: true, ClientID: id}, nil},
		{"3.1.1 with everything", V311, "10 1d 0004'MQTT' 04 ee 003c 0002'id' 0001't' 0002'w' 00 0001'u' 0003 00ff00",
			&Connect{Version: V311, CleanStart: true, KeepAlive: 60, ClientID: id, HasWill: true,
				Will:        Will{QoS: 1, Retain: true, Topic: []byte("t"), Payload: []byte("w\x00")},
				HasUsername: true, Username: []byte("u"), HasPassword: true, Password: []byte{0, 255, 0}}, nil},
		{"3.1.1 user name alone", V311, "10 10 0004'MQTT' 04 82 0000 0000 0002'me'",
			&Connect{Version: V311, CleanStart: true, HasUsername: true, Username: []byte("me")}, nil},
		{"5", V5, "10 0d 0004'MQTT' 05 00 0000 00 0000", &Connect{Version: V5}, nil},
		{"5 password alone", V5, "10 11 0004'MQTT' 05 40 0000 00 0000 0002 ff00",
			&Connect{Version: V5, HasPassword: true, Password: []byte{255, 0}}, nil},
		{"5 with everything", V5, "10 47 0004'MQTT' 05 f4 0001 23 1100000001 15 0001'm' 16 0001'd' 1700 1901 210002 220004 2700000003 26 0001'k' 0001'v'" +
			" 0002'id' 07 0101 1800000009 0001't' 0002'wp' 0001'u' 0001'p'",
			&Connect{Version: V5, KeepAlive: 1, ClientID: id, HasWill: true, Props: props,
				Will:        Will{QoS: 2, Retain: true, Topic: []byte("t"), Payload: []byte("wp"), Props: will},
				HasUsername: true, Username: []byte("u"), HasPassword: true, Password: []byte("p")}, nil},
	})
}

// clauses: MQTT5 [MQTT-3.1.2-1] [MQTT-3.1.2-2] [MQTT-3.1.2-3] [MQTT-3.1.2-6] [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-9] [MQTT-3.1.2-13] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.3-11] [MQTT-3.1.3-12] MQTT311 [MQTT-3.1.2-1] [MQTT-3.1.2-2] [MQTT-3.1.2-3] [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.2-20] [MQTT-3.1.2-21] [MQTT-3.1.2-22] [MQTT-3.1.3-3] [MQTT-3.1.3-4] [MQTT-3.1.3-8] [MQTT-3.1.3-10] [MQTT-3.1.3-11] [MQTT-3.1.4-1]
func TestConnectRefuses(t *testing.T) {
	runRefused(t, CONNECT, []refused{ // the version is the one that is left in the packet
		{"empty", 0, "", MalformedPacket, "protocol name is cut short"},
		{"half a name", 0, "0004'MQT'", MalformedPacket, "protocol name is cut short"},
		{"unknown name", 0, "0004'XQTT' 04 02 0000 0000", UnsupportedProtocolVersion, "neither MQTT nor MQIsdp"},
		{"lower case", 0, "0004'mqtt' 04 02 0000 0000", UnsupportedProtocolVersion, "neither MQTT nor MQIsdp"},
		{"empty name", 0, "0000 04 02 0000 0000", UnsupportedProtocolVersion, "neither MQTT nor MQIsdp"},
		{"HTTP", 0, "'GET / HTTP/1.1' 0d0a", MalformedPacket, "protocol name is cut short"},
		{"no level", 0, "0004'MQTT'", MalformedPacket, "protocol version is cut short"},
		{"level 0", V311, "0004'MQTT' 00 02 0000 0000", UnsupportedProtocolVersion, "protocol version"},
		{"level 3 of MQTT", V311, "0004'MQTT' 03 02 0000 0000", UnsupportedProtocolVersion, "protocol version"},
		{"level 6", V5, "0004'MQTT' 06 02 0000 0000", UnsupportedProtocolVersion, "protocol version"},
		{"level 0x83 of MQTT", V5, "0004'MQTT' 83 02 0000 0000", UnsupportedProtocolVersion, "protocol version"},
		{"level 0x85", V5, "0004'MQTT' 85 02 0000 0000", UnsupportedProtocolVersion, "protocol version"},
		{"level 255", V5, "0004'MQTT' ff", UnsupportedProtocolVersion, "protocol version"},
		{"level 4 of MQIsdp", V31, "0006'MQIsdp' 04 02 0000 0001'i'", UnsupportedProtocolVersion, "protocol version"},
		{"level 5 of MQIsdp", V31, "0006'MQIsdp' 05 02 0000 0001'i'", UnsupportedProtocolVersion, "protocol version"},
		{"no keep alive", V311, "0004'MQTT' 04 02 00", MalformedPacket, "CONNECT is cut short"},
		{"reserved flag 3.1.1", V311, "0004'MQTT' 04 03 0000 0000", MalformedPacket, "reserved bit"},
		{"reserved flag 5", V5, "0004'MQTT' 05 03 0000 00 0000", MalformedPacket, "reserved bit"},
		{"will QoS 3", V311, "0004'MQTT' 04 1e 0000 0000 0001't' 0000", MalformedPacket, "will has QoS 3"},
		{"will QoS 3 in 3.1", V31, "0006'MQIsdp' 03 1e 0000 0001'i' 0001't' 0000", MalformedPacket, "will has QoS 3"},
		{"will QoS without will", V311, "0004'MQTT' 04 0a 0000 0000", MalformedPacket, "without will flag"},
		{"will QoS 3 without will", V5, "0004'MQTT' 05 1a 0000 00 0000", MalformedPacket, "without will flag"},
		{"will retain without will", V5, "0004'MQTT' 05 22 0000 00 0000", MalformedPacket, "without will flag"},
		{"password without user name", V311, "0004'MQTT' 04 42 0000 0000 0001'p'", MalformedPacket, "password without user name"},
		{"password without user name in 3.1", V31, "0006'MQIsdp' 03 42 0000 0001'i' 0001'p'", MalformedPacket, "password without user name"},
		{"no client id", V311, "0004'MQTT' 04 02 0000", MalformedPacket, "client identifier is cut short"},
		{"U+0000 in client id", V311, "0004'MQTT' 04 02 0000 0002 6100", MalformedPacket, "client identifier contains U+0000"},
		{"surrogate in client id", V5, "0004'MQTT' 05 02 0000 00 0003 eda080", MalformedPacket, "client identifier is not"},
		{"empty id, session kept", V311, "0004'MQTT' 04 00 0000 0000", ClientIDNotValid, "empty"},
		{"empty id in 3.1", V31, "0006'MQIsdp' 03 02 0000 0000", ClientIDNotValid, "empty"},
		{"no will topic", V311, "0004'MQTT' 04 06 0000 0000", MalformedPacket, "will topic is cut short"},
		{"no will payload", V311, "0004'MQTT' 04 06 0000 0000 0001't'", MalformedPacket, "will payload is cut short"},
		{"no will properties", V5, "0004'MQTT' 05 06 0000 00 0000", MalformedPacket, "property length is cut short"},
		{"will topic with wildcard", V5, "0004'MQTT' 05 06 0000 00 0000 00 0001'#' 0000", TopicNameInvalid, "will topic contains a wildcard"},
		{"empty will topic", V311, "0004'MQTT' 04 06 0000 0000 0000 0000", TopicNameInvalid, "will topic is empty"},
		{"ill-formed will topic", V311, "0004'MQTT' 04 06 0000 0000 0001 ff 0000", MalformedPacket, "will topic is not"},
		{"will property of CONNECT", V5, "0004'MQTT' 05 06 0000 00 0000 05 1100000001 0001't' 0000", MalformedPacket, "not allowed in Will Properties"},
		{"will delay in CONNECT", V5, "0004'MQTT' 05 02 0000 05 1800000001 0000", MalformedPacket, "Will Delay Interval is not allowed in CONNECT"},
		{"no user name", V311, "0004'MQTT' 04 82 0000 0000", MalformedPacket, "user name is cut short"},
		{"ill-formed user name", V311, "0004'MQTT' 04 82 0000 0000 0001 80", MalformedPacket, "user name is not"},
		{"U+0000 in user name", V5, "0004'MQTT' 05 82 0000 00 0000 0001 00", MalformedPacket, "user name contains U+0000"},
		{"no password", V5, "0004'MQTT' 05 c2 0000 00 0000 0001'u'", MalformedPacket, "password is cut short"},
		{"more behind", V311, "0004'MQTT' 04 02 0000 0000 00", MalformedPacket, "goes on"},
		{"user name without flag", V5, "0004'MQTT' 05 02 0000 00 0000 0001'u'", MalformedPacket, "goes on"},
		{"receive maximum 0", V5, "0004'MQTT' 05 02 0000 03 210000 0000", ProtocolError, "Receive Maximum is zero"},
		{"maximum packet size 0", V5, "0004'MQTT' 05 02 0000 05 2700000000 0000", ProtocolError, "Maximum Packet Size is zero"},
		{"request problem information 2", V5, "0004'MQTT' 05 02 0000 02 1702 0000", ProtocolError, "neither 0 nor 1"},
		{"authentication data alone", V5, "0004'MQTT' 05 02 0000 04 16 0001'd' 0000", ProtocolError, "without Authentication Method"},
		{"session expiry twice", V5, "0004'MQTT' 05 02 0000 0a 1100000001 1100000001 0000", ProtocolError, "more than once"},
	})
	for _, flags := range []uint8{1, 2, 4, 8} { // [MQTT-3.1.2-12]
		p := new(Connect)
		checkRefused(t, p.Parse(0, flags, unhex(t, "0004'MQTT' 05 00 0000 00 0000")), MalformedPacket, "reserved flags of CONNECT")
		if p.Version != V5 {
			t.Error(p.Version)
		}
	}
}

// The version that a refusal needs is known as soon as the packet has told it, whatever else is wrong.
func TestConnectVersionOfRefusal(t *testing.T) {
	for _, c := range []struct {
		body string
		want Version
	}{
		{"0004'MQTT' 05", V5}, {"0004'MQTT' 05 ff", V5}, {"0004'MQTT' 04 ff", V311}, {"0006'MQIsdp' 03 ff", V31},
		{"0004'MQTT' 00", V311}, {"0004'MQTT' 03", V311}, {"0004'MQTT' 06", V5}, {"0004'MQTT' fe", V5}, {"0006'MQIsdp' 09", V31},
		{"0004'MQTT'", 0}, {"0004'HTTP' 05", 0}, {"00", 0},
	} {
		p := &Connect{Version: V5, Bridge: true}
		if err := p.Parse(V5, 0, unhex(t, c.body)); err == nil || p.Version != c.want || p.Bridge {
			t.Errorf("%s: version %v, bridge %v, error %v", c.body, p.Version, p.Bridge, err)
		}
	}
}

// Version 3.1 leaves bits undefined and lets the end of the packet overrule the flags of user name and password.
func TestConnectOf31(t *testing.T) {
	head := "0006'MQIsdp' 03 "
	for body, want := range map[string]Connect{
		"c3 0000 0001'i' 0001'u' 0001'p'": {HasUsername: true, Username: []byte("u"), HasPassword: true, Password: []byte("p")},
		"c2 0000 0001'i' 0001'u'":         {HasUsername: true, Username: []byte("u")},
		"c2 0000 0001'i'":                 {},
		"3a 0000 0001'i'":                 {},
	} {
		want.Version, want.CleanStart, want.ClientID = V31, true, []byte("i")
		got := new(Connect)
		if err := got.Parse(0, 0, unhex(t, head+body)); err != nil {
			t.Error(body, err)
		}
		if d := same(&want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", body, d)
		}
	}
	if err := new(Connect).Parse(0, 0, unhex(t, head+"c2 0000 0001'i' 0001'u' 00")); err == nil {
		t.Error("half a password accepted")
	}
}

func TestConnectFormOfAppend(t *testing.T) {
	p := &Connect{ClientID: []byte("id")}
	for _, v := range versions {
		b := p.Append(nil, v)
		got, err := decode(b, 0)
		if err != nil || got.(*Connect).Version != v || len(b) != p.Size(v) {
			t.Errorf("%v: %x, %v", v, b, err)
		}
	}
	p.Version = V31
	if !slices.Equal(p.Append(nil, V5), p.Append(nil, V31)) {
		t.Error("Version does not decide")
	}
}

func TestConnack(t *testing.T) {
	props := Properties{SessionExpiry: 1, AssignedClientID: []byte("a"), ServerKeepAlive: 2, AuthMethod: []byte("m"),
		ResponseInfo: []byte("ri"), ServerReference: []byte("sr"), ReasonString: []byte("rs"), ReceiveMaximum: 3,
		TopicAliasMaximum: 4, MaximumQoS: 1, MaximumPacketSize: 5, SubscriptionIDAvailable: 1}
	props.Set(PropSessionExpiry, PropAssignedClientID, PropServerKeepAlive, PropAuthMethod, PropResponseInfo, PropServerReference,
		PropReasonString, PropReceiveMaximum, PropTopicAliasMaximum, PropMaximumQoS, PropRetainAvailable, PropMaximumPacketSize,
		PropWildcardAvailable, PropSubscriptionIDAvailable, PropSharedAvailable)
	runGolden(t, []golden{
		{"3.1", V31, "20 02 00 00", &Connack{}, nil},
		{"3.1 refused", V31, "20 02 00 02", &Connack{Code: ClientIDNotValid}, nil},
		{"3.1.1", V311, "20 02 01 00", &Connack{SessionPresent: true}, nil},
		{"3.1.1 refused", V311, "20 02 00 05", &Connack{Code: NotAuthorized}, nil},
		{"5", V5, "20 03 01 00 00", &Connack{SessionPresent: true}, nil},
		{"5 refused", V5, "20 03 00 9f 00", &Connack{Code: ConnectionRateExceeded}, nil},
		{"every property", V5, "20 37 00 00 34 1100000001 12 0001'a' 130002 15 0001'm' 1a 0002'ri' 1c 0002'sr' 1f 0002'rs'" +
			" 210003 220004 2401 2500 2700000005 2800 2901 2a00", &Connack{Props: props}, nil},
	})
	for _, v := range versions { // a refusal never says that there is a session
		p := &Connack{SessionPresent: true, Code: NotAuthorized}
		if got, err := decode(p.Append(nil, v), v); err != nil || got.(*Connack).SessionPresent {
			t.Error(v, got, err)
		}
	}
	// 3.1.1 tells this to a client of version 5, in its own form.
	if got, err := decode([]byte{0x20, 2, 0, 1}, V5); err != nil || got.(*Connack).Code != UnsupportedProtocolVersion {
		t.Error(got, err)
	}
	// The first byte is not used in 3.1.
	if got, err := decode([]byte{0x20, 2, 0xFF, 0}, V31); err != nil || got.(*Connack).SessionPresent {
		t.Error(got, err)
	}
}

// clauses: MQTT5 [MQTT-3.2.2-1] [MQTT-3.2.2-6] [MQTT-3.2.2-8] MQTT311 [MQTT-3.2.2-4]
func TestConnackRefuses(t *testing.T) {
	runRefused(t, CONNACK, []refused{
		{"empty", V311, "", MalformedPacket, "CONNACK is cut short"},
		{"reserved flag", V311, "02 00", MalformedPacket, "reserved"},
		{"reserved flag 5", V5, "80 00 00", MalformedPacket, "reserved"},
		{"session in a refusal", V311, "01 05", ProtocolError, "session present"},
		{"session in a refusal 5", V5, "01 87 00", ProtocolError, "session present"},
		{"return code 6", V311, "00 06", ProtocolError, "return code"},
		{"reason code", V5, "00 01 00", ProtocolError, "reason code"},
		{"more behind", V311, "00 00 00", MalformedPacket, "goes on"},
		{"more behind 5", V5, "00 00 00 00", MalformedPacket, "goes on"},
		{"no property length", V5, "00 00", MalformedPacket, "property length"},
		{"maximum QoS 2", V5, "00 00 02 2402", ProtocolError, "Maximum QoS is neither"},
		{"receive maximum 0", V5, "00 00 03 210000", ProtocolError, "Receive Maximum"},
	})
}
