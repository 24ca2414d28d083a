package transport

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// rejection is what is known when a client has refused the broker's certificate.
type rejection struct {
	alert   int                 // that the client sent; -1: it just left
	tls13   bool                // the client offers it
	openssl bool                // the alert was not encrypted although TLS 1.3 is spoken
	name    string              // that the client asked for
	local   netip.Addr          // where the connection arrived; may be invalid
	chain   []*x509.Certificate // that the broker showed; nil if it is not known
	now     time.Time
}

// TLS alerts [RFC 8446, 6].
const (
	alertBadCertificate   = 42
	alertUnsupported      = 43
	alertRevoked          = 44
	alertExpired          = 45
	alertCertificateOther = 46
	alertUnknownCA        = 48
	alertInternal         = 80
)

// cause judges the broker's own certificate as the client may have done. What
// is wrong with it explains an alert that could mean many things; where
// nothing is, the client is.
func (r *rejection) cause() (Cause, Via) {
	if len(r.chain) == 0 {
		return r.unknownChain()
	}
	var found Cause
	switch r.alert {
	case alertUnknownCA:
		found = r.fault(r.notCA, r.selfSigned, r.incomplete)
	case alertExpired:
		found = r.fault(r.dates)
	case alertRevoked:
		return CauseBrokerRevoked, ViaAlert
	case alertUnsupported:
		found = r.fault(r.purpose, r.weakKey, r.sha1, r.constraints)
	default:
		found = r.fault(r.dates, r.notCA, r.purpose, r.sha1, r.weakKey, r.noNames, r.names, r.constraints, r.selfSigned, r.incomplete)
	}
	if found != "" {
		return found, ViaCheck
	}
	switch {
	case r.alert == alertUnknownCA:
		return CauseRejectsCA, ViaAlert
	case r.alert == alertExpired,
		// Mbed TLS says so of a date in the future.
		r.alert == alertCertificateOther && !r.openssl,
		// OpenSSL, too, with an alert that it otherwise has for what was ruled out above.
		r.alert == alertBadCertificate && r.openssl:
		return CauseClock, ViaAlert
	case r.alert < 0:
		return CauseSilentRejection, ViaSilence
	}
	return CauseRejectsCert, ViaAlert
}

func (r *rejection) unknownChain() (Cause, Via) {
	switch r.alert {
	case alertUnknownCA:
		return CauseRejectsCA, ViaAlert
	case alertExpired:
		return CauseClockOrExpired, ViaAlert
	case alertRevoked:
		return CauseBrokerRevoked, ViaAlert
	case -1:
		return CauseSilentRejection, ViaSilence
	}
	return CauseRejectsCert, ViaAlert
}

func (r *rejection) fault(checks ...func() Cause) Cause {
	for _, f := range checks {
		if c := f(); c != "" {
			return c
		}
	}
	return ""
}

func (r *rejection) leaf() *x509.Certificate { return r.chain[0] }

func (r *rejection) dates() Cause {
	for _, c := range r.chain {
		if r.now.Before(c.NotBefore) || r.now.After(c.NotAfter) {
			return CauseBrokerExpired
		}
	}
	return ""
}

func (r *rejection) purpose() Cause {
	c := r.leaf()
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 &&
		!slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return CausePurpose
	}
	return ""
}

func (r *rejection) sha1() Cause {
	for _, c := range r.chain {
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			continue // nobody checks how a root has signed itself
		}
		switch c.SignatureAlgorithm {
		case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.MD5WithRSA, x509.MD2WithRSA:
			return CauseSHA1
		}
	}
	return ""
}

func (r *rejection) weakKey() Cause {
	for _, c := range r.chain {
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
			return CauseWeakKey
		}
	}
	return ""
}

func (r *rejection) notCA() Cause {
	for _, c := range r.chain[1:] {
		if !c.IsCA {
			return CauseIssuerNotCA
		}
	}
	return ""
}

func (r *rejection) constraints() Cause {
	for _, c := range r.chain {
		for _, e := range c.Extensions {
			if e.Id.String() == "2.5.29.30" {
				return CauseNameConstraints
			}
		}
	}
	return ""
}

func (r *rejection) selfSigned() Cause {
	c := r.leaf()
	if bytes.Equal(c.RawIssuer, c.RawSubject) && !(c.IsCA && len(r.chain) > 1) {
		return CauseSelfSigned
	}
	return ""
}

// incomplete: no CA is sent, and one is to be got somewhere, as those below a
// root are.
func (r *rejection) incomplete() Cause {
	if c := r.leaf(); len(r.chain) == 1 && len(c.IssuingCertificateURL) > 0 {
		return CauseChainIncomplete
	}
	return ""
}

func (r *rejection) noNames() Cause {
	if c := r.leaf(); len(c.DNSNames)+len(c.IPAddresses) == 0 {
		return CauseNoNames
	}
	return ""
}

// names looks for what the client must have looked for. A client without a
// name has an address, and the broker knows where its packets arrive.
func (r *rejection) names() Cause {
	ip, err := netip.ParseAddr(strings.Trim(r.name, "[]"))
	if err != nil {
		if r.name != "" {
			if r.leaf().VerifyHostname(r.name) != nil {
				return CauseName
			}
			return ""
		}
		if ip = r.local; !ip.IsValid() {
			return ""
		}
	}
	ip = ip.Unmap()
	has := slices.ContainsFunc(r.leaf().IPAddresses, func(a net.IP) bool {
		b, ok := netip.AddrFromSlice(a)
		return ok && b.Unmap() == ip
	})
	switch {
	case !has:
		return CauseIP
	case !r.tls13 && !slices.Contains(r.leaf().DNSNames, ip.String()):
		return CauseIPAsName
	}
	return ""
}

// chainOf reads a certificate's chain; what cannot be read is left out.
func chainOf(c *tls.Certificate) []*x509.Certificate {
	if c == nil {
		return nil
	}
	var chain []*x509.Certificate
	for _, der := range c.Certificate {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			break
		}
		chain = append(chain, x)
	}
	return chain
}
