package gate

// Causes of failures that are not those of a handshake. Failed takes these, and the words by which package transport and the
// judges of certificates name theirs.
const (
	CauseCredentials = "credentials"     // a wrong password, or no such user
	CauseClientID    = "client_id"       // a client identifier that belongs to another identity
	CauseProtocol    = "protocol"        // bytes that are not MQTT, a packet before CONNECT
	CauseTimeout     = "connect_timeout" // no CONNECT in time
	CauseProxy       = "proxy"           // no header, or a broken one, of the PROXY protocol
	CauseRefused     = "refused"         // a CONNECT that was refused for another reason
)

// weight is how much of a failure something is.
type weight uint8

const (
	never   weight = 0  // a mistake that goes on until somebody comes: a wrong clock must not lock a device out
	mistake weight = 1  // more likely a mistake: it takes ten times as many
	suspect weight = 5  // either
	attack  weight = 10 // one whole failure
)

// causes are all that is known, with their weights. Others count as the last one.
var causes = [...]struct {
	word   string
	weight weight
}{
	{CauseCredentials, attack},
	{CauseProtocol, attack},
	{"client_certificate_ca", attack}, // a certificate from a CA that nobody here knows
	{"client_certificate", attack},    // a bad one: for servers, a broken chain
	{"not_tls", attack},
	{"handshake_too_long", attack},

	{CauseClientID, suspect},
	{"client_certificate_purpose", suspect},
	{"client_key_mismatch", suspect},
	{"client_certificate_revoked", suspect}, // stolen, or forgotten on the roof
	{"client_certificate_unknown", suspect},
	{"http_on_tls", suspect}, // scanners, and people with browsers
	{"websocket_not_http", suspect},
	{"websocket_request", suspect},

	{CauseRefused, mistake},
	{CauseTimeout, mistake},
	{"timeout", mistake},
	{"client_certificate_absent", mistake},
	{"client_certificate_superseded", mistake},
	{"client_certificate_refused", mistake},
	{"device_disabled", mistake},
	{"plaintext_on_tls", mistake},
	{"tls_on_plaintext", mistake},
	{"mqtt_on_websocket", mistake},
	{"websocket_path", mistake},
	{"websocket_origin", mistake},
	{"websocket_version", mistake},
	{"websocket_subprotocol", mistake},
	{"websocket_not_upgrade", mistake},
	{"tls_version", mistake},
	{"no_common_cipher", mistake},
	{"alpn_mismatch", mistake},

	{CauseProxy, never}, // the load balancer is not to blame for who is behind it
	{"client_certificate_expired", never},
	{"client_left_after_handshake", never},
	{"broker_self_signed", never},
	{"broker_certificate_no_names", never},
	{"broker_certificate_expired", never},
	{"broker_certificate_revoked", never},
	{"record_too_big", never},
	{"broker_certificate_sha1", never},
	{"broker_certificate_weak_key", never},
	{"broker_certificate_purpose", never},
	{"broker_chain_incomplete", never},
	{"broker_key_unsupported", never},
	{"broker_name_constraints", never},
	{"broker_issuer_not_ca", never},
	{"name_mismatch", never},
	{"ip_not_in_certificate", never},
	{"ip_not_as_name", never},
	{"device_clock", never},
	{"tls12_excluded", never},
	{"fips_extended_master_secret", never},
	{"client_rejects_broker_ca", never},
	{"client_rejects_broker", never},
	{"client_says_expired", never},
	{"client_left_after_flight", never},
	{"client_crl_stale", never},
	{"client_crl_missing", never},
	{"device_pending", never},
	{"nothing_sent", never}, // health checks
	{"closed", never},

	{"other", mistake},
}

// causeOf is the number of a cause among causes.
func causeOf(word string) int {
	for i := range causes {
		if causes[i].word == word {
			return i
		}
	}
	return len(causes) - 1
}
