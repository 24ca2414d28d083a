// Package doctor finds out why a client does not get through to an MQTT
// broker, any broker: from the URL over name resolution, TCP, TLS, the
// broker's certificate and the client's own to CONNECT and a message that
// comes back. Each step says ok, or what is wrong and what to do about it.
//
// What both sides of a connection can know has the same word here as in the
// broker's log: the causes are those of package transport. The functions named
// judge… know no network.
//
// Examine starts no goroutine that outlives it. It may be used by several
// goroutines at a time.
package doctor

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/sealmq/sealmq/transport"
)

// Options say what to examine, and as whom. The zero value of each field means
// its default; URL is required.
type Options struct {
	// URL is mqtts://host[:port], mqtt://, wss:// or ws://, as package client
	// reads it. Its user and password count unless Username or Password is given.
	URL string

	// CAFile is a PEM file of the CAs to trust. Default: those of the system.
	CAFile string
	// Cert and Key are PEM files of the client certificate, both or none.
	Cert, Key string

	// ClientID may be empty: the broker then chooses one. The id of a client that
	// is at work takes over its connection, and its session.
	ClientID string
	Username string
	Password []byte
	// ALPN is the protocol to ask for. Default: none.
	ALPN string
	// Topic is where the message goes that should come back. Default: one of its
	// own below doctor/.
	Topic string

	// InsecureName goes on when the certificate is for another name.
	InsecureName bool
	// Insecure goes on whatever is wrong with the broker's certificate.
	Insecure bool
	// SendCredentials sends a password also to a broker that was not verified.
	SendCredentials bool

	// Timeout bounds the whole examination. Default 30 s. A part that waits for
	// the other side is given up after a quarter of it, and after 10 s at most.
	Timeout time.Duration

	// OnStep is called with each step as soon as it is known. Optional.
	OnStep func(Step)

	// Lookup resolves a host name. Default: as the system does.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Now is the time by which certificates are judged. Default: the clock.
	Now func() time.Time
}

// Status is how a step ended.
type Status string

const (
	OK      Status = "ok"
	Warning Status = "warning" // this client gets through; others may not, or not for long
	Failed  Status = "failed"
)

// Names of steps, in the order in which they come. Those that do not apply are
// left out; one with several findings comes several times.
const (
	StepURL        = "url"
	StepFiles      = "files"
	StepDNS        = "dns"
	StepTCP        = "tcp"
	StepTLS        = "tls"
	StepVersions   = "versions"
	StepChain      = "chain"
	StepVerify     = "verify"
	StepName       = "name"
	StepDates      = "dates"
	StepDevices    = "devices" // what small TLS stacks make of it
	StepALPN       = "alpn"
	StepClientCert = "client_certificate"
	StepWebSocket  = "websocket"
	StepConnect    = "connect"
	StepPing       = "ping"
	StepRoundTrip  = "round_trip"
	StepLimits     = "limits"
)

// Causes beside those of package transport, for what a broker cannot see.
const (
	CauseURL         transport.Cause = "url"                // not a broker's URL
	CauseExposed     transport.Cause = "password_exposed"   // the password would go to nobody knows whom
	CauseFile        transport.Cause = "file"               // unreadable, or not what it should be
	CauseDNS         transport.Cause = "name_not_found"     // no address for the host
	CauseRefused     transport.Cause = "connection_refused" // nothing listens there
	CauseUnreachable transport.Cause = "unreachable"        // no way to the address
	CauseHungUp      transport.Cause = "closed_by_broker"   // closed or reset without a word
	CauseOldTLS      transport.Cause = "old_tls"            // versions or suites that are broken are accepted
	CauseChain       transport.Cause = "chain"              // what is sent along is not as it should be
	CauseDevices     transport.Cause = "small_devices"      // some TLS stacks cannot cope
	CauseSoon        transport.Cause = "expires_soon"
	CauseServerName  transport.Cause = "unknown_server_name" // the broker has no certificate for the name
	CauseNoWebSocket transport.Cause = "no_websocket"        // MQTT without WebSocket, or no MQTT at all
	CauseNoMQTT      transport.Cause = "not_mqtt"            // something else answers CONNECT
	CauseConnect     transport.Cause = "connect_refused"     // CONNACK says no
	CauseSilent      transport.Cause = "no_answer"           // a packet is not answered
	CauseDenied      transport.Cause = "not_authorized"      // the topic is not for this client
	CauseLost        transport.Cause = "message_lost"        // the message does not come back
)

