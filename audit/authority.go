package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

const day = 24 * time.Hour

const (
	// foreignNotice is how long before its end a CA of somebody else is reported: its owner has to act.
	foreignNotice = 90 * day
	// soon is when an end becomes urgent.
	soon = 30 * day
)

func (j *judge) authorities() {
	j.revoked = make(map[string]string)
	roots := 0
	for _, ca := range j.CAs {
		if ca.Accepted && isRoot(ca.Cert) {
			roots++
		}
	}
	announce := "sealmq ca announce"
	if roots > 1 {
		announce = "sealmq ca status, which tells the next step to the new root"
	}
	for _, ca := range j.CAs {
		renew := "sealmq ca renew"
		if isRoot(ca.Cert) {
			renew = announce
		}
		j.authority(ca, pki.NeedsRenewal(ca.Cert, j.Now), renew, announce, "sealmq ca retire")
	}
	for _, ca := range j.ForeignCAs {
		where := fmt.Sprintf("client_ca of listener %s", ca.Listener)
		j.authority(ca, ca.Cert.NotAfter.Sub(j.Now) < foreignNotice, "put its successor into "+where,
			"put a CA with a stronger key into "+where, "take it out of "+where)
	}
}

// authority judges one CA. due: it is near its end.
func (j *judge) authority(ca CA, due bool, renew, replace, remove string) {
	f := Finding{CA: ca.Name, Listener: ca.Listener, Serial: hexSerial(ca.Cert)}
	if ca.Revoked {
		j.revoked[registry.KeyID(ca.Cert)] = ca.Name
	}
	if !ca.Accepted {
		return
	}
	if !ca.Revoked {
		j.report.Forecast.CAs = append(j.report.Forecast.CAs, End{Name: ca.Name, NotAfter: ca.Cert.NotAfter})
	}
	if ca.Revoked {
		f := f
		f.Check, f.Severity, f.Fix = CARevoked, Critical, remove
		f.Text = "the CA is revoked, and clients with certificates of it are accepted"
		j.find(f)
	} else if due {
		f := f
		f.Check, f.Fix = CAExpiring, renew
		f.Severity, f.Text = j.ending("the CA certificate", ca.Cert.NotAfter)
		j.find(f)
	}
	if why := weakness(ca.Cert, true); why != "" {
		f.Check, f.Severity, f.Fix = CAKeyQuality, Critical, replace
		f.Text = "the CA is weak: " + why
		j.find(f)
	}
}

// ending describes an end that is near, or over.
func (j *judge) ending(what string, at time.Time) (Severity, string) {
	left := at.Sub(j.Now)
	date := at.UTC().Format(time.DateOnly)
	switch {
	case left <= 0:
		return Critical, fmt.Sprintf("%s ended on %s, %s ago", what, date, inDays(-left))
	case left < soon:
		return High, fmt.Sprintf("%s ends on %s, in %s", what, date, inDays(left))
	}
	return Medium, fmt.Sprintf("%s ends on %s, in %s", what, date, inDays(left))
}

func inDays(d time.Duration) string {
	switch n := int(d / day); {
	case d < time.Hour:
		return "less than an hour"
	case n == 0:
		return fmt.Sprintf("%d h", int(d/time.Hour))
	case n == 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}

func isRoot(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

func hexSerial(c *x509.Certificate) string {
	b := c.SerialNumber.Bytes()
	if len(b) == 0 {
		b = []byte{0}
	}
	return fmt.Sprintf("%x", b)
}

// KeyOf describes the key of a client's certificate, for Broker.Keys.
func KeyOf(device string, leaf *x509.Certificate) Key {
	return Key{Device: device, Serial: hexSerial(leaf), Kind: keyKind(leaf), Weak: weakness(leaf, false)}
}

func keyKind(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "unknown"
}

// weakness says why a certificate is weak. The signature of a trust anchor proves nothing, and so cannot be weak.
func weakness(c *x509.Certificate, ca bool) string {
	if k, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P521() {
		if err := pki.CheckKey(c.PublicKey); err != nil {
			return fmt.Sprintf("its key, %s: %v", keyKind(c), err)
		}
	}
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		if !ca || !isRoot(c) {
			return "it is signed with " + c.SignatureAlgorithm.String()
		}
	}
	return ""
}

func (j *judge) lists() {
	for _, l := range j.CRLs {
		f := Finding{Check: ListStale, CA: l.Issuer, Listener: l.Listener, Severity: Medium}
		switch {
		case l.Missing:
			f.Text = "there is no revocation list of the CA"
		case l.Stale:
			f.Text = fmt.Sprintf("the revocation list was due on %s", l.Next.UTC().Format(time.DateOnly))
		case l.Err != nil:
			f.Text = fmt.Sprintf("a newer revocation list is not in force: %v", l.Err)
		default:
			continue
		}
		f.Fix = fmt.Sprintf("put a newer list where client_crl of listener %s says", l.Listener)
		if l.Listener == "" {
			f.Fix = "start the broker, which signs it: sealmq serve"
		} else if l.Deny && (l.Missing || l.Stale) {
			f.Severity = Critical
			f.Text += "; its clients are refused"
		}
		j.find(f)
	}
}
