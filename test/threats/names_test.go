package threats

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/sealmq/sealmq/mqtt"
)

// tricky are names that mean something else where patterns are made of them.
var tricky = []string{"+", "#", "+/+", "a/#", "a/b", "$SYS", "$share", "x\n", "\ufeff", "..", "%u", "${device}"}

// Mosquitto's patterns were as wide as the wildcards in the names of its clients.
func TestCVE_2017_7650(t *testing.T) {
	t.Parallel()
	for key, text := range map[string]string{
		"policy": "policy everybody { allow publish, subscribe dt/${device}/#\n allow publish, subscribe c/${client_id}/# }\n" +
			"group feeder { device = feeder }\npolicy feeder { allow publish dt/#\n allow publish c/# }\n",
		"acl_file": "user feeder\ntopic write dt/#\ntopic write c/#\npattern readwrite dt/%u/#\npattern readwrite c/%c/#\n",
	} {
		h := newHome(t, key+" = \"rules\"\n"+jsonLog+mutualTLS+plain)
		h.write(t, "rules", text)
		b := h.start(t)
		var watchers []*client
		try := func(listener string, who identity, name string) {
			c := b.dial(t, listener, who)
			c.send(hello(name).Append(nil, c.v))
			var ack mqtt.Connack
			if h, body, err := c.read(); err != nil || ack.Parse(c.v, h.Flags, body) != nil || ack.Code != mqtt.Success {
				return // not let in at all
			}
			for _, filter := range []string{"dt/+/#", "c/+/#", "dt/x/y", "c/x/y"} {
				if code := c.subscribe(filter, 1); !code.IsError() && key == "policy" {
					t.Errorf("%s: %q may subscribe to %s", key, name, filter)
				}
			}
			for _, topic := range []string{"dt/x/y", "c/x/y", "dt/a/b", "c/a/b/c"} {
				want(t, fmt.Sprintf("%s: %q publishes to %s", key, name, topic), c.publish(topic, 1, false, "x"), denied)
			}
			watchers = append(watchers, c)
		}
		for _, name := range tricky {
			try("plain", nil, name)
			try("tls", b.operator(t, "alice"), name)
			if name[0] < 0x80 { // what an URI can say
				try("tls", b.device(t, name), name)
			}
			try("tls", b.device(t, name, func(c *x509.Certificate) { c.URIs = nil }), name)
		}
		if len(watchers) == 0 {
			t.Errorf("%s: nobody was let in, and nothing is shown", key)
		}
		feeder := b.connect(t, "tls", b.device(t, "feeder"), hello("feeder"))
		for _, topic := range []string{"dt/x/y", "c/x/y", "dt/a/b", "c/a/b/c"} {
			if code := feeder.publish(topic, 1, false, "secret"); code.IsError() {
				t.Errorf("%s: the feeder's own publication to %s: %v", key, topic, code)
			}
		}
		for _, w := range watchers {
			w.alive()
			for _, m := range w.later {
				t.Errorf("%s: %s receives %s", key, w, m.Topic)
			}
		}
	}
}

// rdn is a relative distinguished name of the common name, or another attribute.
func rdn(pairs ...pkix.AttributeTypeAndValue) pkix.RelativeDistinguishedNameSET { return pairs }

func attr(last int, value any) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, last}, Value: value}
}

