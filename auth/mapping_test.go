package auth

import (
	"crypto/x509"
	"encoding/asn1"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// part is an attribute of a subject as it is encoded.
type part struct {
	oid   asn1.ObjectIdentifier
	tag   int
	value string
}

var (
	cnOID  = asn1.ObjectIdentifier{2, 5, 4, 3}
	oOID   = asn1.ObjectIdentifier{2, 5, 4, 10}
	ouOID  = asn1.ObjectIdentifier{2, 5, 4, 11}
	titled = asn1.ObjectIdentifier{2, 5, 4, 12}
)

const bmpString = 30

// named makes a certificate whose subject has these parts, first to last; a list is one part with several attributes.
func named(t interface{ Fatal(...any) }, parts ...[]part) *x509.Certificate {
	var all []pairSET
	for _, p := range parts {
		var set pairSET
		for _, a := range p {
			set = append(set, pair{a.oid, asn1.RawValue{Tag: a.tag, Bytes: []byte(a.value)}})
		}
		all = append(all, set)
	}
	raw, err := asn1.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{RawSubject: raw}
}

func utf(oid asn1.ObjectIdentifier, value string) []part {
	return []part{{oid, asn1.TagUTF8String, value}}
}

// Names in certificates, and all that could be read in two ways.
func TestMapping(t *testing.T) {
	san := func(dns []string, uris ...string) *x509.Certificate {
		c := named(t, utf(cnOID, "cn-1"))
		c.DNSNames = dns
		for _, s := range uris {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
		return c
	}
	plain := named(t, utf(oOID, "Plant"), utf(ouOID, "sensors"), utf(cnOID, "pump-17"))
	for _, test := range []struct {
		name, mapping string
		cert          *x509.Certificate
		want, refused string
	}{
		{"common name", "cn", plain, "pump-17", ""},
		{"subject, the last part first", "subject", plain, "CN=pump-17,OU=sensors,O=Plant", ""},
		{"the same parts in another order are another subject", "subject", named(t, utf(cnOID, "pump-17"), utf(ouOID, "sensors"), utf(oOID, "Plant")), "O=Plant,OU=sensors,CN=pump-17", ""},
		{"a comma is no end of a part", "subject", named(t, utf(oOID, "Plant"), utf(cnOID, "a,OU=sensors")), `CN=a\,OU=sensors,O=Plant`, ""},
		{"spaces at the ends", "subject", named(t, utf(cnOID, " a ")), `CN=\ a\ `, ""},
		{"template", "${ou}.${cn}@plant", plain, "sensors.pump-17@plant", ""},
		{"template of one", "north-${cn}", plain, "north-pump-17", ""},
		{"uri", "uri", san(nil, "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66"), "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66", ""},
		{"dns in small letters", "dns", san([]string{"Pump-17.Example.ORG"}), "pump-17.example.org", ""},
		{"ours", "", san(nil, "urn:mqtts:default:device:pump-17"), "pump-17", ""},
		{"common name without ours", "", san(nil, "urn:uuid:1"), "cn-1", ""},

		{"two of ours", "", san(nil, "urn:mqtts:default:device:a", "urn:mqtts:default:device:b"), "", "more than one URI"},
		{"no common name", "cn", named(t, utf(oOID, "Plant")), "", "0 attributes CN"},
		{"an empty common name", "cn", named(t, utf(cnOID, "")), "", "empty"},
		{"two common names", "cn", named(t, utf(cnOID, "operator"), utf(cnOID, "guest")), "", "2 attributes CN"},
		{"two common names in one part", "", named(t, []part{{cnOID, asn1.TagUTF8String, "a"}, {cnOID, asn1.TagUTF8String, "b"}}), "", "usable"},
		{"NUL in a name", "cn", named(t, utf(cnOID, "operator\x00.example.org")), "", "cannot be seen"},
		{"line break", "cn", named(t, utf(cnOID, "a\nb")), "", "cannot be seen"},
		{"text that runs backwards", "cn", named(t, utf(cnOID, "a\u202eb")), "", "cannot be seen"},
		{"byte order mark", "cn", named(t, utf(cnOID, "\ufeffa")), "", "cannot be seen"},
		{"UTF-16", "cn", named(t, []part{{cnOID, bmpString, "\x00a\x00b"}}), "", "neither UTF-8 nor ASCII"},
		{"Latin-1 as T.61", "cn", named(t, []part{{cnOID, 20, "caf\xe9"}}), "", "neither UTF-8 nor ASCII"},
		{"broken UTF-8", "cn", named(t, []part{{cnOID, asn1.TagUTF8String, "a\xffb"}}), "", "neither UTF-8 nor ASCII"},
		{"eight bits in a PrintableString", "cn", named(t, []part{{cnOID, asn1.TagPrintableString, "a\xe9"}}), "", "neither UTF-8 nor ASCII"},
		{"NULL for a string", "cn", named(t, []part{{cnOID, asn1.TagNull, ""}}), "", "neither UTF-8 nor ASCII"},
		{"wildcard", "cn", named(t, utf(cnOID, "#")), "", "topics"},
		{"level", "subject", named(t, utf(cnOID, "a/b")), "", "topics"},
		{"several attributes in a part", "subject", named(t, []part{{cnOID, asn1.TagUTF8String, "a"}, {ouOID, asn1.TagUTF8String, "b"}}), "", "more than one attribute"},
		{"an attribute without a short name", "subject", named(t, utf(titled, "Dr")), "", "short name"},
		{"two DNS names", "dns", san([]string{"a.example.org", "b.example.org"}), "", "2 DNS names"},
		{"no DNS name, and no common name instead", "dns", plain, "", "0 DNS names"},
		{"two URIs", "uri", san(nil, "urn:uuid:1", "urn:uuid:2"), "", "2 URIs"},
		{"a field with what ends it", "${ou}.${cn}", named(t, utf(ouOID, "a.b"), utf(cnOID, "c")), "", "ends it"},
		{"a field whose end begins what ends it", "${ou}--${cn}", named(t, utf(ouOID, "a-"), utf(cnOID, "b")), "", "ends it"},
		{"too long", "cn", named(t, utf(cnOID, strings.Repeat("a", 257))), "", "256 bytes"},
		{"bytes after the subject", "cn", &x509.Certificate{RawSubject: append(plain.RawSubject[:len(plain.RawSubject):len(plain.RawSubject)], 0)}, "", "cannot be read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := ParseMapping(test.mapping)
			if err != nil {
				t.Fatal(err)
			}
			_, name, err := m.Name(test.cert)
			if name != test.want || (err == nil) != (test.refused == "") || err != nil && !strings.Contains(err.Error(), test.refused) {
				t.Errorf("%q, %v; want %q, %q", name, err, test.want, test.refused)
			}
		})
	}
}

func TestParseMapping(t *testing.T) {
	for s, want := range map[string]string{
		"common_name": "none of", "${CN}": "no field", "${cn": "no field", "${}": "no field", "${cn}${ou}": "between", "x": "none of",
		"a/${cn}": "no /", "${cn}#": "no /", "a\x00${cn}": "no /",
	} {
		if _, err := ParseMapping(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
	if m, err := ParseMapping(""); err != nil || !m.IsZero() {
		t.Errorf("%v, %v", m, err)
	}
}

// Two certificates that differ in what a mapping looks at never have one name.
func TestMappingKeepsApart(t *testing.T) {
	text := rapid.StringOfN(rapid.SampledFrom([]rune(`a-,=\ "`)), 0, 4, -1)
	rapid.Check(t, func(t *rapid.T) {
		m, err := ParseMapping(rapid.SampledFrom([]string{"subject", "${ou}-${cn}", "${ou}--${cn}", "${ou}-a-${cn}-"}).Draw(t, "mapping"))
		if err != nil {
			t.Fatal(err)
		}
		draw := func(name string) ([2]string, string, bool) {
			v := [2]string{text.Draw(t, name+" ou"), text.Draw(t, name+" cn")}
			_, n, err := m.Name(named(t, utf(ouOID, v[0]), utf(cnOID, v[1])))
			return v, n, err == nil
		}
		a, one, ok := draw("first")
		b, two, also := draw("second")
		if ok && also && a != b && one == two {
			t.Fatalf("%q and %q are both %q", a, b, one)
		}
	})
}

// No subject makes a mapping panic, and a name is always one that can stand in a topic and a line of a log.
func FuzzMapping(f *testing.F) {
	f.Add(named(f, utf(oOID, "Plant"), utf(cnOID, "pump-17")).RawSubject, "subject")
	f.Add(named(f, []part{{cnOID, bmpString, "\x00a"}}).RawSubject, "${cn}-${o}")
	f.Add([]byte{0x30, 0x80}, "cn")
	f.Fuzz(func(t *testing.T, raw []byte, mapping string) {
		m, err := ParseMapping(mapping)
		if err != nil {
			return
		}
		_, name, err := m.Name(&x509.Certificate{RawSubject: raw})
		if err == nil && (name == "" || len(name) > longestName || strings.ContainsAny(name, "/+#\x00\n\r")) {
			t.Fatalf("%q", name)
		}
	})
}
