package auth

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mapping says how a certificate names its holder. The zero value takes the SAN URI urn:mqtts:TENANT:KIND:ID, or without
// one the common name. What can be read in two ways is refused: a field that is there twice or not at all, strings of other
// encodings than UTF-8 and ASCII, and control characters.
type Mapping struct {
	parts []string // text, field, text, …; nil is the zero value
}

// fields are those that a Mapping can put into a name.
var fields = map[string]func(*x509.Certificate) (string, error){
	"uri":           sanURI,
	"dns":           sanDNS,
	"subject":       subject,
	"cn":            attribute(2, 5, 4, 3),
	"serial_number": attribute(2, 5, 4, 5),
	"o":             attribute(2, 5, 4, 10),
	"ou":            attribute(2, 5, 4, 11),
	"uid":           attribute(0, 9, 2342, 19200300, 100, 1, 1),
}

const fieldNames = "uri, dns, cn, subject, o, ou, uid, serial_number"

// ParseMapping reads a mapping: empty for the zero value, a field (uri, dns, cn, subject, o, ou, uid, serial_number), or a
// text with fields in ${}. Between two fields has to be a text, which the first of them must not contain.
func ParseMapping(s string) (Mapping, error) {
	if s == "" {
		return Mapping{}, nil
	}
	if fields[s] != nil {
		return Mapping{[]string{"", s, ""}}, nil
	}
	var m Mapping
	for rest := s; ; {
		text, after, found := strings.Cut(rest, "${")
		if strings.ContainsAny(text, "/+#") || strings.ContainsFunc(text, unprintable) {
			return Mapping{}, fmt.Errorf("%q: a name has no / + # or control characters", s)
		}
		if text == "" && found && len(m.parts) > 0 {
			return Mapping{}, fmt.Errorf("%q: between two fields has to be a text", s)
		}
		m.parts = append(m.parts, text)
		if !found {
			break
		}
		name, next, closed := strings.Cut(after, "}")
		if !closed || fields[name] == nil {
			return Mapping{}, fmt.Errorf("%q: %.40q is no field: %s", s, name, fieldNames)
		}
		m.parts, rest = append(m.parts, name), next
	}
	if len(m.parts) == 1 {
		return Mapping{}, fmt.Errorf("%q is none of %s, nor a text with one of them in ${}", s, fieldNames)
	}
	return m, nil
}

// IsZero reports whether m is the zero value.
func (m Mapping) IsZero() bool { return m.parts == nil }

// Name reads the holder's name, and the kind where the certificate says it. The error says what is wrong with the
// certificate, in words for the log and the peer.
func (m Mapping) Name(cert *x509.Certificate) (kind, name string, err error) {
	if m.parts != nil {
		name, err = m.expand(cert)
	} else {
		kind, name, err = own(cert)
	}
	if err == nil {
		err = usable(name)
	}
	if err != nil {
		return "", "", fmt.Errorf("the client certificate names no usable identity: %w", err)
	}
	return kind, name, nil
}

// own reads the name as our own CA writes it, or the common name.
func own(cert *x509.Certificate) (kind, name string, err error) {
	ours := 0
	for _, u := range cert.URIs {
		if u.Scheme == "urn" && strings.HasPrefix(u.Opaque, "mqtts:") && strings.Count(u.Opaque, ":") >= 3 {
			ours++
		}
	}
	switch ours {
	case 1:
		kind, name = Identity(cert)
		return kind, name, nil
	case 0:
		if name, err = fields["cn"](cert); err != nil {
			err = fmt.Errorf("no SAN URI urn:mqtts:…:device:ID, and %w", err)
		}
		return "", name, err
	}
	return "", "", errors.New("it has more than one URI urn:mqtts:…")
}