// The names in a certificate can be written in many ways. None of them makes its
// holder pump-1: not the order of the names, nor one that is there twice, nor
// another's form.
func TestCVE_2026_33248(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+mutualTLS)
	const cn, ou, o = 3, 11, 10
	bmp := func(s string) asn1.RawValue {
		var out []byte
		for _, u := range utf16.Encode([]rune(s)) {
			out = append(out, byte(u>>8), byte(u))
		}
		return asn1.RawValue{Tag: asn1.TagBMPString, Bytes: out}
	}
	text := func(s string) asn1.RawValue { return asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(s)} }
	for name, subject := range map[string]pkix.RDNSequence{
		"none":                         {},
		"no common name":               {rdn(attr(ou, "pump-1")), rdn(attr(o, "pump-1"))},
		"common name first":            {rdn(attr(cn, "pump-1")), rdn(attr(cn, "pump-2"))},
		"common name last":             {rdn(attr(cn, "pump-2")), rdn(attr(cn, "pump-1"))},
		"twice in one part":            {rdn(attr(cn, "pump-1"), attr(cn, "pump-2"))},
		"twice the same":               {rdn(attr(cn, "pump-1")), rdn(attr(cn, "pump-1"))},
		"zero byte":                    {rdn(attr(cn, text("pump-1\x00.example")))},
		"zero byte in front":           {rdn(attr(cn, text("\x00pump-1")))},
		"ends with a line":             {rdn(attr(cn, text("pump-1\n")))},
		"what cannot be seen":          {rdn(attr(cn, text("pump-1\u200b")))},
		"byte order mark":              {rdn(attr(cn, text("\ufeffpump-1")))},
		"right to left":                {rdn(attr(cn, text("\u202e1-pmup")))},
		"no UTF-8":                     {rdn(attr(cn, text("pump-1\xff")))},
		"two bytes a letter, and more": {rdn(attr(cn, bmp("pump-1\x00x")))},
		"a separator":                  {rdn(attr(cn, "pump-1/x"))},
		"a comma":                      {rdn(attr(cn, "x,CN=pump-1"))},
		"an escaped comma":             {rdn(attr(ou, "x\\,CN=pump-1")), rdn(attr(cn, "pump-3"))},
		"a slash as in OpenSSL's form": {rdn(attr(o, "x/CN=pump-1")), rdn(attr(cn, "pump-3"))},
		"capital letters":              {rdn(attr(cn, "PUMP-1"))},
		"blanks":                       {rdn(attr(cn, " pump-1 "))},
	} {
		raw, err := asn1.Marshal(subject)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		who := b.device(t, "x", func(c *x509.Certificate) { c.RawSubject, c.URIs = raw, nil })
		b.barred(t, name, who, "pump-1")
	}
	urn := func(id string) *url.URL { return &url.URL{Scheme: "urn", Opaque: "mqtts:default:device:" + id} }
	for name, edit := range map[string]func(*x509.Certificate){
		"two URIs":             func(c *x509.Certificate) { c.URIs = []*url.URL{urn("pump-1"), urn("pump-2")} },
		"two URIs, turned":     func(c *x509.Certificate) { c.URIs = []*url.URL{urn("pump-2"), urn("pump-1")} },
		"common name against":  func(c *x509.Certificate) { c.URIs, c.Subject.CommonName = []*url.URL{urn("pump-2")}, "pump-1" },
		"an URI with a path":   func(c *x509.Certificate) { c.URIs = []*url.URL{urn("pump-1/x")} },
		"an URI with a number": func(c *x509.Certificate) { c.URIs = []*url.URL{urn("pump-1%00")} },
		"a DNS name": func(c *x509.Certificate) {
			c.URIs, c.DNSNames, c.Subject.CommonName = nil, []string{"pump-1"}, "pump-2"
		},
		"a thousand names": func(c *x509.Certificate) {
			c.URIs = []*url.URL{urn("pump-2")}
			for i := range 1000 {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("pump-1.x%d", i))
			}
		},
		"what must be understood": func(c *x509.Certificate) {
			c.URIs = []*url.URL{urn("pump-1")}
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		},
	} {
		b.barred(t, name, b.device(t, "x", edit), "pump-1")
	}
	b.connect(t, "tls", b.device(t, "pump-1"), hello("pump-1")).alive()
}

// barred fails if the holder of a certificate gets in under a name.
func (b *broker) barred(t *testing.T, what string, who identity, as string) {
	t.Helper()
	c := b.dial(t, "tls", who)
	c.send(hello(as).Append(nil, mqtt.V5))
	if h, body, err := c.read(); err == nil && h.Type == mqtt.CONNACK {
		var ack mqtt.Connack
		if ack.Parse(c.v, h.Flags, body); ack.Code == mqtt.Success {
			t.Errorf("%s: gets in as %s", what, as)
		}
	}
	c.Close()
}

// A device is what its certificate says, whatever it calls itself.
func TestBorrowedNames(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+mutualTLS)
	one, two := b.device(t, "pump-1"), b.device(t, "pump-2")
	first := b.connect(t, "tls", one, hello("pump-1"))
	for _, id := range []string{"pump-1", "pump-1/x", "pump-2x", "pump-2.", "PUMP-2", "pump-2\n", "pump-1/../pump-2", "+", "#"} {
		if code := b.refused(t, "tls", two, hello(id)); code != mqtt.ClientIDNotValid && code != denied {
			t.Errorf("pump-2 as %q: %v", id, code)
		}
	}
	first.alive()
	p := hello("pump-2")
	p.HasUsername, p.Username = true, []byte("pump-1")
	c := b.connect(t, "tls", two, p)
	want(t, "with another's user name", c.publish("pump-1/x", 1, false, "x"), denied)
	for _, id := range []string{"", strings.Repeat("x", 65_535)} {
		p := hello(id)
		c := b.dial(t, "tls", two)
		if ack := c.open(p); ack.Code == mqtt.Success && !strings.HasPrefix(string(ack.Props.AssignedClientID), "pump-2") {
			t.Errorf("an identifier of %d bytes becomes %q", len(id), ack.Props.AssignedClientID)
		}
	}
}
