package transport

import (
	"fmt"
	"slices"
	"strings"
)

//go:generate go test -run ^TestErrorPages$ -update .

// Cause names why a handshake failed, as logs and statistics count it.
type Cause string

const (
	// The client refuses the broker's certificate.
	CauseRejectsCA       Cause = "client_rejects_broker_ca"    // the client trusts another CA
	CauseSelfSigned      Cause = "broker_self_signed"          // our certificate is its own issuer
	CauseName            Cause = "name_mismatch"               // our certificate has not the name asked for
	CauseIP              Cause = "ip_not_in_certificate"       // the client came by address, which our certificate has not
	CauseIPAsName        Cause = "ip_not_as_name"              // our certificate has the address, but not as old clients look for it
	CauseNoNames         Cause = "broker_certificate_no_names" // our certificate has a common name only
	CauseBrokerExpired   Cause = "broker_certificate_expired"  // our chain has expired, or is not yet valid
	CauseClock           Cause = "device_clock"                // our chain is valid, the client says that it is not
	CauseChainIncomplete Cause = "broker_chain_incomplete"     // we do not send the intermediate CA
	CauseSHA1            Cause = "broker_certificate_sha1"     // a signature of our chain can be forged
	CauseWeakKey         Cause = "broker_certificate_weak_key" // a key of our chain can be broken
	CauseKeyUnsupported  Cause = "broker_key_unsupported"      // the client knows no signature that our key can make
	CauseNameConstraints Cause = "broker_name_constraints"     // small libraries read no name constraints
	CausePurpose         Cause = "broker_certificate_purpose"  // our certificate is none for servers
	CauseIssuerNotCA     Cause = "broker_issuer_not_ca"        // our issuer is no CA
	CauseBrokerRevoked   Cause = "broker_certificate_revoked"  // the client says so
	CauseRejectsCert     Cause = "client_rejects_broker"       // the client does not say why, and nothing is wrong here
	CauseClockOrExpired  Cause = "client_says_expired"         // our chain is not known here
	CauseSilentRejection Cause = "client_left_after_flight"    // closed without an alert after our certificate
	CauseLeft            Cause = "client_left_after_handshake" // closed without an alert or a byte, once all was agreed
	CauseVersion         Cause = "tls_version"                 // no common TLS version
	CauseTLS12Excluded   Cause = "tls12_excluded"              // TLS 1.2, which the profile leaves out
	CauseCipher          Cause = "no_common_cipher"            // no common suite, group or signature algorithm
	CauseFIPS            Cause = "fips_extended_master_secret" // FIPS mode, and a client without extended master secret
	CauseALPN            Cause = "alpn_mismatch"               // none of the protocols asked for is ours

	// Another protocol, or none.
	CausePlainMQTT   Cause = "plaintext_on_tls"   // plain MQTT came to the TLS port
	CauseTLSOnPlain  Cause = "tls_on_plaintext"   // TLS came to the plain port
	CauseHTTP        Cause = "http_on_tls"        // HTTP came to the TLS port
	CauseNotTLS      Cause = "not_tls"            // something else came
	CauseTimeout     Cause = "timeout"            // the deadline passed
	CauseNothingSent Cause = "nothing_sent"       // closed before a ClientHello
	CauseTooLong     Cause = "handshake_too_long" // over 32 KiB
	CauseClosed      Cause = "closed"             // closed on this side
	CauseOther       Cause = "other"
	CauseProxy       Cause = "proxy" // a load balancer sent no header of the PROXY protocol, or a broken one

	// After the handshake.
	CauseRecordTooBig Cause = "record_too_big" // reset when the first large record came

	// The broker refuses the client's certificate.
	CauseNoClientCert      Cause = "client_certificate_absent"  // no certificate came
	CauseClientUnknownCA   Cause = "client_certificate_ca"      // its certificate comes from a CA unknown here
	CauseClientExpired     Cause = "client_certificate_expired" // its certificate has expired, or is not yet valid
	CauseClientPurpose     Cause = "client_certificate_purpose" // its certificate is none for clients
	CauseClientKey         Cause = "client_key_mismatch"        // its key does not belong to its certificate
	CauseClientCertificate Cause = "client_certificate"         // its certificate was refused

	// Named by VerifyConnection, not by this package.
	CauseClientRevoked    Cause = "client_certificate_revoked"
	CauseDeviceDisabled   Cause = "device_disabled"
	CauseDevicePending    Cause = "device_pending"
	CauseClientSuperseded Cause = "client_certificate_superseded"
	CauseClientUnknown    Cause = "client_certificate_unknown" // of our CA, and not in the registry
	CauseCRLStale         Cause = "client_crl_stale"
	CauseCRLMissing       Cause = "client_crl_missing"
	CauseClientRefused    Cause = "client_certificate_refused"

	// Of a CONNECT that was refused, or never came. Named by who reads it, not by this package.
	CauseCredentials    Cause = "credentials"     // wrong user name or password
	CauseClientID       Cause = "client_id"       // a client identifier that it may not use
	CauseProtocol       Cause = "protocol"        // not MQTT, or not CONNECT
	CauseConnectRefused Cause = "refused"         // for another reason
	CauseNoConnect      Cause = "connect_timeout" // the deadline passed

	// Of the upgrade to WebSocket.
	CauseMQTTOnWebSocket Cause = "mqtt_on_websocket"     // MQTT came without WebSocket
	CauseNotHTTP         Cause = "websocket_not_http"    // something else came
	CauseRequest         Cause = "websocket_request"     // malformed or over 8 KiB
	CauseNotUpgrade      Cause = "websocket_not_upgrade" // HTTP: a browser's address bar, a health check
	CauseUpgradeVersion  Cause = "websocket_version"     // another version than 13
	CausePath            Cause = "websocket_path"        // not in Config.WebSocketPaths
	CauseOrigin          Cause = "websocket_origin"      // a web page not in Config.WebSocketOrigins
	CauseSubprotocol     Cause = "websocket_subprotocol" // mqtt was not offered
)

// Explanation is what there is to say about a cause. Of its texts What and Fix
// are plain; the others are Markdown, for the page of the code.
type Explanation struct {
	Code  string // E-TLS-001; never given to another cause
	Cause Cause
	What  string // what happened
	Fix   string // what to do about it
	How   string // how the broker knows, and what else it might be
	Seen  string // what clients say meanwhile, if they say anything
}

// Explain returns the explanation of a cause; ok is false for one that this
// package does not know.
func Explain(c Cause) (e Explanation, ok bool) {
	for i := range explanations {
		if explanations[i].cause == c {
			return explanations[i].public(), true
		}
	}
	return Explanation{}, false
}

// Explanations returns all there are, by code.
func Explanations() []Explanation {
	all := make([]Explanation, len(explanations))
	for i, e := range explanations {
		all[i] = e.public()
	}
	slices.SortFunc(all, func(a, b Explanation) int { return strings.Compare(a.Code, b.Code) })
	return all
}

// hintOf is the fix of a cause, empty if it is not known here.
func hintOf(c Cause) string {
	e, _ := Explain(c)
	return e.Fix
}

// explanation is a row of the table.
type explanation struct {
	number              int
	cause               Cause
	what, fix, how, saw string
}

func (e explanation) public() Explanation {
	return Explanation{fmt.Sprintf("E-TLS-%03d", e.number), e.cause, e.what, e.fix, e.how, e.saw}
}