// Step is one line of a report.
type Step struct {
	Name   string          `json:"name"`
	Status Status          `json:"status"`
	Cause  transport.Cause `json:"cause,omitempty"`
	Reason string          `json:"reason,omitempty"` // the cause more exactly, in a word
	Text   string          `json:"text"`
	Fix    string          `json:"fix,omitempty"`
	Doc    string          `json:"doc,omitempty"`   // E-TLS-nnn: the page about the cause, if it has one
	Alert  int             `json:"alert,omitempty"` // number of the TLS alert that came, if any
	Code   int             `json:"code,omitempty"`  // MQTT 5 reason code of a refusal, if any
}

// Report is everything that was found out.
type Report struct {
	URL string `json:"url"` // without the password
	OK  bool   `json:"ok"`  // no step failed
	// Cause and Reason are those of the first step that failed.
	Cause  transport.Cause `json:"cause,omitempty"`
	Reason string          `json:"reason,omitempty"`
	Steps  []Step          `json:"steps"`

	Addresses []string `json:"addresses,omitempty"` // of the host; the one that was used is first
	TLS       *TLS     `json:"tls,omitempty"`
	MQTT      *Session `json:"mqtt,omitempty"`
}

// First is the first step that failed; false if none did.
func (r *Report) First() (Step, bool) {
	for _, s := range r.Steps {
		if s.Status == Failed {
			return s, true
		}
	}
	return Step{}, false
}

// TLS is what the broker agreed to and sent.
type TLS struct {
	Version string `json:"version,omitempty"`
	Suite   string `json:"suite,omitempty"`
	Group   string `json:"group,omitempty"`
	// Versions and Groups are those that the broker was seen to accept. Of the
	// groups only the common ones are tried.
	Versions []string `json:"versions,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	// ClientCertificate tells whether the broker asked for one; ClientCAs are the
	// CAs that it named.
	ClientCertificate bool          `json:"client_certificate"`
	ClientCAs         []string      `json:"client_cas,omitempty"`
	Chain             []Certificate `json:"chain,omitempty"`
	ChainBytes        int           `json:"chain_bytes,omitempty"`
}

// Certificate is one of the broker's chain.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	SHA256    string    `json:"sha256"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Names     []string  `json:"names,omitempty"`
	Key       string    `json:"key"`
	Signature string    `json:"signature"`
}

// Session is what CONNACK said.
type Session struct {
	Version           string `json:"version"`
	ClientID          string `json:"client_id,omitempty"`
	SessionPresent    bool   `json:"session_present"`
	KeepAlive         uint16 `json:"keep_alive"`          // seconds
	ReceiveMaximum    uint16 `json:"receive_maximum"`     // messages
	MaximumPacketSize uint32 `json:"maximum_packet_size"` // bytes; 0: no limit but the protocol's
	MaximumQoS        uint8  `json:"maximum_qos"`
	RetainAvailable   bool   `json:"retain_available"`
}

// Examine goes through all steps until one makes the next ones pointless, or
// until ctx or Options.Timeout ends.
func Examine(ctx context.Context, o Options) *Report {
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	e := &exam{o: o, ctx: ctx, report: &Report{OK: true, Steps: []Step{}}, phase: min(o.Timeout/4, 10*time.Second)}
	e.run()
	return e.report
}

// JSON is the report as `sealmq doctor --json` prints it.
func (r *Report) JSON() ([]byte, error) { return json.MarshalIndent(r, "", "  ") }
