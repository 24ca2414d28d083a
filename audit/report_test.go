package audit

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func text(t *testing.T, r *Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestText(t *testing.T) {
	s := clean(t)
	s.add(device(30, 336*day))
	for i := range 12 {
		s.add(device(300+i, 400*day))
	}
	s.CAs, s.ForeignCAs, s.CRLs = s.CAs[:1], nil, nil
	s.Broker.ServerCertificates = nil
	got := text(t, Examine(s))
	const want = `13 findings: 22 devices, 10 certificates

high      device_certificate_expiring  pump-300  serial 012c
          the last certificate ended on 2026-10-18, 35 days ago
          fix: sealmq device renew pump-300
`
	if !strings.HasPrefix(got, want) {
		t.Errorf("begins with\n%s", got[:min(len(got), 2*len(want))])
	}
	if n := strings.Count(got, "fix: "); n != shown {
		t.Errorf("%d findings shown", n)
	}
	const rest = `
ok        ca_certificate_expiring
ok        ca_certificate_key_quality
ok        conflicting_client_ids
ok        device_certificate_age
13        device_certificate_expiring, 10 of them above; --json shows all
ok        device_certificate_key_quality
ok        device_certificate_shared
ok        intermediate_ca_revoked_for_active_device_certificates
ok        iot_policy_overly_permissive
ok        iot_policy_potential_misconfiguration
ok        logging_disabled
ok        revoked_ca_certificate_still_active
ok        revoked_device_certificate_still_active
ok        listener_open
ok        server_certificate_expiring
ok        revocation_list_stale

last certificates that end: 1 within 7 days, 2 within 30, 2 within 90; 12 have ended
  week of 2026-11-22       1
  week of 2026-12-20       1
  CA root ends on 2045-11-17

cryptography of 19 devices that connected: 100.0 % with post-quantum key agreement
  TLS            100.0 %      19  TLS 1.3
  key agreement  100.0 %      19  X25519MLKEM768
  cipher suite   100.0 %      19  TLS_AES_128_GCM_SHA256
  key            100.0 %       1  ECDSA P-256
`
	if !strings.HasSuffix(got, rest) {
		t.Errorf("ends with\n%s", got[max(0, len(got)-len(rest)):])
	}
}

// What others have named cannot write on the terminal what it likes, nor lines of its own.
func TestTextIsPrintable(t *testing.T) {
	s := clean(t)
	s.ForeignCAs[0].Revoked = true
	s.ForeignCAs[0].Name = "evil\x1b[2J\nok        everything"
	s.Broker.SeenFrom = []SeenFrom{{Device: "a\rb", Serial: "01", Addresses: []string{"\u202e"}}}
	d := device(30, 0)
	d.Seen.TLSVersion = "\x07"
	s.add(d)
	got := text(t, Examine(s))
	if strings.ContainsAny(got, "\x1b\r\x07\u202e") || strings.Contains(got, "\nok        everything") {
		t.Errorf("%q", got)
	}
}

func TestJSON(t *testing.T) {
	s := clean(t)
	s.add(device(30, 336*day))
	r := Examine(s)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(*r, again, cmpopts.IgnoreUnexported(Forecast{})); d != "" {
		t.Error(d)
	}
	for _, part := range []string{`"check":"device_certificate_expiring","severity":"medium","device":"pump-30"`, `"in_30_days":`} {
		if !strings.Contains(string(b), part) {
			t.Errorf("%s is not in %s", part, b)
		}
	}
	if b, _ = json.Marshal(Examine(Snapshot{Now: now})); !strings.Contains(string(b), `"findings":[]`) || !strings.Contains(string(b), `"skipped":"no broker runs"`) {
		t.Errorf("%s", b)
	}
	if err := r.WriteText(full{}); err == nil {
		t.Error("a disk that is full goes unnoticed")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// Every check that has findings in the table is a check that is reported, and each is reported once.
func TestEveryCheckCanFail(t *testing.T) {
	can := make(map[Check]bool)
	for _, f := range faults {
		for _, w := range f.want {
			can[w.check] = true
		}
	}
	for _, r := range Examine(clean(t)).Checks {
		if !can[r.Check] && r.Skipped == "" {
			t.Errorf("nothing fails %s", r.Check)
		}
		delete(can, r.Check)
	}
	if len(can) > 0 {
		t.Errorf("not reported: %v", can)
	}
}
