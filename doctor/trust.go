package doctor

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

// verifyFailed is how every text about an untrusted certificate begins.
const verifyFailed = "certificate verify failed: "

// trust is whom the client trusts.
type trust struct {
	roots []*x509.Certificate // nil: the system's
	file  string              // where they come from
}

func (t trust) where() string {
	if t.roots == nil {
		return "the system's CAs"
	}
	return t.file
}

// judgeTrust tells whether the broker's chain, leaf first, leads to a CA that
// the client trusts, and if not, why.
func judgeTrust(chain []*x509.Certificate, t trust, now time.Time) Step {
	no := func(c transport.Cause, reason, text, fix string) Step {
		return fail(StepVerify, c, reason, verifyFailed+text, fix)
	}
	goErr := verify(chain, t, now)
	path, s := t.path(chain, goErr)
	if s != nil {
		return *s
	}
	leaf := chain[0]
	for i, c := range path {
		if i < len(path)-1 && weakSignature(c) {
			return no(transport.CauseSHA1, "", fmt.Sprintf("%s is signed with %v, which can be forged", nameOf(c), c.SignatureAlgorithm),
				"have the broker's certificate issued with SHA-256; an own CA: sealmq init")
		}
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
			return no(transport.CauseWeakKey, "", fmt.Sprintf("%s has an RSA key of %d bits, which can be broken; OpenSSL and Mbed TLS refuse it", nameOf(c), k.N.BitLen()),
				"have the broker's certificate issued for a P-256 key, or RSA of 2048 bits or more")
		}
	}
	for _, c := range path {
		if s := judgeDate(StepVerify, c, now); s != nil {
			s.Text = verifyFailed + s.Text
			return *s
		}
	}
	if !forServers(leaf) {
		return no(transport.CausePurpose, "", fmt.Sprintf("%s is not for servers (extended key usage)", nameOf(leaf)),
			"issue the broker a certificate with the extended key usage serverAuth")
	}
	for _, c := range path[1:] {
		if !c.IsCA && !c.Equal(path[len(path)-1]) {
			return no(transport.CauseIssuerNotCA, "", fmt.Sprintf("%s has issued a certificate but is none of a CA", nameOf(c)),
				"have the broker's certificate issued by a CA (basic constraints CA:TRUE)")
		}
	}
	if goErr == nil {
		return pass(StepVerify, "%s is trusted by way of %s", nameOf(leaf), t.where())
	}
	var invalid x509.CertificateInvalidError
	var constraint x509.ConstraintViolationError
	switch text := strings.TrimPrefix(goErr.Error(), "x509: "); {
	case errors.As(goErr, &invalid) && slices.Contains([]x509.InvalidReason{x509.CANotAuthorizedForThisName, x509.NameConstraintsWithoutSANs, x509.UnconstrainedName, x509.TooManyConstraints}, invalid.Reason),
		errors.As(goErr, &constraint):
		return no(transport.CauseNameConstraints, "", "a CA in the chain may not issue for these names: "+show(text),
			"issue the broker's certificate from a CA without name constraints, or for a name that they allow")
	case errors.As(goErr, &invalid) && (invalid.Reason == x509.NotAuthorizedToSign || invalid.Reason == x509.TooManyIntermediates):
		return no(transport.CauseIssuerNotCA, "", show(text), "have the broker's certificate issued by a CA that may issue it")
	default:
		return no(transport.CauseRejectsCert, "", show(text), hint(transport.CauseRejectsCert))
	}
}

