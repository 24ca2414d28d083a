package mqtt

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// codeTable is table 2-6 of MQTT 5: the packets that each code may stand in.
const codeTable = `
00 CONNACK PUBACK PUBREC PUBREL PUBCOMP UNSUBACK AUTH DISCONNECT SUBACK
01 SUBACK
02 SUBACK
04 DISCONNECT
10 PUBACK PUBREC
11 UNSUBACK
18 AUTH
19 AUTH
80 CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT
81 CONNACK DISCONNECT
82 CONNACK DISCONNECT
83 CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT
84 CONNACK
85 CONNACK
86 CONNACK
87 CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT
88 CONNACK
89 CONNACK DISCONNECT
8A CONNACK
8B DISCONNECT
8C CONNACK DISCONNECT
8D DISCONNECT
8E DISCONNECT
8F SUBACK UNSUBACK DISCONNECT
90 CONNACK PUBACK PUBREC DISCONNECT
91 PUBACK PUBREC SUBACK UNSUBACK
92 PUBREL PUBCOMP
93 DISCONNECT
94 DISCONNECT
95 CONNACK DISCONNECT
96 DISCONNECT
97 CONNACK PUBACK PUBREC SUBACK DISCONNECT
98 DISCONNECT
99 CONNACK PUBACK PUBREC DISCONNECT
9A CONNACK DISCONNECT
9B CONNACK DISCONNECT
9C CONNACK DISCONNECT
9D CONNACK DISCONNECT
9E SUBACK DISCONNECT
9F CONNACK DISCONNECT
A0 DISCONNECT
A1 SUBACK DISCONNECT
A2 SUBACK DISCONNECT`

// clauses: MQTT5 [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2] [MQTT-3.14.2-1] [MQTT-3.15.2-1]
func TestReasonCodesOfPackets(t *testing.T) {
	may := map[string]bool{}
	for line := range strings.Lines(strings.TrimSpace(codeTable)) {
		f := strings.Fields(line)
		for _, typ := range f[1:] {
			may[f[0]+typ] = true
		}
	}
	bodies := map[Type]string{CONNACK: "00 CC 00", PUBACK: "0001 CC", PUBREC: "0001 CC", PUBREL: "0001 CC", PUBCOMP: "0001 CC",
		SUBACK: "0001 00 CC", UNSUBACK: "0001 00 CC", DISCONNECT: "CC", AUTH: "CC 04 15 0001 'm'"}
	for typ, body := range bodies {
		for c := range 256 {
			code := fmt.Sprintf("%02X", c)
			b := unhex(t, strings.Replace(body, "CC", code, 1))
			err := newPacket(typ).Parse(V5, ackFlags(typ), b)
			if want := may[code+typ.String()]; want != (err == nil) || want != ReasonCode(c).ValidFor(typ) {
				t.Errorf("%v with code %s: %v, allowed %v", typ, code, err, want)
			} else if !want {
				checkRefused(t, err, ProtocolError, "none of "+typ.String())
			}
			if named := reasonNames[c] != ""; named != strings.Contains(codeTable, "\n"+code+" ") {
				t.Errorf("code %s named: %v", code, named)
			}
		}
	}
}

func TestReasonCodeTexts(t *testing.T) {
	for c, want := range map[ReasonCode][2]string{
		Success:               {"Success", "success"},
		BadUserNameOrPassword: {"Bad User Name or Password", "bad user name or password"},
		QoSNotSupported:       {"QoS not supported", "QoS not supported"},
		0x05:                  {"Reason Code 0x05", "reason code 0x05"},
	} {
		if c.String() != want[0] || c.Error() != want[1] {
			t.Errorf("%02x: %q, %q", uint8(c), c.String(), c.Error())
		}
	}
	err := fmt.Errorf("read: %w", malformed("topic name contains U+0000"))
	if s := err.Error(); s != "read: malformed packet: topic name contains U+0000" {
		t.Error(s)
	}
	var c ReasonCode
	if !errors.As(err, &c) || c != MalformedPacket {
		t.Error("reason code not found")
	}
}

// clauses: MQTT311 [MQTT-3.2.2-6]
func TestV3Connack(t *testing.T) {
	want := map[ReasonCode]byte{UnsupportedProtocolVersion: 1, ClientIDNotValid: 2, ServerUnavailable: 3, ServerBusy: 3,
		QuotaExceeded: 3, ConnectionRateExceeded: 3, UseAnotherServer: 3, BadUserNameOrPassword: 4, NotAuthorized: 5,
		BadAuthenticationMethod: 5, Banned: 5}
	for i := range 256 {
		c := ReasonCode(i)
		switch b := c.V3Connack(); {
		case !c.IsError() && b != 0, c.IsError() && (b < 1 || b > 5):
			t.Errorf("%v: %d", c, b)
		case want[c] != 0 && b != want[c]:
			t.Errorf("%v: %d, want %d", c, b, want[c])
		}
	}
	for b := range byte(6) {
		if c, ok := fromV3Connack(b); !ok || c.V3Connack() != b {
			t.Errorf("%d becomes %v becomes %d", b, c, c.V3Connack())
		}
	}
}
