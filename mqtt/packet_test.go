package mqtt

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// packet is what all packets have in common.
type packet interface {
	Parse(v Version, flags uint8, body []byte) error
	Append(dst []byte, v Version) []byte
	Size(v Version) int
}

func newPacket(t Type) packet {
	switch t {
	case CONNECT:
		return new(Connect)
	case CONNACK:
		return new(Connack)
	case PUBLISH:
		return new(Publish)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return &Ack{Type: t}
	case SUBSCRIBE:
		return new(Subscribe)
	case SUBACK:
		return new(Suback)
	case UNSUBSCRIBE:
		return new(Unsubscribe)
	case UNSUBACK:
		return new(Unsuback)
	case DISCONNECT:
		return new(Disconnect)
	case AUTH:
		return new(Auth)
	}
	return nil
}

var versions = []Version{V31, V311, V5}

// unhex reads hexadecimal with spaces; text in single quotes stands for itself.
func unhex(t testing.TB, s string) (b []byte) {
	t.Helper()
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			b = append(b, part...)
			continue
		}
		h, err := hex.DecodeString(strings.Join(strings.Fields(part), ""))
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		b = append(b, h...)
	}
	return b
}

// decode reads one whole packet.
func decode(b []byte, v Version) (packet, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return nil, err
	}
	if h.Size+h.Length != len(b) {
		return nil, ErrIncomplete
	}
	p := newPacket(h.Type)
	if p == nil {
		return nil, nil
	}
	return p, p.Parse(v, h.Flags, b[h.Size:])
}

// same compares packets by what they mean: a nil list is an empty one, the raw bytes repeat the properties.
func same(x, y packet) string {
	return cmp.Diff(x, y, cmpopts.EquateEmpty(), cmp.AllowUnexported(Properties{}),
		cmpopts.IgnoreFields(Publish{}, "RawProps"), cmpopts.IgnoreFields(Will{}, "RawProps"))
}

// golden is a packet and its bytes.
type golden struct {
	name  string
	v     Version
	bytes string
	want  packet
	whole []int // lengths at which the cut body is a shorter packet that is valid, too
}

func runGolden(t *testing.T, cases []golden) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := unhex(t, c.bytes)
			got, err := decode(b, c.v)
			if err != nil {
				t.Fatal(err)
			}
			if d := same(c.want, got); d != "" {
				t.Errorf("parsed (-want +got):\n%s", d)
			}
			if out := c.want.Append([]byte("x"), c.v); string(out) != "x"+string(b) {
				t.Errorf("appended\n%x, want\n%x", out[1:], b)
			}
			if n := c.want.Size(c.v); n != len(b) {
				t.Errorf("size %d, want %d", n, len(b))
			}
			h, _ := ParseHeader(b)
			for i := range h.Length {
				p := newPacket(h.Type)
				err := p.Parse(c.v, h.Flags, slices.Clone(b[h.Size:h.Size+i]))
				var e *Error
				if valid := slices.Contains(c.whole, i); err != nil == valid {
					t.Errorf("body cut to %d bytes: error %v, valid %v", i, err, valid)
				} else if err != nil && !errors.As(err, &e) {
					t.Errorf("body cut to %d bytes: error %T", i, err)
				}
			}
			if err := newPacket(h.Type).Parse(c.v, h.Flags^8, b[h.Size:]); err == nil && h.Type != PUBLISH && c.v != V31 {
				t.Error("reserved flag accepted")
			}
		})
	}
}

// refused is a packet that Parse or ParseHeader must not take, and why.
type refused struct {
	name  string
	v     Version
	bytes string // of the body; the fixed header is made
	code  ReasonCode
	text  string // part of the error
}

func runRefused(t *testing.T, typ Type, cases []refused) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			body := unhex(t, c.bytes)
			flags := uint8(0)
			if typ != PUBLISH {
				flags = fixedFlags[typ]
			} else {
				flags, body = body[0], body[1:]
			}
			checkRefused(t, newPacket(typ).Parse(c.v, flags, body), c.code, c.text)
		})
	}
}

func checkRefused(t *testing.T, err error, code ReasonCode, text string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want %v", err, code)
	}
	if e.Code != code || !strings.Contains(e.Text, text) {
		t.Errorf("error %q, want code %v and %q", err, code, text)
	}
	if !errors.Is(err, code) {
		t.Errorf("errors.Is does not find %v in %v", code, err)
	}
}

