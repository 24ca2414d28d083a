// Package audit judges the identities of a fleet, and what serves them: certificates that end, are shared, or are used
// although they were revoked; CAs that end or are weak; listeners that are open. It also forecasts when certificates end,
// and says how modern the cryptography in use is.
//
//	report := audit.Examine(audit.Snapshot{Now: time.Now(), Devices: devices, CAs: cas})
//	report.WriteText(os.Stdout)
//
// Examine is a function of its Snapshot alone: it asks nobody, changes nothing, and reads the devices once, one at a time.
// Its checks have the names that AWS IoT Device Defender gives them, in lower case, and a few of its own. Sightings
// gathers what a running broker can tell. The package starts no goroutine.
package audit

import (
	"crypto/x509"
	"iter"
	"log/slog"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// Snapshot is what is judged. What is empty is not there; what cannot be known is said so in the Report.
type Snapshot struct {
	Now time.Time
	// Devices yields devices and operators, as registry.Registry.Each does. Claims need not be there.
	Devices iter.Seq[registry.Device]
	// CAs are our own: those in force, the next ones, and those that are trusted no longer.
	CAs []CA
	// ForeignCAs are those that listeners accept clients of beside ours.
	ForeignCAs []CA
	// CRLs are the revocation lists that listeners use, and our own.
	CRLs []CRL
	// Broker is what only a running one can tell; nil if none runs.
	Broker *Broker
}

// Broker is what a running broker knows. The first three come from Sightings.
type Broker struct {
	// Takeovers are client identifiers whose connection was ended by another one with the same. The session of a device
	// that has lost its connection without a word is taken over, too: a few are nothing.
	Takeovers []Takeover
	// SeenFrom are certificates that were used from more than one address at a time.
	SeenFrom []SeenFrom
	// Keys yields the keys of clients that were connected.
	Keys iter.Seq[Key]

	Listeners          []Listener
	ServerCertificates []ServerCertificate
	Policy             []PolicyFinding
	Log                Log
}

// PolicyFinding is what looks wrong in the policy in force.
type PolicyFinding struct {
	File  string
	Line  int
	Text  string
	Fix   string
	Broad bool // it allows everybody too much; else something has not the effect that was meant
}

// CA is a certificate authority.
type CA struct {
	Name string // of ours as pki.Life has it: root, broker, device
	Cert *x509.Certificate
	// Revoked: by the CA above it, or because it was retired here.
	Revoked bool
	// Accepted: certificates that it issued are accepted.
	Accepted bool
	// Listener names who accepts clients of a foreign one.
	Listener string
}

// CRL is a revocation list, or one that is missing.
type CRL struct {
	pki.CRLStatus
	Listener string // that uses it; empty for our own
	Deny     bool   // clients are refused while it is stale
}

// Takeover says how often the connection of a client identifier was taken over.
type Takeover struct {
	ClientID string
	Device   string // whose it is; may be empty
	Times    int    // within an hour
}

// SeenFrom is a certificate that was used from several addresses at a time.
type SeenFrom struct {
	Device    string
	Serial    string
	Addresses []string // without ports
}

// Key is that of a client's certificate, see KeyOf.
type Key struct {
	Device string
	Serial string
	Kind   string // "ECDSA P-256", "RSA 2048", "Ed25519"
	Weak   string // why it is weak; empty if it is not
}

// Listener is where clients connect.
type Listener struct {
	Name      string
	Address   string // host:port
	Plain     bool   // without TLS
	Anonymous bool   // clients that prove no identity are accepted
	MinTLS    uint16 // the oldest version accepted, as crypto/tls numbers them; 0 if Plain
}

// ServerCertificate is one that listeners show.
type ServerCertificate struct {
	Names               []string
	Listeners           []string
	Source              string // "ca", "file" or "acme"
	NotBefore, NotAfter time.Time
	Trouble             string // why a newer one is not in force
}

// Log says what is written down.
type Log struct {
	Off   bool // nothing is
	Level slog.Level
}

// Severity of a finding.
type Severity string

// The severities, the worst first.
const (
	Critical Severity = "critical" // somebody can get in who must not, or nobody can
	High     Severity = "high"     // this will happen soon, or happens to some
	Medium   Severity = "medium"
	Low      Severity = "low"
)

// Finding is one thing that is wrong.
type Finding struct {
	Check    Check    `json:"check"`
	Severity Severity `json:"severity"`
	Device   string   `json:"device,omitempty"` // or operator/NAME
	Serial   string   `json:"serial,omitempty"` // of the certificate, hex
	CA       string   `json:"ca,omitempty"`
	Listener string   `json:"listener,omitempty"`
	ClientID string   `json:"client_id,omitempty"`
	Text     string   `json:"text"` // a sentence without a full stop
	Fix      string   `json:"fix"`  // the command, or what to change in which file
}

// Check is the name of a check.
type Check string

// The checks.
const (
	CAExpiring       Check = "ca_certificate_expiring"
	CAKeyQuality     Check = "ca_certificate_key_quality"
	ClientIDs        Check = "conflicting_client_ids"
	DeviceAge        Check = "device_certificate_age"
	DeviceExpiring   Check = "device_certificate_expiring"
	DeviceKeyQuality Check = "device_certificate_key_quality"
	DeviceShared     Check = "device_certificate_shared"
	DeviceCARevoked  Check = "intermediate_ca_revoked_for_active_device_certificates"
	PolicyPermissive Check = "iot_policy_overly_permissive"
	PolicyMistaken   Check = "iot_policy_potential_misconfiguration"
	LoggingDisabled  Check = "logging_disabled"
	CARevoked        Check = "revoked_ca_certificate_still_active"
	DeviceRevoked    Check = "revoked_device_certificate_still_active"

	ListenerOpen   Check = "listener_open"
	ServerExpiring Check = "server_certificate_expiring"
	ListStale      Check = "revocation_list_stale"
)

// checks in the order in which they are reported.
var checks = [...]Check{
	CAExpiring, CAKeyQuality, ClientIDs, DeviceAge, DeviceExpiring, DeviceKeyQuality, DeviceShared, DeviceCARevoked,
	PolicyPermissive, PolicyMistaken, LoggingDisabled, CARevoked, DeviceRevoked, ListenerOpen, ServerExpiring, ListStale,
}

// Judge returns what is wrong, the worst first.
func Judge(s Snapshot) []Finding { return Examine(s).Findings }

// Examine judges a snapshot.
func Examine(s Snapshot) *Report {
	j := &judge{
		Snapshot: s,
		report:   &Report{At: s.Now, Findings: []Finding{}, Forecast: newForecast(s.Now)},
		skipped:  map[Check]string{},
	}
	j.authorities()
	j.lists()
	j.fleet()
	if s.Broker != nil {
		j.broker()
	} else {
		for _, c := range []Check{ClientIDs, DeviceKeyQuality, PolicyPermissive, PolicyMistaken, LoggingDisabled, ListenerOpen, ServerExpiring} {
			j.skipped[c] = "no broker runs"
		}
	}
	j.finish()
	return j.report
}

// judge is a judgement under way.
type judge struct {
	Snapshot
	report  *Report
	skipped map[Check]string

	revoked map[string]string // CAs by KeyID to their names
	keys    map[string]string // of devices: SPKI to id
	posture counts
}

func (j *judge) find(f Finding) { j.report.Findings = append(j.report.Findings, f) }
