package pki

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTokenURI(t *testing.T) {
	for _, test := range []struct {
		in   string
		want tokenURI
		fail string
	}{
		{"pkcs11:token=my%20ca;object=device;type=private?module-path=/usr/lib/softhsm/libsofthsm2.so",
			tokenURI{token: "my ca", object: "device", module: "/usr/lib/softhsm/libsofthsm2.so"}, ""},
		{"pkcs11:serial=12;id=%00%01?module-path=/m.so&pin-source=file:/etc/pin",
			tokenURI{serial: "12", id: "\x00\x01", module: "/m.so", pinSource: "/etc/pin"}, ""},
		{"pkcs11:token=a;object=b?module-path=/m&pin-value=1234", tokenURI{}, "a PIN inside"},
		{"pkcs11:token=a;serial=b;object=c?module-path=/m", tokenURI{}, "one of token and serial"},
		{"pkcs11:object=c?module-path=/m", tokenURI{}, "one of token and serial"},
		{"pkcs11:token=a?module-path=/m", tokenURI{}, "object or id"},
		{"pkcs11:token=a;object=b", tokenURI{}, "module-path"},
		{"pkcs11:token=a;object=b?module-path=m.so", tokenURI{}, "module-path"},
		{"pkcs11:token=a;object=b?module-path=/m&pin-source=pin", tokenURI{}, "pin-source"},
		{"pkcs11:token=a;token=b?module-path=/m", tokenURI{}, "comes twice"},
		{"pkcs11:token=a;object=b;slot-id=1?module-path=/m", tokenURI{}, "unknown attribute"},
		{"pkcs11:token=a;object=b;type=public?module-path=/m", tokenURI{}, "type must be private"},
		{"pkcs11:token=%zz;object=b?module-path=/m", tokenURI{}, "value of"},
		{"pkcs11:token=a%00;object=b?module-path=/m", tokenURI{}, "value of"},
		{"pkcs11:token;object=b", tokenURI{}, "has no value"},
		{"exec:x", tokenURI{}, "does not begin"},
	} {
		got, err := parseTokenURI(test.in)
		wantError(t, err, test.fail)
		if err != nil {
			continue
		}
		test.want.raw = test.in
		if diff := cmp.Diff(&test.want, got, cmp.AllowUnexported(tokenURI{})); diff != "" {
			t.Errorf("%s: %s", test.in, diff)
		}
	}
}

func FuzzTokenURI(f *testing.F) {
	f.Add("pkcs11:token=my%20ca;object=device;type=private?module-path=/m.so&pin-source=/p")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseTokenURI(s)
		if (err == nil) != (u != nil) {
			t.Fatal(u, err)
		}
		if err == nil && (u.raw != s || !strings.HasPrefix(u.module, "/") || u.object+u.id == "") {
			t.Fatalf("%+v", u)
		}
	})
}
