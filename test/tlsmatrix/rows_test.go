package tlsmatrix

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"testing"

	"github.com/sealmq/sealmq/transport"
)

// row is one fault. The broker must name want for every stack that is not in
// but.
type row struct {
	number int // of the code that names the fault; 0: there is none
	fault  string
	cfg    transport.Config
	shown  *shown
	try    func(*attempt)
	want   transport.Cause
	but    map[string]transport.Cause
}

const (
	letIn  transport.Cause = ""
	quits  transport.Cause = "quits"  // and never connects
	leaves transport.Cause = "leaves" // when the handshake is over, as a health check does
)

// kit are the certificates of the rows.
type kit struct {
	ca, otherCA    files
	device         files
	foreign, late  files // devices of another CA, expired
	server, broken files // for servers only; with the key of another
	good           *shown
	rows           []row
}

const host = "localhost"

func newKit(t *testing.T) *kit {
	t.Helper()
	dir := t.TempDir()
	root := by(nil, p256(), template("Test Root", isCA))
	inter := by(root, p256(), template("Test Broker CA", isCA))
	devices := by(root, p256(), template("Test Device CA", isCA))
	other := by(nil, p256(), template("Other Root", isCA))
	leaf := func(issuer *issued, change ...func(*x509.Certificate)) *issued {
		return by(issuer, p256(), template(host, append([]func(*x509.Certificate){forServer}, change...)...))
	}
	all := named(host, "127.0.0.1")
	dnsToo := func(t *x509.Certificate) { t.DNSNames = append(t.DNSNames, "127.0.0.1") }
	device := by(devices, p256(), template("pump-17", forClient))
	lateDevice := by(devices, p256(), template("pump-18", forClient, expired))
	k := &kit{
		ca: root.write(t, dir, "root"), otherCA: other.write(t, dir, "other"), device: device.write(t, dir, "device"),
		foreign: by(other, p256(), template("pump-19", forClient)).write(t, dir, "foreign"),
		late:    lateDevice.write(t, dir, "late"),
		server:  by(devices, p256(), template("pump-20", forServer)).write(t, dir, "server"),
		broken:  (&issued{device.cert, p256()}).write(t, dir, "broken"),
	}
	clients := x509.NewCertPool()
	clients.AddCert(devices.cert)
	show := func(c *tls.Certificate) *shown { return &shown{cert: c, clients: clients} }
	k.good = show(leaf(inter, all, dnsToo).show(inter))
	open := transport.Config{ClientCertificates: transport.None}
	mutual := transport.Config{ClientCertificates: transport.Required}

	// Some stacks never say why, or not at all.
	vague := map[string]transport.Cause{
		"Go": transport.CauseRejectsCert, "GnuTLS": transport.CauseRejectsCert,
		"Node.js": transport.CauseSilentRejection, "BearSSL": transport.CauseSilentRejection,
	}
	with := func(m map[string]transport.Cause, stack string, c transport.Cause) map[string]transport.Cause {
		m = maps.Clone(m)
		m[stack] = c
		return m
	}
	each := func(c transport.Cause, stacks ...string) map[string]transport.Cause {
		m := make(map[string]transport.Cause)
		for _, s := range stacks {
			m[s] = c
		}
		return m
	}
	weak := by(nil, rsaKey(2048), template("Old Root", isCA))
	end := by(root, p256(), template("Not a CA"))
	constrained := by(root, p256(), template("Constrained CA", isCA, func(t *x509.Certificate) {
		t.PermittedDNSDomainsCritical, t.PermittedDNSDomains = true, []string{host}
	}))
	oldCA := weak.write(t, dir, "old")
	k.rows = []row{
		{number: 0, fault: "nothing", cfg: open, shown: k.good, want: letIn},
		{number: 1, fault: "wrong CA", cfg: open, shown: k.good, try: func(a *attempt) { a.ca = k.otherCA }, want: transport.CauseRejectsCA, but: vague},
		{number: 1, fault: "wrong CA, TLS 1.2", cfg: open, shown: k.good, try: func(a *attempt) { a.ca, a.tls12 = k.otherCA, true }, want: transport.CauseRejectsCA, but: with(vague, "Node.js", leaves)},
		{number: 1, fault: "wrong CA, mutual TLS 1.2", cfg: mutual, shown: k.good, try: func(a *attempt) { a.ca, a.ident, a.tls12 = k.otherCA, &k.device, true }, want: transport.CauseRejectsCA, but: with(vague, "Node.js", transport.CauseLeft)},
		{number: 1, fault: "wrong CA, mutual TLS", cfg: mutual, shown: k.good, try: func(a *attempt) { a.ca, a.ident = k.otherCA, &k.device }, want: transport.CauseRejectsCA, but: vague},
		{number: 2, fault: "self-signed broker certificate", cfg: open, shown: show(by(nil, p256(), template(host, forServer, all)).show()), want: transport.CauseSelfSigned},
		{number: 3, fault: "another host name", cfg: open, shown: show(leaf(inter, named("broker.example")).show(inter)), want: transport.CauseName},
		{number: 4, fault: "IP address, not in the certificate", cfg: open, shown: show(leaf(inter, named(host)).show(inter)), try: func(a *attempt) { a.name = "127.0.0.1" }, want: transport.CauseIP},
		{number: 5, fault: "IP address, in the certificate as address only", cfg: open, shown: show(leaf(inter, all).show(inter)), try: func(a *attempt) { a.name = "127.0.0.1" }, want: letIn,
			but: map[string]transport.Cause{"Mbed TLS": transport.CauseIPAsName, "BearSSL": transport.CauseIPAsName}},
		{number: 6, fault: "common name only", cfg: open, shown: show(leaf(inter).show(inter)), want: letIn, but: map[string]transport.Cause{"Go": transport.CauseNoNames}},
		{number: 7, fault: "broker certificate expired", cfg: open, shown: show(leaf(inter, all, expired).show(inter)), want: transport.CauseBrokerExpired},
		{number: 8, fault: "the client's clock is in the year 2000", cfg: open, shown: k.good, try: func(a *attempt) { a.wrong = true }, want: transport.CauseClock, but: with(with(vague, "wolfSSL", quits), "OpenSSL, TLS 1.2", transport.CauseRejectsCert)},
		{number: 9, fault: "intermediate CA not sent", cfg: open, shown: show(leaf(inter, all, func(t *x509.Certificate) { t.IssuingCertificateURL = []string{"http://ca.example/ca.der"} }).show()), want: transport.CauseChainIncomplete},
		{number: 10, fault: "SHA-1 signature", cfg: open, shown: show(by(weak, p256(), template(host, forServer, all, func(t *x509.Certificate) { t.SignatureAlgorithm = x509.SHA1WithRSA })).show()), try: func(a *attempt) { a.ca = oldCA }, want: transport.CauseSHA1, but: each(letIn, "wolfSSL", "BearSSL")},
		{number: 11, fault: "RSA key of 1,024 bits", cfg: open, shown: show(by(inter, rsaKey(1024), template(host, forServer, all)).show(inter)), want: transport.CauseWeakKey, but: each(letIn, "Node.js", "Go", "GnuTLS", "wolfSSL", "BearSSL")},
		{number: 12, fault: "Ed25519 broker key", cfg: open, shown: show(by(inter, edKey(), template(host, forServer, all)).show(inter)), want: letIn, but: each(transport.CauseKeyUnsupported, "Mbed TLS", "BearSSL")},
		{number: 13, fault: "name constraints in the chain", cfg: open, shown: show(leaf(constrained, named(host)).show(constrained)), want: letIn, but: each(transport.CauseNameConstraints, "Mbed TLS", "BearSSL")},
		{number: 14, fault: "broker certificate for clients", cfg: open, shown: show(leaf(inter, all, forClient).show(inter)), want: transport.CausePurpose, but: each(letIn, "BearSSL")},
		{number: 15, fault: "issuer is no CA", cfg: open, shown: show(leaf(end, all).show(end)), want: transport.CauseIssuerNotCA},
		{number: 16, fault: "TLS 1.1", cfg: open, shown: k.good, try: func(a *attempt) { a.tls11 = true }, want: transport.CauseVersion},
		{number: 17, fault: "TLS 1.2, profile modern", cfg: transport.Config{ClientCertificates: transport.None, Profile: transport.ProfileModern}, shown: k.good, try: func(a *attempt) { a.tls12 = true }, want: transport.CauseTLS12Excluded},
		{number: 18, fault: "no common cipher suite", cfg: open, shown: k.good, try: func(a *attempt) { a.rsa = true }, want: transport.CauseCipher},
		{number: 20, fault: "ALPN h2", cfg: open, shown: k.good, try: func(a *attempt) { a.alpn = true }, want: transport.CauseALPN},
		{number: 22, fault: "TLS to a plain port", cfg: transport.Config{Plain: true}, shown: k.good, want: transport.CauseTLSOnPlain},
		{number: 23, fault: "no client certificate", cfg: mutual, shown: k.good, want: transport.CauseNoClientCert},
		{number: 24, fault: "client certificate of another CA", cfg: mutual, shown: k.good, try: func(a *attempt) { a.ident = &k.foreign }, want: transport.CauseClientUnknownCA, but: each(transport.CauseNoClientCert, "Go")},
		{number: 25, fault: "client certificate expired", cfg: mutual, shown: k.good, try: func(a *attempt) { a.ident = &k.late }, want: transport.CauseClientExpired},
		{number: 26, fault: "client certificate for servers", cfg: mutual, shown: k.good, try: func(a *attempt) { a.ident = &k.server }, want: transport.CauseClientPurpose},
		{number: 27, fault: "client certificate revoked", cfg: mutual, shown: &shown{k.good.cert, clients, revoked{}}, try: func(a *attempt) { a.ident = &k.device }, want: transport.CauseClientRevoked},
		{number: 28, fault: "key of another certificate", cfg: mutual, shown: k.good, try: func(a *attempt) { a.ident = &k.broken }, want: transport.CauseClientKey,
			but: with(each(quits, "OpenSSL", "OpenSSL, TLS 1.2", "Python", "Node.js", "Go"), "mosquitto", transport.CauseNothingSent)},
	}
	return k
}
