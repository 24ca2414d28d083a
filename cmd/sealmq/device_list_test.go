package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// Whatever state a device is in, show says what to do.
func TestAdvice(t *testing.T) {
	now := time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)
	certificate := func(ends time.Duration, state registry.CertState) registry.Certificate {
		return registry.Certificate{Serial: "ab", NotBefore: now.Add(ends - 360*day), NotAfter: now.Add(ends), State: state}
	}
	good := certificate(300*day, registry.CertActive)
	for _, c := range []struct {
		name         string
		state        registry.State
		certificates []registry.Certificate
		want         []string // commands
	}{
		{"all is well", registry.Active, []registry.Certificate{good}, nil},
		{"the older one ends", registry.Active, []registry.Certificate{good, certificate(5*day, registry.CertActive)}, nil},
		{"none", registry.Active, nil, []string{"renew d"}},
		{"none that counts", registry.Active, []registry.Certificate{certificate(300*day, registry.CertRevoked)}, []string{"renew d"}},
		{"ended", registry.Active, []registry.Certificate{certificate(-time.Hour, registry.CertActive)}, []string{"renew d"}},
		{"ends", registry.Active, []registry.Certificate{certificate(100*day, registry.CertActive)}, []string{"renew d"}},
		{"pending", registry.Pending, nil, []string{"enable d", "purge d"}},
		{"disabled", registry.Disabled, []registry.Certificate{good}, []string{"enable d"}},
		{"quarantined", registry.Quarantined, []registry.Certificate{good}, []string{"enable d"}},
		{"quarantined, ended", registry.Quarantined, nil, []string{"enable d", "renew d"}},
		{"revoked", registry.Revoked, nil, []string{"purge d"}},
	} {
		d := registry.Device{ID: "d", State: c.state, Certificates: c.certificates}
		var got []string
		for _, a := range advice(&d, now) {
			for _, words := range a.commands {
				got = append(got, strings.Join(words, " "))
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestShowDevice(t *testing.T) {
	now := time.Date(2030, 6, 1, 12, 0, 0, 0, time.Local)
	d := registry.Device{
		ID: "pump-17", Groups: []string{"hall-3", "sensors"}, Attributes: map[string]string{"site": "north", "line": "4"},
		State: registry.Active, Note: "by the door\x1b[2J", Created: now.Add(-40 * day), Changed: now.Add(-3 * day),
		Seen: registry.Seen{At: now.Add(-5 * time.Minute), Address: "192.0.2.7:4711", TLSVersion: "TLS 1.3", Group: "X25519MLKEM768", Serial: "0b", Firmware: "1.2"},
		Certificates: []registry.Certificate{
			{Serial: "0b", State: registry.CertActive, NotBefore: now.Add(-40 * day), NotAfter: now.Add(9 * day)},
			{Serial: "0a", State: registry.CertRevoked, Reason: pki.KeyCompromise, RevokedAt: now.Add(-3 * day), NotAfter: now.Add(30 * day)},
		},
	}
	var b bytes.Buffer
	if err := showDevice(&b, &d, now, func(words ...string) string { return "sealmq device " + strings.Join(words, " ") }); err != nil {
		t.Fatal(err)
	}
	const want = `device        pump-17
state         active
groups        hall-3, sensors
attribute     line = 4
attribute     site = north
note          by the door[2J
added         2030-04-22 12:00
changed       2030-05-29 12:00
last seen     2030-06-01 11:55 (5 min ago), from 192.0.2.7:4711, TLS 1.3, X25519MLKEM768, firmware 1.2

CERTIFICATE  STATE    VALID UNTIL  REMARK
0b           active   2030-06-10   ends in 9 days, used last
0a           revoked  2030-07-01   2030-05-29 12:00, key-compromise

Its certificate ends in 9 days, and it has not renewed it:
  sealmq device renew pump-17
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "now", 30 * time.Second: "now", 5 * time.Minute: "5 min ago", 47 * time.Hour: "47 h ago", 48 * time.Hour: "2 days ago",
	} {
		if got := ago(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
