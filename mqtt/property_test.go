package mqtt

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// propertyTable is table 2-4 of MQTT 5: identifier, a value, the places.
const propertyTable = `
01 01         PUBLISH Will
02 00000001   PUBLISH Will
03 000161     PUBLISH Will
08 000161     PUBLISH Will
09 000161     PUBLISH Will
0b 01         PUBLISH SUBSCRIBE
11 00000001   CONNECT CONNACK DISCONNECT
12 000161     CONNACK
13 0001       CONNACK
15 000161     CONNECT CONNACK AUTH
16 000161     CONNECT CONNACK AUTH
17 01         CONNECT
18 00000001   Will
19 01         CONNECT
1a 000161     CONNACK
1c 000161     CONNACK DISCONNECT
1f 000161     CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH
21 0001       CONNECT CONNACK
22 0001       CONNECT CONNACK
23 0001       PUBLISH
24 01         CONNACK
25 01         CONNACK
26 0001610000 CONNECT CONNACK PUBLISH Will PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK DISCONNECT AUTH
27 00000001   CONNECT CONNACK
28 01         CONNACK
29 01         CONNACK
2a 01         CONNACK`

// Every property where it belongs and nowhere else; twice only where the standard says so; each cut is an error.
// clauses: MQTT5 [MQTT-2.2.2-1] [MQTT-3.3.4-6]
func TestPropertiesOfPackets(t *testing.T) {
	known := map[byte]bool{}
	for line := range strings.Lines(strings.TrimSpace(propertyTable)) {
		f := strings.Fields(line)
		raw := unhex(t, f[0]+f[1])
		id := Property(raw[0])
		known[raw[0]] = true
		for c := range PropertyContext(16) {
			name := Type(c).String()
			if c == InWill {
				name = "Will"
			}
			var p Properties
			b := append([]byte{byte(len(raw))}, raw...)
			n, err := p.Parse(append(b, "rest"...), c)
			if !slices.Contains(f[2:], name) {
				checkRefused(t, err, MalformedPacket, id.String()+" is not allowed in "+name)
				continue
			}
			if id == PropAuthData {
				b = append([]byte{byte(len(raw) + 4), byte(PropAuthMethod), 0, 1, 'm'}, raw...)
				n, err = p.Parse(b, c)
			}
			if err != nil || n != len(b) || !p.Has(id) || p.Size() != n || string(p.Append(nil)) != string(b) {
				t.Errorf("%v in %v: %d, %v, appended %x", id, name, n, err, p.Append(nil))
			}
			for i := 1; i < len(b); i++ {
				if _, err := p.Parse(append([]byte{byte(i - 1)}, b[1:i]...), c); (err == nil) != (i == 1 || id == PropAuthData && i == 5) {
					t.Errorf("%v cut to %d bytes: %v", id, i-1, err)
				}
				if _, err := p.Parse(b[:i], c); err == nil {
					t.Errorf("%v: packet cut to %d bytes accepted", id, i)
				}
			}
			twice := append(append([]byte{byte(len(b) - 1 + len(raw))}, b[1:]...), raw...)
			_, err = p.Parse(twice, c)
			if id == PropUser || id == PropSubscriptionIDs && name == "PUBLISH" {
				if err != nil {
					t.Errorf("%v twice in %v: %v", id, name, err)
				}
			} else {
				checkRefused(t, err, ProtocolError, id.String()+" occurs more than once")
			}
			if !p.Empty() && err != nil {
				t.Errorf("%v: properties left after an error", id)
			}
		}
	}
	for i := range 256 {
		id := Property(i)
		var p Properties
		if _, err := p.Parse([]byte{2, byte(i), 0}, PropertyContext(CONNACK)); !known[byte(i)] {
			checkRefused(t, err, MalformedPacket, "unknown property")
		}
		if named := id.String() != "unknown property"; named != known[byte(i)] {
			t.Errorf("%02x is named %v", i, id)
		}
		if p.Set(id); p.Has(id) != (known[byte(i)] && forms[id] != formList) {
			t.Errorf("Set(%v): %v", id, p.Has(id))
		}
	}
}

