package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// What each of the narrow policies allows, and with a "!" what it does not. Receive goes with Subscribe, except for filters.
func TestRestrictedPolicies(t *testing.T) {
	for _, test := range []struct {
		name               string
		policy             Policy
		publish, subscribe string
	}{
		{
			name: "quarantine", policy: Quarantine("pump"),
			publish: `$pki/renew/request $pki/x/y quarantine/pump/log quarantine/pump/a/b
				!t !quarantine/pump2/log !quarantine/valve/x !quarantine !$SYS/x !$aws/x !pump !$pki !$pkix/y !/quarantine/pump/x`,
			subscribe: `$pki/# $pki/renew/+ quarantine/pump/# quarantine/pump/+ quarantine/pump
				!# !+/# !quarantine/# !quarantine/+/x !quarantine/pump+ !$pki+ !t !$SYS/#`,
		},
		{
			name: "enrolling", policy: Enrolling("pump"),
			publish: `$pki/enroll/pump/request $pki/renew/request $aws/certificates/create-from-csr/json
				$aws/provisioning-templates/fleet/provision/json
				!$pki/enroll/valve/request !$pki/enroll/pump2/request !$pki/enroll/pump/accepted !$pki/enroll/pump/request/x
				!$pki/enroll/request !$pki/cacerts/seen !$pki/renew/accepted !$aws/certificates/create/json
				$aws/certificates/create-from-csr/cbor $aws/provisioning-templates/fleet/provision/cbor
				!$aws/certificates/create-from-csr/xml !$aws/certificates/create-from-csr !$aws/certificates/create-from-csr/json/accepted
				!$aws/provisioning-templates//provision/json !$aws/provisioning-templates/a/b/provision/json
				!$aws/provisioning-templates/fleet/provision !t !pump/t !$pki/x !quarantine/pump/x`,
			subscribe: `$pki/enroll/pump/accepted $pki/enroll/pump/rejected $pki/enroll/pump/pending $pki/enroll/pump/+
				$pki/enroll/pump/# $pki/renew/accepted $pki/renew/rejected $pki/renew/+ $pki/renew/#
				$aws/certificates/create-from-csr/json/accepted $aws/certificates/create-from-csr/json/rejected
				$aws/certificates/create-from-csr/json/+ $aws/provisioning-templates/fleet/provision/json/accepted
				$aws/provisioning-templates/fleet/provision/json/# $aws/provisioning-templates/+/provision/json/rejected
				!$pki/enroll/+/accepted !$pki/enroll/# !$pki/enroll/valve/+ !$pki/enroll/pump/request !$pki/enroll/pump
				!$pki/# !# !+/# !$pki/cacerts !$aws/# !$aws/certificates/# !$pki/renew !$pki/renew/pending !t !pump/#`,
		},
		{
			name: "renewing", policy: Renewing(),
			publish: `$pki/renew/request $pki/cacerts/seen
				!$pki/renew/accepted !$pki/cacerts !$pki/enroll/pump/request !$aws/certificates/create-from-csr/json !t`,
			subscribe: `$pki/renew/accepted $pki/renew/rejected $pki/renew/advice $pki/renew/+ $pki/renew/# $pki/cacerts $pki/cacerts/#
				!$pki/# !# !$pki/enroll/pump/+ !$pki/renew/request !$pki/+ !t`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			check := func(a Action, list string) {
				for _, topic := range strings.Fields(list) {
					topic, not := strings.CutPrefix(topic, "!")
					if a == Receive && strings.ContainsAny(topic, "+#") {
						continue
					}
					if got := test.policy.May(a, topic, 1, false); got == not {
						t.Errorf("action %d on %s: %v", a, topic, got)
					}
				}
			}
			check(Publish, test.publish)
			check(Subscribe, test.subscribe)
			check(Receive, test.subscribe)
			if n := testing.AllocsPerRun(100, func() {
				test.policy.May(Publish, "$aws/provisioning-templates/fleet/provision/json", 1, false)
				test.policy.May(Receive, "$pki/enroll/pump/accepted", 1, false)
				test.policy.May(Subscribe, "quarantine/pump/#", 1, false)
			}); n > 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// Whatever a restricted policy grants for a filter or a topic stays below the roots that it is about.
func FuzzRestrictedPolicies(f *testing.F) {
	for _, s := range []string{"", "$pki/", "$pki/enroll/pump/request", "quarantine/pump/#", "$aws/provisioning-templates/+/provision/json/#", "#"} {
		f.Add(s)
	}
	policies := []Policy{Quarantine("pump"), Enrolling("pump"), Renewing()}
	f.Fuzz(func(t *testing.T, topic string) {
		for _, p := range policies {
			for _, a := range []Action{Publish, Subscribe, Receive} {
				if p.May(a, topic, 0, false) && !strings.HasPrefix(topic, "$pki/") && !strings.HasPrefix(topic, "$aws/") &&
					topic != "quarantine/pump" && !strings.HasPrefix(topic, "quarantine/pump/") {
					t.Errorf("%T: action %d on %q", p, a, topic)
				}
			}
		}
	})
}

// admission answers for devices.
type admission struct {
	how Admission
	err error
}

func (a admission) Admit(*Peer) (Admission, error) { return a.how, a.err }

// Who a peer is on an ordinary listener and on one for enrolment, with and without a certificate.
func TestRestrictedPrincipals(t *testing.T) {
	device := holder("x", "urn:mqtts:default:device:pump")
	claim := holder("x", "urn:mqtts:default:claim:line-3")
	operator := holder("x", "urn:mqtts:default:operator:alice")
	const serial = "2a"
	for _, test := range []struct {
		name    string
		peer    Peer
		client  string
		devices Devices
		want    string // of the principal, see describe
		refused mqtt.ReasonCode
		text    string
	}{
		{name: "device", peer: Peer{Cert: device}, want: "pump device bound cert until"},
		{name: "device known", peer: Peer{Cert: device}, devices: admission{}, want: "pump device bound cert until"},
		{name: "operator", peer: Peer{Cert: operator}, devices: admission{}, want: "alice operator cert until"},
		{name: "device in quarantine", peer: Peer{Cert: device}, devices: admission{how: Admission{Restricted: true}},
			want: "pump device bound cert until restricted auth.quarantine"},
		{name: "device refused", peer: Peer{Cert: device}, devices: admission{err: errors.New("this certificate is revoked")},
			refused: mqtt.NotAuthorized, text: "this certificate is revoked"},
		{name: "device refused with a code", peer: Peer{Cert: device},
			devices: admission{err: fmt.Errorf("admit: %w", &Refusal{mqtt.Banned, "the device waits for approval: sealmq device enable pump"})},
			refused: mqtt.Banned, text: "the device waits for approval: sealmq device enable pump"},
		{name: "device under another name", peer: Peer{Cert: holder("SN 17/4")}, devices: admission{how: Admission{Name: "sn-17", Kind: "device"}},
			want: "sn-17 device bound cert until"},
		{name: "device under no usable name", peer: Peer{Cert: holder("SN 17/4")}, devices: admission{},
			refused: mqtt.NotAuthorized, text: "names no usable identity"},
		{name: "device that has to enrol first", peer: Peer{Cert: holder("sn-17")},
			devices: admission{how: Admission{Name: "sn-17", Kind: "device", Enrolment: true}},
			want:    "sn-17 device bound transient cert soon restricted auth.renewing"},
		{name: "operator of another CA", peer: Peer{Cert: operator}, devices: admission{how: Admission{Name: "alice"}}, want: "alice bound cert until"},
		{name: "no certificate", peer: Peer{}, refused: mqtt.NotAuthorized, text: "a client certificate is required"},
		{name: "claim", peer: Peer{Cert: claim}, client: "pump", devices: admission{},
			want: "line-3 claim transient cert soon restricted auth.enrolling"},
		{name: "claim on an enrolment listener", peer: Peer{Cert: claim, Enrolment: true}, client: "pump",
			want: "line-3 claim transient cert soon restricted auth.enrolling"},
		{name: "claim without a client identifier", peer: Peer{Cert: claim}, refused: mqtt.ClientIDNotValid, text: "client identifier"},
		{name: "claim that is revoked", peer: Peer{Cert: claim}, client: "pump", devices: admission{err: errors.New("revoked")},
			refused: mqtt.NotAuthorized, text: "revoked"},
		{name: "claim that has ended", peer: Peer{Cert: claim, Enrolment: true, Expired: true}, client: "pump",
			refused: mqtt.NotAuthorized, text: "the client certificate has ended"},
		{name: "enrolment", peer: Peer{Enrolment: true}, client: "pump", want: " enrolment transient soon restricted auth.enrolling"},
		{name: "enrolment where anonymous clients are let in", peer: Peer{Enrolment: true, Anonymous: true}, client: "pump",
			want: " enrolment transient soon restricted auth.enrolling"},
		{name: "enrolment without a client identifier", peer: Peer{Enrolment: true}, refused: mqtt.ClientIDNotValid, text: "client identifier"},
		{name: "enrolment as a wildcard", peer: Peer{Enrolment: true}, client: "+", refused: mqtt.ClientIDNotValid},
		{name: "enrolment below another", peer: Peer{Enrolment: true}, client: "a/b", refused: mqtt.ClientIDNotValid},
		{name: "renewal", peer: Peer{Cert: device, Enrolment: true}, devices: admission{},
			want: "pump device bound transient cert soon restricted auth.renewing"},
		{name: "renewal after the end", peer: Peer{Cert: device, Enrolment: true, Expired: true}, devices: admission{},
			want: "pump device bound transient cert soon restricted auth.renewing"},
		{name: "renewal in quarantine", peer: Peer{Cert: device, Enrolment: true}, devices: admission{how: Admission{Restricted: true}},
			want: "pump device bound transient cert soon restricted auth.renewing"},
		{name: "renewal of what is revoked", peer: Peer{Cert: device, Enrolment: true, Expired: true},
			devices: admission{err: errors.New("revoked")}, refused: mqtt.NotAuthorized, text: "revoked"},
		{name: "after the end on an ordinary listener", peer: Peer{Cert: device, Expired: true},
			refused: mqtt.NotAuthorized, text: "the client certificate has ended"},
		{name: "operator on an enrolment listener", peer: Peer{Cert: operator, Enrolment: true},
			want: "alice operator transient cert soon restricted auth.renewing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := Certificates{Devices: test.devices}.Authenticate(context.Background(), &Credentials{Peer: test.peer, ClientID: test.client})
			if test.refused != 0 {
				var no *Refusal
				if !errors.As(err, &no) || no.Code != test.refused || !strings.Contains(no.Text, test.text) {
					t.Fatalf("got %+v, %v", p, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(p); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			if p.Cert.Serial != "" && p.Cert.Serial != serial {
				t.Errorf("serial %q", p.Cert.Serial)
			}
		})
	}
}

// describe lists what is not usual of a principal.
func describe(p *Principal) string {
	words := []string{p.Name}
	if p.Kind != "" {
		words = append(words, p.Kind)
	}
	for _, x := range []struct {
		is   bool
		word string
	}{
		{p.Method == "enrolment", "enrolment"}, {p.Bound, "bound"}, {p.Transient, "transient"}, {p.Cert != CertID{}, "cert"},
		{p.Until.Equal(notAfter), "until"}, {!p.Until.IsZero() && time.Until(p.Until) <= enrolTime, "soon"}, {p.Restricted, "restricted"}, {p.Policy != nil, fmt.Sprintf("%T", p.Policy)},
	} {
		if x.is {
			words = append(words, x.word)
		}
	}
	return strings.Join(words, " ")
}

// Who has come to enrol, or shows a claim, is not whom it names.
func TestSameOfTransients(t *testing.T) {
	who := func(p Peer) *Principal {
		q, err := Certificates{}.Authenticate(t.Context(), &Credentials{Peer: p, ClientID: "x"})
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	list := []*Principal{
		who(Peer{Cert: holder("", "urn:mqtts:t:device:x")}),
		who(Peer{Cert: holder("", "urn:mqtts:t:device:x"), Enrolment: true}),
		who(Peer{Cert: holder("", "urn:mqtts:t:operator:x")}),
		who(Peer{Cert: holder("", "urn:mqtts:t:claim:x")}),
		who(Peer{Enrolment: true}),
		who(Peer{Anonymous: true}),
	}
	for i, p := range list {
		for j, q := range list {
			if p.Same(q) != (i == j) {
				t.Errorf("%+v and %+v: %v", p, q, p.Same(q))
			}
		}
	}
	// A session that was stored before kinds were knows none.
	old := &Principal{Name: "x", Method: "certificate", Bound: true}
	if !list[0].Same(old) || !old.Same(list[0]) {
		t.Error("a device is not who its session of an older store belongs to")
	}
	if until := list[0].Until; !until.Equal(notAfter) || until.Before(time.Now()) {
		t.Errorf("until %v", until)
	}
}