// samples are one rich packet of each type and version.
func samples() map[string]struct {
	v Version
	p packet
} {
	user := []UserProperty{{[]byte("k"), []byte("v")}, {[]byte("k"), nil}}
	with := func(p Properties, ids ...Property) Properties {
		p.User = user
		p.Set(ids...)
		return p
	}
	reason := with(Properties{ReasonString: []byte("because")}, PropReasonString)
	m := map[string]struct {
		v Version
		p packet
	}{}
	for _, v := range versions {
		put := func(name string, p packet) {
			m[name+" "+v.String()] = struct {
				v Version
				p packet
			}{v, p}
		}
		five := func(p Properties) Properties {
			if v == V5 {
				return p
			}
			return Properties{}
		}
		put("CONNECT", &Connect{Version: v, CleanStart: true, KeepAlive: 60, ClientID: []byte("a client"), HasWill: true,
			Will: Will{QoS: 1, Retain: true, Topic: []byte("will/topic"), Payload: []byte("gone"),
				Props: five(with(Properties{WillDelay: 5, ContentType: []byte("text")}, PropWillDelay, PropContentType))},
			HasUsername: true, HasPassword: true, Username: []byte("me"), Password: []byte{0, 1},
			Props: five(with(Properties{ReceiveMaximum: 9, SessionExpiry: 7}, PropReceiveMaximum, PropSessionExpiry))})
		put("CONNACK", &Connack{Code: NotAuthorized, Props: five(reason)})
		put("PUBLISH", &Publish{QoS: 1, PacketID: 7, Topic: []byte("a/topic/of/some/length"), Payload: []byte("payload"),
			Props: five(with(Properties{MessageExpiry: 3, SubscriptionIDs: []uint32{1, 300}}, PropMessageExpiry))})
		put("PUBLISH bare", &Publish{Topic: []byte("a/topic/of/some/length"), Payload: []byte("payload")})
		for t := PUBACK; t <= PUBCOMP; t++ {
			put(t.String(), &Ack{Type: t, PacketID: 9, Props: five(reason)})
		}
		put("SUBSCRIBE", &Subscribe{PacketID: 3, Filters: []Subscription{{Filter: []byte("a/+/b"), QoS: 2}, {Filter: []byte("#")}},
			Props: five(with(Properties{SubscriptionIDs: []uint32{5}}))})
		put("SUBACK", &Suback{PacketID: 3, Codes: []ReasonCode{0, 1, 2, UnspecifiedError}, Props: five(reason)})
		put("UNSUBSCRIBE", &Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte("a/+/b"), []byte("#")}, Props: five(with(Properties{}))})
		if v == V5 {
			put("UNSUBACK", &Unsuback{PacketID: 3, Codes: []ReasonCode{0, NoSubscriptionExisted}, Props: reason})
			put("DISCONNECT", &Disconnect{Code: ServerShuttingDown, Props: reason})
			put("AUTH", &Auth{Code: ContinueAuthentication, Props: with(Properties{AuthMethod: []byte("m"), AuthData: []byte("d")}, PropAuthMethod, PropAuthData)})
		} else {
			put("UNSUBACK", &Unsuback{PacketID: 3})
			put("DISCONNECT", &Disconnect{})
		}
	}
	return m
}

// A packet struct that has parsed before parses again without allocating, and nothing of the first packet stays.
func TestParseAllocatesNothing(t *testing.T) {
	for name, s := range samples() {
		b := s.p.Append(nil, s.v)
		h, err := ParseHeader(b)
		if err != nil {
			t.Fatal(name, err)
		}
		p := newPacket(h.Type)
		if n := testing.AllocsPerRun(20, func() {
			if h, err = ParseHeader(b); err == nil {
				err = p.Parse(s.v, h.Flags, b[h.Size:])
			}
		}); n != 0 || err != nil {
			t.Errorf("%s: parse: %v allocations, error %v", name, n, err)
		}
		if d := same(s.p, p); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		out := make([]byte, 0, len(b))
		if n := testing.AllocsPerRun(20, func() { out = p.Append(out[:0], s.v) }); n != 0 {
			t.Errorf("%s: append: %v allocations", name, n)
		}
		if string(out) != string(b) {
			t.Errorf("%s: appended\n%x, want\n%x", name, out, b)
		}
	}
}

// A reused struct shows nothing of an earlier packet, whether that was good or bad.
func TestParseResets(t *testing.T) {
	all := samples()
	for name, s := range all {
		b := s.p.Append(nil, s.v)
		h, _ := ParseHeader(b)
		used := newPacket(h.Type)
		for _, other := range all {
			o := other.p.Append(nil, other.v)
			oh, _ := ParseHeader(o)
			if oh.Type != h.Type {
				continue
			}
			if err := used.Parse(other.v, oh.Flags, o[oh.Size:]); err != nil {
				t.Fatal(err)
			}
			if oh.Length > 0 {
				used.Parse(other.v, oh.Flags, o[oh.Size:len(o)-1])
			}
			if err := used.Parse(s.v, h.Flags, b[h.Size:]); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if d := same(s.p, used); d != "" {
				t.Errorf("%s (-want +got):\n%s", name, d)
			}
		}
	}
}

// A packet that cannot be written is not written at all, and its size says so.
func TestTooLong(t *testing.T) {
	long := make([]byte, MaxString+1)
	text := Properties{ReasonString: long}
	text.Set(PropReasonString)
	user := Properties{User: slices.Repeat([]UserProperty{{long, long}}, 40)}
	id := Properties{SubscriptionIDs: []uint32{MaxRemaining + 1}}
	huge := make([]byte, MaxRemaining) // never touched, so it costs no memory
	for name, p := range map[string]packet{
		"client id":       &Connect{Version: V5, ClientID: long},
		"user name":       &Connect{Version: V5, HasUsername: true, Username: long},
		"password":        &Connect{Version: V5, HasPassword: true, Password: long},
		"will topic":      &Connect{Version: V5, HasWill: true, Will: Will{Topic: long}},
		"will payload":    &Connect{Version: V5, HasWill: true, Will: Will{Payload: long}},
		"reason string":   &Disconnect{Props: text},
		"user properties": &Ack{Type: PUBACK, Props: user},
		"topic":           &Publish{Topic: long},
		"payload":         &Publish{Topic: []byte("t"), Payload: huge},
		"subscription id": &Publish{Topic: []byte("t"), Props: id},
		"filter":          &Subscribe{Filters: []Subscription{{Filter: long}}},
		"unsubscribe":     &Unsubscribe{Filters: [][]byte{long}},
		"connack":         &Connack{Props: text},
		"suback":          &Suback{Props: text},
		"unsuback":        &Unsuback{Props: text},
		"auth":            &Auth{Props: text},
	} {
		if n := p.Size(V5); n <= MaxPacketSize {
			t.Errorf("%s: size %d", name, n)
		}
		if b := p.Append([]byte("x"), V5); string(b) != "x" {
			t.Errorf("%s: %d bytes appended", name, len(b)-1)
		}
	}
}
