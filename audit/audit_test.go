package audit

import (
	gocmp "cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// authority makes a CA certificate, of the time between two distances from now.
func authority(t testing.TB, name string, from, to time.Duration, under *x509.Certificate) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(0xca), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(from), NotAfter: now.Add(to), IsCA: true, BasicConstraintsValid: true,
	}
	parent := tmpl
	if under != nil {
		parent = &x509.Certificate{Subject: under.Subject} // nobody checks the signature
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

const year = 365 * day

// certificate is one of a year, issued some time ago.
func certificate(n int, ago time.Duration) registry.Certificate {
	from := now.Add(-ago - day)
	return registry.Certificate{
		Serial: fmt.Sprintf("%04x", n), Issuer: "issuer", SPKI: fmt.Sprintf("key%d", n),
		NotBefore: from, NotAfter: from.Add(day + year), State: registry.CertActive,
	}
}

func device(n int, ago time.Duration) registry.Device {
	return registry.Device{
		ID: fmt.Sprintf("pump-%d", n), State: registry.Active, Certificates: []registry.Certificate{certificate(n, ago)},
		Seen: registry.Seen{At: now.Add(-time.Hour), TLSVersion: "TLS 1.3", Group: "X25519MLKEM768", CipherSuite: "TLS_AES_128_GCM_SHA256", Serial: fmt.Sprintf("%04x", n)},
	}
}

// clean is a snapshot without a fault.
func clean(t testing.TB) Snapshot {
	root := authority(t, "root", -year, 19*year, nil)
	broker := authority(t, "broker", -year, 4*year, root)
	foreign := authority(t, "Factory CA", -year, year, nil)
	devices := []registry.Device{
		device(1, 0), device(2, 30*day), device(3, 200*day),
		{ID: "new", State: registry.Pending},
		{ID: "operator/alice", State: registry.Active, Certificates: []registry.Certificate{certificate(20, day)}},
		{ID: "claim/line-4", State: registry.Active, Certificates: []registry.Certificate{certificate(21, 360*day)}},
	}
	// Renewed in time, and the connection before was closed within a second.
	renewed := device(4, 100*day)
	old := certificate(40, 360*day)
	old.State, old.RevokedAt = registry.CertSuperseded, now.Add(-time.Hour-time.Second)
	renewed.Certificates = append(renewed.Certificates, old)
	renewed.Seen.Serial = old.Serial
	// Short lives: a week.
	short := device(5, 4*day)
	short.Certificates[0].NotAfter = short.Certificates[0].NotBefore.Add(8 * day)
	// The end of a certificate that nobody may use any more is nothing.
	gone := device(6, 364*day)
	gone.State = registry.Disabled
	revoked := device(7, 10*day)
	revoked.State, revoked.Certificates[0].State, revoked.Certificates[0].RevokedAt = registry.Revoked, registry.CertRevoked, now
	// The same key in another certificate of the same device.
	again := device(8, 10*day)
	again.Certificates = append(again.Certificates, certificate(8, 300*day))
	devices = append(devices, renewed, short, gone, revoked, again)
	return Snapshot{
		Now: now, Devices: slices.Values(devices),
		CAs: []CA{
			{Name: "root", Cert: root, Accepted: true}, {Name: "broker", Cert: broker, Accepted: true},
			{Name: "device", Cert: broker, Accepted: true}, {Name: "device", Cert: authority(t, "old", -5*year, -day, nil), Revoked: true},
		},
		ForeignCAs: []CA{{Name: "Factory CA", Cert: foreign, Accepted: true, Listener: "factory"}},
		CRLs:       []CRL{{CRLStatus: pki.CRLStatus{Issuer: "Factory CA", Next: now.Add(day)}, Listener: "factory", Deny: true}},
		Broker: &Broker{
			Takeovers:          []Takeover{{ClientID: "pump-1", Device: "pump-1", Times: 3}},
			Keys:               slices.Values([]Key{{Device: "pump-1", Kind: "ECDSA P-256"}}),
			Listeners:          []Listener{{Name: "mqtts", Address: ":8883", MinTLS: 0x0303}, {Name: "local", Address: "127.0.0.1:1883", Plain: true, Anonymous: true}, {Name: "local6", Address: "[::1]:1883", Plain: true}},
			ServerCertificates: []ServerCertificate{{Names: []string{"broker.lan"}, Source: "ca", NotBefore: now.Add(-50 * day), NotAfter: now.Add(40 * day)}},
			Log:                Log{Level: slog.LevelInfo},
		},
	}
}

func TestCleanFleet(t *testing.T) {
	r := Examine(clean(t))
	for _, f := range r.Findings {
		t.Errorf("%+v", f)
	}
	if r.Devices != 9 || r.Certificates != 9 {
		t.Errorf("%d devices, %d certificates", r.Devices, r.Certificates)
	}
	for _, c := range r.Checks {
		if c.Skipped != "" {
			t.Errorf("%s skipped: %q", c.Check, c.Skipped)
		}
	}
	// Without a broker nothing is judged that only it can tell.
	s := clean(t)
	s.Broker = nil
	skipped := 0
	for _, c := range Examine(s).Checks {
		if c.Skipped != "" {
			skipped++
		}
	}
	if skipped != 7 { // those of a policy among them
		t.Errorf("%d checks skipped", skipped)
	}
	if f := Judge(Snapshot{Now: now}); len(f) != 0 {
		t.Errorf("of nothing: %v", f)
	}
}

// finding is what a fault must lead to: who, how bad, and words of the text and the fix.
type finding struct {
	check    Check
	severity Severity
	about    string // device, CA, listener
	text     string
	fix      string
}

// faults are what can be wrong, one by one: each leads to its findings and to no other.
var faults = []struct {
	name string
	do   func(t testing.TB, s *Snapshot)
	want []finding
}{
	{"nothing", func(testing.TB, *Snapshot) {}, nil},
	{"root ends in six years", func(t testing.TB, s *Snapshot) { s.CAs[0].Cert = authority(t, "root", -14*year, 6*year, nil) },
		[]finding{{CAExpiring, Medium, "root", "ends on 2032-11-20", "sealmq ca announce"}}},
	{"and its successor is there", func(t testing.TB, s *Snapshot) {
		s.CAs[0].Cert = authority(t, "root", -14*year, 6*year, nil)
		s.CAs = append(s.CAs, CA{Name: "next root", Cert: authority(t, "next", -day, 20*year, nil), Accepted: true})
	}, []finding{{CAExpiring, Medium, "root", "ends on", "sealmq ca status"}}},
	{"issuing CA ends in a week", func(t testing.TB, s *Snapshot) {
		s.CAs[1].Cert = authority(t, "broker", -5*year, 7*day, s.CAs[0].Cert)
	}, []finding{{CAExpiring, High, "broker", "in 7 days", "sealmq ca renew"}}},
	{"foreign CA has ended", func(t testing.TB, s *Snapshot) { s.ForeignCAs[0].Cert = authority(t, "x", -year, -day, nil) },
		[]finding{{CAExpiring, Critical, "Factory CA", "ended on 2026-11-21, 1 day ago", "client_ca of listener factory"}}},
	{"foreign CA is revoked", func(t testing.TB, s *Snapshot) { s.ForeignCAs[0].Revoked = true },
		[]finding{{CARevoked, Critical, "Factory CA", "is revoked", "take it out of client_ca of listener factory"}}},
	{"own CA is retired and accepted", func(t testing.TB, s *Snapshot) { s.CAs[3].Accepted = true },
		[]finding{{CARevoked, Critical, "device", "is revoked", "sealmq ca retire"}}},
	{"weak CA", func(t testing.TB, s *Snapshot) { s.ForeignCAs[0].Cert = weak(*s.ForeignCAs[0].Cert) },
		[]finding{{CAKeyQuality, Critical, "Factory CA", "RSA 1024", "stronger key"}}},
	{"signed with SHA-1", func(t testing.TB, s *Snapshot) {
		c := *s.CAs[1].Cert
		c.SignatureAlgorithm = x509.ECDSAWithSHA1
		s.CAs[1].Cert = &c
	}, []finding{{CAKeyQuality, Critical, "broker", "ECDSA-SHA1", "sealmq ca announce"}}},
	{"device of a retired CA", func(t testing.TB, s *Snapshot) {
		d := device(30, 0)
		d.Certificates[0].Issuer = registry.KeyID(s.CAs[3].Cert)
		s.add(d)
	}, []finding{{DeviceCARevoked, Critical, "pump-30", "revoked or retired", "sealmq device renew pump-30"}}},
	{"not renewed", func(t testing.TB, s *Snapshot) { s.add(device(30, 336*day)) },
		[]finding{{DeviceExpiring, Medium, "pump-30", "ends on 2026-12-21, in 29 days", "sealmq device renew pump-30"}}},
	{"ended", func(t testing.TB, s *Snapshot) { s.add(device(30, 400*day)) },
		[]finding{{DeviceExpiring, High, "pump-30", "ended on 2026-10-18, 35 days ago", "sealmq device renew pump-30"}}},
	{"quarantined and ending", func(t testing.TB, s *Snapshot) {
		d := device(30, 364*day+3*time.Hour)
		d.State = registry.Quarantined
		s.add(d)
	}, []finding{{DeviceExpiring, Medium, "pump-30", "in 21 h", "renew"}}},
	{"operator ends", func(t testing.TB, s *Snapshot) {
		s.add(registry.Device{ID: "operator/bob", State: registry.Active, Certificates: []registry.Certificate{certificate(31, 360*day)}})
	}, []finding{{DeviceExpiring, Medium, "operator/bob", "in 5 days", "sealmq operator add bob"}}},
	{"old", func(t testing.TB, s *Snapshot) {
		d := device(30, 500*day)
		d.Certificates[0].NotAfter = now.Add(500 * day)
		s.add(d)
	}, []finding{{DeviceAge, Low, "pump-30", "501 days ago", "sealmq device renew pump-30"}}},
	{"one key, two devices", func(t testing.TB, s *Snapshot) {
		d := device(30, 0)
		d.Certificates[0].SPKI = "key1"
		s.add(d)
	}, []finding{{DeviceShared, Critical, "pump-30", "also that of pump-1", "sealmq device revoke --serial 001e --reason key-compromise"}}},
	{"one certificate, two places", func(t testing.TB, s *Snapshot) {
		s.Broker.SeenFrom = []SeenFrom{{Device: "pump-1", Serial: "0001", Addresses: []string{"192.0.2.7", "198.51.100.9"}}}
	}, []finding{{DeviceShared, Critical, "pump-1", "from 2 addresses at a time: 192.0.2.7, 198.51.100.9", "--serial 0001"}}},
	{"weak key", func(t testing.TB, s *Snapshot) {
		c := weak(*s.CAs[0].Cert)
		s.Broker.Keys = slices.Values([]Key{KeyOf("pump-2", s.CAs[0].Cert), KeyOf("pump-9", c)})
	}, []finding{{DeviceKeyQuality, Critical, "pump-9", "RSA 1024", "sealmq device renew pump-9"}}},
	{"revoked, connected", func(t testing.TB, s *Snapshot) {
		d := device(30, 10*day)
		d.Certificates[0].State, d.Certificates[0].RevokedAt = registry.CertRevoked, now.Add(-2*time.Hour)
		s.add(d)
	}, []finding{{DeviceRevoked, Critical, "pump-30", "connected on 2026-11-22", "sealmq device disable pump-30"}}},
	{"device revoked, not its certificate", func(t testing.TB, s *Snapshot) {
		d := device(30, 10*day)
		d.State = registry.Revoked
		s.add(d)
	}, []finding{{DeviceRevoked, Medium, "pump-30", "not its certificate", "sealmq device revoke --serial 001e"}}},
	{"a fight", func(t testing.TB, s *Snapshot) {
		s.Broker.Takeovers = append(s.Broker.Takeovers, Takeover{ClientID: strings.Repeat("\x1bé", 50), Device: "pump-2", Times: 57})
	}, []finding{{ClientIDs, High, "pump-2", `"\x1bé\x1bé`, "sealmq device add ID"}}},
	{"no log", func(t testing.TB, s *Snapshot) { s.Broker.Log.Off = true },
		[]finding{{LoggingDisabled, Medium, "", "nothing is logged", "[log]"}}},
	{"errors only", func(t testing.TB, s *Snapshot) { s.Broker.Log.Level = slog.LevelError },
		[]finding{{LoggingDisabled, Low, "", "refused connections", "[log]"}}},
	{"a rule for everybody", func(_ testing.TB, s *Snapshot) {
		s.Broker.Policy = []PolicyFinding{{File: "policy", Line: 7, Text: "all may", Fix: "name a group", Broad: true}}
	}, []finding{{PolicyPermissive, High, "", "policy:7: all may", "name a group"}}},
	{"a rule without effect", func(_ testing.TB, s *Snapshot) {
		s.Broker.Policy = []PolicyFinding{{File: "policy", Line: 7, Text: "no effect", Fix: "remove it"}}
	}, []finding{{PolicyMistaken, Low, "", "policy:7: no effect", "remove it"}}},
	{"plain for all", func(t testing.TB, s *Snapshot) {
		s.Broker.Listeners = append(s.Broker.Listeners, Listener{Name: "old", Address: "0.0.0.0:1883", Plain: true, Anonymous: true})
	}, []finding{
		{ListenerOpen, Critical, "old", "everybody on the way to 0.0.0.0:1883", "tls = false"},
		{ListenerOpen, High, "old", "without proof", "anonymous = true"},
	}},
	{"TLS 1.0", func(t testing.TB, s *Snapshot) { s.Broker.Listeners[0].MinTLS = 0x0301 },
		[]finding{{ListenerOpen, High, "mqtts", "before 1.2", "TLS 1.2"}}},
	{"server certificate ends", func(t testing.TB, s *Snapshot) {
		c := &s.Broker.ServerCertificates[0]
		c.NotBefore, c.NotAfter, c.Trouble, c.Listeners = now.Add(-85*day), now.Add(5*day), "no answer from the CA", []string{"mqtts"}
	}, []finding{{ServerExpiring, High, "mqtts", "in 5 days: no answer from the CA", "sealmq cert renew"}}},
	{"new server files are bad", func(t testing.TB, s *Snapshot) {
		c := &s.Broker.ServerCertificates[0]
		c.Source, c.Trouble = "file", "the key does not belong to it"
	}, []finding{{ServerExpiring, Medium, "", "not in force: the key does not belong to it", "into the files"}}},
	{"list is due, clients are refused", func(t testing.TB, s *Snapshot) { s.CRLs[0].Stale, s.CRLs[0].Next = true, now.Add(-day) },
		[]finding{{ListStale, Critical, "Factory CA", "due on 2026-11-21; its clients are refused", "client_crl of listener factory"}}},
	{"list is missing, and that is allowed", func(t testing.TB, s *Snapshot) { s.CRLs[0].Missing, s.CRLs[0].Deny = true, false },
		[]finding{{ListStale, Medium, "Factory CA", "there is no revocation list", "client_crl"}}},
	{"list is damaged", func(t testing.TB, s *Snapshot) { s.CRLs[0].Err = errors.New("bad signature") },
		[]finding{{ListStale, Medium, "Factory CA", "bad signature", "client_crl"}}},
	{"our list is due", func(t testing.TB, s *Snapshot) {
		s.CRLs = append(s.CRLs, CRL{CRLStatus: pki.CRLStatus{Issuer: "device CA", Stale: true, Next: now.Add(-day)}})
	}, []finding{{ListStale, Medium, "device CA", "was due", "sealmq serve"}}},
}

func (s *Snapshot) add(d registry.Device) {
	before := s.Devices
	s.Devices = func(yield func(registry.Device) bool) {
		for d := range before {
			if !yield(d) {
				return
			}
		}
		yield(d)
	}
}

// weak gives a certificate a key that is too small.
func weak(c x509.Certificate) *x509.Certificate {
	c.PublicKey = &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}
	return &c
}

