package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestParseKey(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := block("PRIVATE KEY", pkcs8(t, ec))
	for _, test := range []struct {
		name string
		pem  []byte
		want string
	}{
		{"PKCS#8", good, ""},
		{"SEC 1 behind its parameters", append(block("EC PARAMETERS", []byte{6, 5, 43, 129, 4, 0, 34}), block("EC PRIVATE KEY", sec1)...), ""},
		{"PKCS#1", block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), ""},
		{"Ed25519", block("PRIVATE KEY", pkcs8(t, ed)), ""},
		{"two keys", append(good, good...), "more than one"},
		{"empty", nil, "no PRIVATE KEY block"},
		{"certificate", block("CERTIFICATE", []byte{1}), "no PRIVATE KEY block"},
		{"encrypted", block("ENCRYPTED PRIVATE KEY", []byte{1}), "passphrase"},
		{"garbage", block("PRIVATE KEY", []byte{1, 2, 3}), "parse private key"},
		{"unknown kind", block("DSA PRIVATE KEY", []byte{1, 2, 3}), "unsupported"},
		{"long", make([]byte, maxFile+1), "longer"},
	} {
		_, err := ParseKey(test.pem)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestParseCertificates(t *testing.T) {
	a := newAuthority(t, Config{})
	root := a.RootPEM()
	for _, test := range []struct {
		name string
		pem  string
		n    int
		want string
	}{
		{"one", string(root), 1, ""},
		{"two with text between", "subject=x\n" + string(root) + "\nissuer=y\n" + string(root), 2, ""},
		{"cut off", string(root) + string(root[:len(root)-40]), 0, "damaged"},
		{"empty", "", 0, "no CERTIFICATE block"},
		{"key", string(block("PRIVATE KEY", []byte{1})), 0, "found a block"},
		{"garbage", string(block("CERTIFICATE", []byte{48, 3, 2, 1, 1})), 0, "parse certificate 1"},
		{"too many", strings.Repeat(string(root), maxCertificates+1), 0, "more than"},
	} {
		certs, err := ParseCertificates([]byte(test.pem))
		if len(certs) != test.n && err == nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) || test.want == "" && err != nil {
			t.Errorf("%s: %d certificates, %v, want %d %q", test.name, len(certs), err, test.n, test.want)
		}
	}
}

func TestLoadServer(t *testing.T) {
	a := newAuthority(t, at(testTime))
	broker, err := a.IssueBroker([]string{"broker.lan"})
	if err != nil {
		t.Fatal(err)
	}
	device, err := a.IssueClient(Device, "pump-17", "")
	if err != nil {
		t.Fatal(err)
	}
	reversed := append(encodeCertificates(a.broker.cert), encodeCertificates(broker.Leaf)...)
	brokerCAKey, err := encodeKey(a.broker.key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name      string
		cert, key []byte
		now       time.Time
		want      string
	}{
		{"good", broker.Cert, broker.Key, testTime, ""},
		{"leaf alone", encodeCertificates(broker.Leaf), broker.Key, testTime, ""},
		{"expired", broker.Cert, broker.Key, testTime.Add(91 * day), "expired on"},
		{"future", broker.Cert, broker.Key, testTime.Add(-2 * day), "not valid before"},
		{"other key", broker.Cert, device.Key, testTime, "does not belong"},
		{"for clients", device.Cert, device.Key, testTime, "no host name"},
		{"issuer first", reversed, brokerCAKey, testTime, "no host name"},
		{"wrong issuer", append(encodeCertificates(broker.Leaf), encodeCertificates(a.device.cert)...), broker.Key, testTime, "did not issue"},
		{"not a CA", append(encodeCertificates(broker.Leaf), encodeCertificates(device.Leaf)...), broker.Key, testTime, "not a CA"},
	} {
		dir := t.TempDir()
		c, k := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
		if err := os.WriteFile(c, test.cert, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(k, test.key, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadServer(c, k, test.now)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func FuzzParseCertificates(f *testing.F) {
	a, err := Create(filepath.Join(f.TempDir(), "ca"), Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.RootPEM())
	f.Add(append(a.RootPEM(), encodeCertificates(a.device.cert)...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN X-----\nA: b\n\nAAAA\n-----END X-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := ParseCertificates(b)
		if (err == nil) != (len(certs) > 0) {
			t.Fatalf("%d certificates, %v", len(certs), err)
		}
		if err != nil {
			return
		}
		again, err := ParseCertificates(encodeCertificates(certs...))
		if err != nil || len(again) != len(certs) {
			t.Fatalf("not stable: %v", err)
		}
		checkServer(certs, testTime)
	})
}

func FuzzParseKey(f *testing.F) {
	key, err := newKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(block("PRIVATE KEY", pkcs8(f, key)))
	f.Add(block("EC PRIVATE KEY", []byte{48, 1, 0}))
	f.Add(block("RSA PRIVATE KEY", []byte{48, 1, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := ParseKey(b)
		if (err == nil) != (key != nil) {
			t.Fatalf("%v, %v", key, err)
		}
	})
}

func FuzzHosts(f *testing.F) {
	f.Add("localhost 127.0.0.1 ::1 *.example.org a_b [fd00::1]")
	f.Fuzz(func(t *testing.T, s string) {
		hosts, err := cleanHosts(strings.Fields(s))
		if err != nil {
			return
		}
		again, err := cleanHosts(hosts)
		if err != nil || strings.Join(again, " ") != strings.Join(hosts, " ") {
			t.Fatalf("%q became %q: %v", hosts, again, err)
		}
	})
}