// A Has after Set, Unset and Reset says what Append writes.
func TestPropertiesSet(t *testing.T) {
	p := Properties{MessageExpiry: 1, User: []UserProperty{{[]byte("k"), nil}}, SubscriptionIDs: []uint32{1}}
	if p.Has(PropMessageExpiry) || !p.Has(PropUser) || !p.Has(PropSubscriptionIDs) || p.Empty() {
		t.Error("the lists alone are present without Set")
	}
	if got := fmt.Sprintf("%x", p.Append(nil)); got != "080b01260001"+"6b0000" {
		t.Error(got)
	}
	p.Set(PropMessageExpiry, PropTopicAlias)
	if got := fmt.Sprintf("%x", p.Append(nil)); got != "1002000000012300000b01260001"+"6b0000" {
		t.Error(got)
	}
	for _, id := range []Property{PropUser, PropSubscriptionIDs, PropTopicAlias, PropMessageExpiry} {
		if p.Unset(id); p.Has(id) {
			t.Error(id)
		}
	}
	if !p.Empty() || p.Size() != 1 || string(p.Append(nil)) != "\x00" {
		t.Errorf("%x", p.Append(nil))
	}
	p = Properties{MessageExpiry: 9, User: make([]UserProperty, 3, maxKept), SubscriptionIDs: make([]uint32, 3, maxKept+1)}
	p.Set(PropMessageExpiry)
	p.Reset()
	if !p.Empty() || p.MessageExpiry != 0 || cap(p.User) != maxKept || p.SubscriptionIDs != nil {
		t.Errorf("%+v", p)
	}
}

// One large packet does not make a struct large for ever.
func TestKeep(t *testing.T) {
	if s := keep(make([]uint32, 5, maxKept)); len(s) != 0 || cap(s) != maxKept {
		t.Error(len(s), cap(s))
	}
	if s := keep(make([]uint32, 5, maxKept+1)); s != nil {
		t.Error(cap(s))
	}
}

// Many user properties and identifiers stay in order.
func TestPropertiesOrder(t *testing.T) {
	var p, q Properties
	for i := range 3000 {
		p.User = append(p.User, UserProperty{fmt.Append(nil, i%7), fmt.Append(nil, i)})
		p.SubscriptionIDs = append(p.SubscriptionIDs, uint32(1+i*89_000))
	}
	b := p.Append(nil)
	if n, err := q.Parse(b, PropertyContext(PUBLISH)); n != len(b) || n != p.Size() || err != nil {
		t.Fatal(n, err)
	}
	if d := cmp.Diff(p, q, cmp.AllowUnexported(Properties{}), cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
}

func TestValidString(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "a": true, "plain text of more than eight": true, "\x00": false, "12345678\x00": false, "1234567\x001": false,
		"\x01\x1f\x7f\u0080\u009f": true, "\ufeffabc": true, "\ufffe\uffff": true, "é": true, "1234567é": true, "\xc3": false,
		"1234567\xc3": false, "\xc3\x28": false, "\xed\xa0\x80": false, "\xed\xbf\xbf": false, "\xed\x9f\xbf\xee\x80\x80": true,
		"\xc0\x80": false, "\xe0\x80\x80": false, "\xf0\x80\x80\x80": false, "\xf4\x8f\xbf\xbf": true, "\xf4\x90\x80\x80": false,
		"\xf8\x88\x80\x80\x80": false, "\x80": false, "\xff": false, "éééé\x00": false, "12345678é\x00": false,
	} {
		for _, pad := range []string{"", "x", "1234567", "12345678"} {
			if got := ValidString([]byte(pad + s + pad)); got != want {
				t.Errorf("%q: %v", pad+s+pad, got)
			}
		}
	}
}

func FuzzProperties(f *testing.F) {
	for line := range strings.Lines(strings.TrimSpace(propertyTable)) {
		w := strings.Fields(line)
		raw := unhex(f, w[0]+w[1])
		f.Add(append([]byte{byte(len(raw))}, raw...), byte(CONNACK))
	}
	f.Fuzz(func(t *testing.T, b []byte, c byte) {
		var p, q Properties
		n, err := p.Parse(b, PropertyContext(c&15))
		var e *Error
		if err != nil {
			if !errors.As(err, &e) {
				t.Fatalf("%T", err)
			}
			return
		}
		out := p.Append(nil)
		if len(out) != n || p.Size() != n {
			t.Fatalf("%x of %d bytes becomes %x", b[:n], n, out)
		}
		if _, err := q.Parse(out, PropertyContext(c&15)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, q, cmp.AllowUnexported(Properties{}), cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}