// verify is the judgement of Go's own verifier, without the name.
func verify(chain []*x509.Certificate, t trust, now time.Time) error {
	o := x509.VerifyOptions{Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if t.roots != nil {
		o.Roots = x509.NewCertPool()
		for _, c := range t.roots {
			o.Roots.AddCert(c)
		}
	}
	_, err := chain[0].Verify(o)
	return err
}

// path leads from the leaf to what is trusted, whatever is wrong with its
// certificates; or a step says why there is none. The system's CAs cannot be
// listed: for them the path is what was sent.
func (t trust) path(chain []*x509.Certificate, goErr error) ([]*x509.Certificate, *Step) {
	path := []*x509.Certificate{chain[0]}
	for len(path) <= len(chain) {
		c := path[len(path)-1]
		if slices.ContainsFunc(t.roots, c.Equal) {
			return path, nil
		}
		issued := func(p *x509.Certificate) bool { return issues(p, c) }
		if i := slices.IndexFunc(t.roots, issued); i >= 0 {
			return append(path, t.roots[i]), nil
		}
		i := slices.IndexFunc(chain, func(p *x509.Certificate) bool { return issued(p) && !slices.ContainsFunc(path, p.Equal) })
		if i < 0 {
			break
		}
		path = append(path, chain[i])
	}
	if t.roots == nil {
		var unknown x509.UnknownAuthorityError
		if goErr == nil || !errors.As(goErr, &unknown) || slices.ContainsFunc(path[:max(1, len(path)-1)], weakSignature) {
			return path, nil
		}
	}
	s := t.unknown(path, len(chain))
	return nil, &s
}

// unknown says why a path does not end in what is trusted.
func (t trust) unknown(path []*x509.Certificate, sent int) Step {
	last := path[len(path)-1]
	no := func(c transport.Cause, reason, text, fix string) Step {
		return fail(StepVerify, c, reason, verifyFailed+text, fix)
	}
	get := "get the CA certificate from whoever runs the broker (SealMQ: operator/ca.pem in its data folder) and give it with --cafile"
	if t.roots != nil {
		get = fmt.Sprintf("%s is of another broker; %s", t.file, get)
	}
	switch {
	case selfIssued(path[0]):
		return no(transport.CauseSelfSigned, "", fmt.Sprintf("the broker's certificate %s is self-signed, and not in %s", nameOf(path[0]), t.where()),
			"give the broker a certificate of a CA (sealmq init makes one), or this client that certificate with --cafile, after comparing its SHA-256 "+pki.Fingerprint(path[0]))
	case slices.ContainsFunc(t.roots, func(r *x509.Certificate) bool { return bytes.Equal(r.RawSubject, last.RawIssuer) }):
		return no(transport.CauseRejectsCA, "same_name", fmt.Sprintf("the CA %s in %s has another key than the one that issued %s: it was made anew", issuerOf(last), t.file, nameOf(last)),
			"get the new CA certificate from whoever runs the broker, and install it in place of "+t.file)
	case selfIssued(last):
		return no(transport.CauseRejectsCA, "", fmt.Sprintf("the broker's CA %s is not in %s (SHA-256 %s)", nameOf(last), t.where(), pki.Fingerprint(last)), get)
	case t.lacksIntermediate(last, sent):
		return no(transport.CauseChainIncomplete, "", fmt.Sprintf("%s was issued by %s, which the broker does not send and %s does not have", nameOf(last), issuerOf(last), t.where()),
			"let the broker send the whole chain: a file with the leaf first, then the CA that issued it (fullchain.pem)")
	}
	return no(transport.CauseRejectsCA, "", fmt.Sprintf("%s was issued by %s, which is not in %s", nameOf(last), issuerOf(last), t.where()), get)
}

// lacksIntermediate guesses whether the issuer of a leaf that came alone hangs
// below something that is trusted: a CA that was not sent cannot be seen. Public
// CAs, which say where their certificates are, never issue from a root.
func (t trust) lacksIntermediate(last *x509.Certificate, sent int) bool {
	if sent > 1 {
		return false
	}
	return len(last.IssuingCertificateURL) > 0 || slices.ContainsFunc(t.roots, func(r *x509.Certificate) bool {
		return len(r.Subject.Organization) > 0 && slices.Equal(r.Subject.Organization, last.Issuer.Organization)
	})
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

// issues tells whether parent issued child, CA or not. A signature with SHA-1
// is not checked: the key identifiers have to do.
func issues(parent, child *x509.Certificate) bool {
	if !bytes.Equal(parent.RawSubject, child.RawIssuer) {
		return false
	}
	err := parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature)
	var insecure x509.InsecureAlgorithmError
	if errors.As(err, &insecure) {
		a, b := parent.SubjectKeyId, child.AuthorityKeyId
		return len(a) == 0 || len(b) == 0 || bytes.Equal(a, b)
	}
	return err == nil
}

func weakSignature(c *x509.Certificate) bool {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
		return true
	}
	return false
}

func forServers(c *x509.Certificate) bool { return forPurpose(c, x509.ExtKeyUsageServerAuth) }

func forPurpose(c *x509.Certificate, u x509.ExtKeyUsage) bool {
	return len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, u) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}
