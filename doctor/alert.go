package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/sealmq/sealmq/transport"
)

// remoteAlert is the number of the alert that the broker sent, -1 if it sent
// none: crypto/tls tells the text only.
func remoteAlert(err error) int {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return -1
	}
	text := op.Err.Error()
	for n := range 256 {
		if tls.AlertError(n).Error() == text {
			return n
		}
	}
	return -1
}

func alertName(n int) string {
	return fmt.Sprintf("alert %d (%s)", n, strings.TrimPrefix(tls.AlertError(n).Error(), "tls: "))
}

// judgeHelloAlert explains an alert in answer to the ClientHello.
func judgeHelloAlert(n int, host string, alpn []string) Step {
	var s Step
	switch n {
	case 70:
		s = fail(StepVersions, transport.CauseVersion, "", "the broker speaks neither TLS 1.2 nor 1.3", "update the broker: clients need TLS 1.2 or 1.3")
	case 40, 47, 71:
		s = fail(StepVersions, transport.CauseCipher, "", "the broker has no cipher suite, group or signature in common with this client",
			"let the broker accept ECDHE with AES-GCM or ChaCha20-Poly1305 on P-256 or X25519, and give it a P-256 or RSA certificate")
	case 112:
		s = fail(StepName, CauseServerName, "", "the broker has no certificate for the name "+show(host), "connect by a name that the broker has, or add this one to it")
	case 120:
		s = fail(StepALPN, transport.CauseALPN, "", "the broker speaks none of the protocols asked for: "+show(strings.Join(alpn, ", ")), "ask for another one with --alpn, or for none")
	default:
		s = fail(StepTLS, transport.CauseOther, "alert", "the broker ended the handshake", "look into the broker's log")
	}
	s.Text += ": " + alertName(n)
	s.Alert = n
	return s
}

// identity is the client certificate, as far as it matters here.
type identity struct {
	asked bool                // by the broker
	chain []*x509.Certificate // empty: there is none
	file  string
	cas   [][]byte // raw subjects of the CAs that the broker named
}

// judgeLocal judges the client certificate before it is shown. All of it are
// warnings: it is the broker that decides.
func judgeLocal(id identity, now time.Time) []Step {
	note := func(c transport.Cause, reason, text, fix string) Step {
		return warn(StepClientCert, c, reason, text, fix)
	}
	if len(id.chain) == 0 {
		return nil
	}
	var out []Step
	leaf := id.chain[0]
	switch {
	case now.After(leaf.NotAfter):
		out = append(out, note(transport.CauseClientExpired, "expired", fmt.Sprintf("%s expired on %s, and now is %s", id.file, stamp(leaf.NotAfter), stamp(now)),
			"renew it (SealMQ: sealmq device renew ID, or over MQTT), or set this machine's clock"))
	case now.Before(leaf.NotBefore):
		out = append(out, note(transport.CauseClientExpired, "not_yet_valid", fmt.Sprintf("%s is valid from %s, and now is %s", id.file, stamp(leaf.NotBefore), stamp(now)),
			"set this machine's clock (SNTP)"))
	}
	if !forPurpose(leaf, x509.ExtKeyUsageClientAuth) {
		out = append(out, note(transport.CauseClientPurpose, "", id.file+" is not for clients (extended key usage): certificates of public CAs no longer are",
			hint(transport.CauseClientCertificate)))
	}
	for i := 1; i < len(id.chain); i++ {
		if !issues(id.chain[i], id.chain[i-1]) {
			out = append(out, note(transport.CauseClientUnknownCA, "order", fmt.Sprintf("in %s, %s did not issue the certificate before it", id.file, nameOf(id.chain[i])),
				"order the file: the client's certificate first, then the CA that issued it, and so on"))
			break
		}
	}
	if len(id.cas) > 0 && !id.named() {
		out = append(out, note(transport.CauseClientUnknownCA, "not_named", fmt.Sprintf("%s was issued by %s, which is none of the CAs that the broker names; many clients keep the certificate to themselves then", id.file, issuerOf(leaf)),
			"use a certificate of "+issuersText(id.cas)+", or have its CA added to the broker (client_ca)"))
	}
	return out
}

// named tells whether the broker named a CA of the chain.
func (id *identity) named() bool {
	for _, c := range id.chain {
		for _, ca := range id.cas {
			if string(ca) == string(c.RawIssuer) || string(ca) == string(c.RawSubject) {
				return true
			}
		}
	}
	return false
}

// judgeClientAlert explains an alert that came once the broker could judge the
// client: in the handshake of TLS 1.2, after it with TLS 1.3.
func judgeClientAlert(n int, id identity) Step {
	have := len(id.chain) > 0
	no := func(c transport.Cause, reason, text, fix string) Step {
		s := fail(StepClientCert, c, reason, text+": "+alertName(n), fix)
		s.Alert = n
		return s
	}
	leaf := ""
	if have {
		leaf = fmt.Sprintf("%s (%s, issued by %s)", id.file, nameOf(id.chain[0]), issuerOf(id.chain[0]))
	}
	absent := func() Step {
		return no(transport.CauseNoClientCert, "", "the broker wants a client certificate"+byCAs(id.cas), "--cert FILE --key FILE; "+hint(transport.CauseNoClientCert))
	}
	switch {
	case n == 116, !have && id.asked && (n == 40 || n == 42 || n == 46):
		return absent()
	case !have && id.asked && n != 70 && n != 80 && n != 120 && n != 112:
		return absent()
	case !have:
		s := judgeHelloAlert(n, "", nil)
		s.Name = StepClientCert
		return s
	}
	switch n {
	case 48:
		return no(transport.CauseClientUnknownCA, "", "the broker does not know the CA of "+leaf,
			"if the CA is below one that the broker knows, put it behind the certificate in the file; otherwise "+hint(transport.CauseClientUnknownCA))
	case 45:
		return no(transport.CauseClientExpired, "", "to the broker, "+leaf+" has expired or is not yet valid", hint(transport.CauseClientExpired))
	case 44:
		return no(transport.CauseClientRevoked, "", leaf+" is revoked", "issue the client a new certificate, with a new key")
	case 42, 43, 46, 49:
		if !forPurpose(id.chain[0], x509.ExtKeyUsageClientAuth) {
			return no(transport.CauseClientPurpose, "", "the broker refuses "+leaf+", which is not for clients (extended key usage)", hint(transport.CauseClientCertificate))
		}
		return no(transport.CauseClientCertificate, "", "the broker refuses "+leaf+"; it may be revoked, or not for clients", "look into the broker's log for the cause; "+hint(transport.CauseClientCertificate))
	case 51:
		return no(transport.CauseClientKey, "", "to the broker, the key does not belong to "+leaf, hint(transport.CauseClientKey))
	case 40, 47, 71:
		return no(transport.CauseClientCertificate, "", "the broker does not accept "+leaf, "use a certificate with a P-256 or RSA 2048 key; look into the broker's log")
	}
	s := judgeHelloAlert(n, "", nil)
	s.Name = StepClientCert
	return s
}

func byCAs(cas [][]byte) string {
	if len(cas) == 0 {
		return ""
	}
	return " of " + issuersText(cas)
}

func issuersText(cas [][]byte) string { return list(issuers(cas)) }

// issuers are the names of CAs that the broker named, at most twenty.
func issuers(cas [][]byte) []string {
	var out []string
	for _, raw := range cas[:min(len(cas), 20)] {
		out = append(out, show(subject(raw)))
	}
	return out
}