func (m Mapping) expand(cert *x509.Certificate) (string, error) {
	var b strings.Builder
	for i, part := range m.parts {
		if i%2 == 0 {
			b.WriteString(part)
			continue
		}
		value, err := fields[part](cert)
		if err != nil {
			return "", err
		}
		if value == "" {
			return "", fmt.Errorf("its %s is empty", part)
		}
		// Else the next field could begin in this one, and two holders have one name.
		if sep := m.parts[i+1]; i+2 < len(m.parts) && strings.Index(value+sep, sep) != len(value) {
			return "", fmt.Errorf("its %s has the text that ends it", part)
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

const longestName = 256 // bytes of a name in a certificate

// unprintable characters are those that logs, terminals and MQTT do not show, so that two names would look the same.
func unprintable(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError
}

func usable(name string) error {
	switch {
	case name == "":
		return errors.New("it is empty")
	case len(name) > longestName:
		return fmt.Errorf("it has more than %d bytes", longestName)
	case strings.ContainsAny(name, "/+#"):
		return errors.New("it has one of / + #, which mean something else in topics")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unprintable):
		return errors.New("it has characters that cannot be seen")
	}
	return nil
}

func sanURI(cert *x509.Certificate) (string, error) {
	if n := len(cert.URIs); n != 1 {
		return "", fmt.Errorf("it has %d URIs, and one is wanted", n)
	}
	return cert.URIs[0].String(), nil
}

// sanDNS is in small letters, since names of hosts are the same in both.
func sanDNS(cert *x509.Certificate) (string, error) {
	if n := len(cert.DNSNames); n != 1 {
		return "", fmt.Errorf("it has %d DNS names, and one is wanted", n)
	}
	return strings.ToLower(cert.DNSNames[0]), nil
}

// pair is an AttributeTypeAndValue of RFC 5280 with its value as it was encoded.
type pair struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

type pairSET []pair // the name makes it a SET for encoding/asn1

// rdns are the parts of a subject in their order, which x509 does not keep.
func rdns(cert *x509.Certificate) ([]pairSET, error) {
	var all []pairSET
	if rest, err := asn1.Unmarshal(cert.RawSubject, &all); err != nil || len(rest) > 0 {
		return nil, errors.New("its subject cannot be read")
	}
	return all, nil
}

func (p pair) text() (string, error) {
	b := p.Value.Bytes
	ascii := !slices.ContainsFunc(b, func(c byte) bool { return c >= utf8.RuneSelf })
	switch {
	case p.Value.Class != asn1.ClassUniversal || p.Value.IsCompound:
	case p.Value.Tag == asn1.TagUTF8String && utf8.Valid(b):
		return string(b), nil
	case ascii && (p.Value.Tag == asn1.TagPrintableString || p.Value.Tag == asn1.TagIA5String || p.Value.Tag == asn1.TagNumericString):
		return string(b), nil
	}
	return "", errors.New("its subject has a string that is neither UTF-8 nor ASCII")
}

// attribute reads the one attribute of this type in the subject.
func attribute(oid ...int) func(*x509.Certificate) (string, error) {
	return func(cert *x509.Certificate) (string, error) {
		all, err := rdns(cert)
		if err != nil {
			return "", err
		}
		var found []pair
		for _, rdn := range all {
			for _, p := range rdn {
				if p.Type.Equal(oid) {
					found = append(found, p)
				}
			}
		}
		if len(found) != 1 {
			return "", fmt.Errorf("its subject has %d attributes %s, and one is wanted", len(found), shortName(oid))
		}
		return found[0].text()
	}
}

// shortNames are those of RFC 4514 section 3, and two that every tool writes so.
var shortNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET",
	"2.5.4.10": "O", "2.5.4.11": "OU", "0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
	"1.2.840.113549.1.9.1": "emailAddress",
}

func shortName(oid asn1.ObjectIdentifier) string {
	if s := shortNames[oid.String()]; s != "" {
		return s
	}
	return oid.String()
}

// subject is the whole subject as RFC 4514 writes it, the last part first: CN=pump-17,OU=sensors,O=Plant.
func subject(cert *x509.Certificate) (string, error) {
	all, err := rdns(cert)
	if err != nil {
		return "", err
	}
	var parts []string
	for _, rdn := range slices.Backward(all) {
		if len(rdn) != 1 {
			return "", errors.New("its subject has a part with more than one attribute, whose order means nothing")
		}
		name := shortNames[rdn[0].Type.String()]
		if name == "" {
			return "", fmt.Errorf("its subject has an attribute %s without a short name", rdn[0].Type)
		}
		value, err := rdn[0].text()
		if err != nil {
			return "", err
		}
		parts = append(parts, name+"="+escape(value))
	}
	return strings.Join(parts, ","), nil
}

// escape writes a value as RFC 4514 section 2.4.
func escape(s string) string {
	var b strings.Builder
	for i, r := range s {
		if strings.ContainsRune(`"+,;<>\`, r) || i == 0 && (r == ' ' || r == '#') || r == ' ' && i == len(s)-1 {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