func TestFaults(t *testing.T) {
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			s := clean(t)
			tt.do(t, &s)
			got := Judge(s)
			if len(got) != len(tt.want) {
				t.Fatalf("%d findings, want %d: %+v", len(got), len(tt.want), got)
			}
			for i, w := range tt.want {
				f := got[i]
				if f.Check != w.check || f.Severity != w.severity || gocmp.Or(f.Device, f.CA, f.Listener) != w.about ||
					!strings.Contains(f.Text, w.text) || !strings.Contains(f.Fix, w.fix) {
					t.Errorf("%+v, want %+v", f, w)
				}
			}
		})
	}
}

// Together the faults give the findings of each, the worst first, whatever the order.
func TestBadFleet(t *testing.T) {
	s := clean(t)
	s.CAs[1].Cert = authority(t, "broker", -5*year, 7*day, s.CAs[0].Cert)
	s.ForeignCAs[0].Revoked = true
	for i := range 3 {
		s.add(device(50-i, 350*day))
	}
	s.add(device(60, 400*day))
	s.Broker.Log.Off = true
	s.Broker.Listeners[0].Anonymous = true
	var got []string
	for _, f := range Judge(s) {
		got = append(got, fmt.Sprint(f.Severity, " ", f.Check, " ", gocmp.Or(f.Device, f.CA, f.Listener)))
	}
	want := []string{
		"critical revoked_ca_certificate_still_active Factory CA",
		"high ca_certificate_expiring broker",
		"high device_certificate_expiring pump-60",
		"high listener_open mqtts",
		"medium device_certificate_expiring pump-48",
		"medium device_certificate_expiring pump-49",
		"medium device_certificate_expiring pump-50",
		"medium logging_disabled ",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestForecast(t *testing.T) {
	s := Snapshot{Now: now, Devices: func(func(registry.Device) bool) {}}
	for i, left := range []time.Duration{-day, time.Hour, 6 * day, 8 * day, 29 * day, 31 * day, 90 * day, 91 * day, 400 * day} {
		d := device(i, 0)
		d.Certificates[0].NotAfter = now.Add(left)
		s.add(d)
	}
	s.CAs = clean(t).CAs
	f := Examine(s).Forecast
	if f.Ended != 1 || f.In7 != 2 || f.In30 != 4 || f.In90 != 6 {
		t.Errorf("%+v", f)
	}
	var ends []int
	for _, w := range f.Weeks {
		ends = append(ends, w.Ends)
	}
	if d := cmp.Diff([]int{2, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1}, ends); d != "" {
		t.Error(d)
	}
	if len(f.CAs) != 3 || f.CAs[2].Name != "root" || !f.Weeks[0].Begins.Equal(now) {
		t.Errorf("%+v", f)
	}
}

func TestPosture(t *testing.T) {
	s := Snapshot{Now: now, Devices: func(func(registry.Device) bool) {}}
	for i := range 8 {
		d := device(i, 0)
		switch {
		case i == 0:
			d.Seen.TLSVersion, d.Seen.Group, d.Seen.CipherSuite = "TLS 1.2", "CurveP256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
		case i == 1:
			d.Seen.Group = ""
		case i == 2:
			d.Seen = registry.Seen{}
		case i == 3:
			d.State = registry.Revoked
			d.Certificates = nil
		}
		s.add(d)
	}
	s.Broker = &Broker{Keys: slices.Values([]Key{{Kind: "RSA 2048"}, {Kind: "ECDSA P-256"}, {Kind: "ECDSA P-256"}})}
	p := Examine(s).Posture
	want := Posture{
		Devices: 6, PostQuantum: 4,
		TLSVersions: []Share{{"TLS 1.3", 5, 83.3}, {"TLS 1.2", 1, 16.6}},
		Groups:      []Share{{"X25519MLKEM768", 4, 66.6}, {"CurveP256", 1, 16.6}, {"unknown", 1, 16.6}},
		Suites:      []Share{{"TLS_AES_128_GCM_SHA256", 5, 83.3}, {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 1, 16.6}},
		Keys:        []Share{{"ECDSA P-256", 2, 66.6}, {"RSA 2048", 1, 33.3}},
	}
	if d := cmp.Diff(want, p); d != "" {
		t.Error(d)
	}
	var c counts
	for i := range 1000 {
		c.key(fmt.Sprint(i))
	}
	if len(c.keys) != maxShares+1 || c.keys["other"] != 1000-maxShares {
		t.Errorf("%d names", len(c.keys))
	}
}

func TestKeyOf(t *testing.T) {
	ca := authority(t, "x", 0, day, nil)
	if k := KeyOf("d", ca); k.Kind != "ECDSA P-256" || k.Weak != "" || k.Serial != "ca" || k.Device != "d" {
		t.Errorf("%+v", k)
	}
	if k := KeyOf("d", weak(*ca)); k.Kind != "RSA 1024" || k.Weak == "" {
		t.Errorf("%+v", k)
	}
	if k := KeyOf("d", &x509.Certificate{SerialNumber: new(big.Int)}); k.Kind != "unknown" || k.Weak == "" || k.Serial != "00" {
		t.Errorf("%+v", k)
	}
	big521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	strong := *ca
	strong.PublicKey = big521.Public()
	if k := KeyOf("d", &strong); k.Kind != "ECDSA P-521" || k.Weak != "" {
		t.Errorf("%+v", k)
	}
}

// fleet yields n devices from one template, a third of which shall be renewed.
func fleet(n int) iter.Seq[registry.Device] {
	ids, serials, keys := make([]string, n), make([]string, n), make([]string, n)
	for i := range n {
		ids[i], serials[i], keys[i] = fmt.Sprintf("pump-%d", i), fmt.Sprintf("%032x", i), fmt.Sprintf("%064x", i)
	}
	template := device(1, 100*day)
	return func(yield func(registry.Device) bool) {
		certs := make([]registry.Certificate, 1)
		for i := range n {
			d := template
			certs[0] = template.Certificates[0]
			certs[0].Serial, certs[0].SPKI = serials[i], keys[i]
			if i%3 == 0 {
				certs[0].NotAfter = now.Add(10 * day)
			}
			d.ID, d.Certificates, d.Seen.Serial = ids[i], certs, serials[i]
			if !yield(d) {
				return
			}
		}
	}
}

func TestLargeFleet(t *testing.T) {
	const n = 20_000
	s := clean(t)
	s.Devices = fleet(n)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := Examine(s)
	runtime.ReadMemStats(&after)
	// Findings, and a map of the keys: devices are not copied.
	if allocs := int(after.Mallocs - before.Mallocs); allocs > 12*len(r.Findings)+n/10 {
		t.Errorf("%d allocations for %d devices and %d findings", allocs, n, len(r.Findings))
	}
	if len(r.Findings) != (n+2)/3 || r.Devices != n || r.Posture.PostQuantum != n || r.Forecast.In30 != (n+2)/3 {
		t.Errorf("%d findings of %d devices", len(r.Findings), r.Devices)
	}
	var b strings.Builder
	if err := r.WriteText(&b); err != nil || b.Len() > 10_000 {
		t.Errorf("%d bytes of text, %v", b.Len(), err)
	}
}

func BenchmarkExamine(b *testing.B) {
	s := clean(b)
	s.Devices = fleet(100_000)
	b.ReportAllocs()
	for b.Loop() {
		Examine(s)
	}
}
