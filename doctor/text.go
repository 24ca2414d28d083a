package doctor

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

// shown bounds, in runes, what is repeated of the other side's words.
const shown = 200

// show makes a stranger's words fit for a line of text and for a terminal.
func show(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > shown {
			b.WriteString("…")
			break
		}
		if !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// hint is what the broker's log says to do about a cause.
func hint(c transport.Cause) string {
	_, h := (&transport.HandshakeError{Cause: c}).Refused()
	return h
}

func fail(name string, c transport.Cause, reason, text, fix string) Step {
	return Step{Name: name, Status: Failed, Cause: c, Reason: reason, Text: text, Fix: fix}
}

func warn(name string, c transport.Cause, reason, text, fix string) Step {
	return Step{Name: name, Status: Warning, Cause: c, Reason: reason, Text: text, Fix: fix}
}

func pass(name, format string, a ...any) Step {
	return Step{Name: name, Status: OK, Text: fmt.Sprintf(format, a...)}
}

// nameOf is how a certificate is spoken of.
func nameOf(c *x509.Certificate) string {
	if s := c.Subject.CommonName; s != "" {
		return fmt.Sprintf("%q", show(s))
	}
	if s := c.Subject.String(); s != "" {
		return fmt.Sprintf("%q", show(s))
	}
	if names := hosts(c); len(names) > 0 {
		return fmt.Sprintf("%q", names[0])
	}
	return "without a name"
}

func issuerOf(c *x509.Certificate) string {
	if s := c.Issuer.CommonName; s != "" {
		return fmt.Sprintf("%q", show(s))
	}
	return fmt.Sprintf("%q", show(c.Issuer.String()))
}

// hosts are the names of a certificate, each once and at most twenty.
func hosts(c *x509.Certificate) []string {
	var out []string
	seen := map[string]bool{}
	add := func(s string) {
		if s = show(s); !seen[s] && len(out) < 20 {
			seen[s] = true
			out = append(out, s)
		}
	}
	for _, n := range c.DNSNames {
		add(n)
	}
	for _, ip := range c.IPAddresses {
		add(ip.String())
	}
	return out
}

func keyOf(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return c.PublicKeyAlgorithm.String()
}

func certificate(c *x509.Certificate) Certificate {
	return Certificate{
		Subject: show(c.Subject.String()), Issuer: show(c.Issuer.String()), Serial: fmt.Sprintf("%x", c.SerialNumber),
		SHA256: pki.Fingerprint(c), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
		Names: hosts(c), Key: keyOf(c), Signature: c.SignatureAlgorithm.String(),
	}
}

// list joins the first few of some words.
func list(words []string) string {
	if len(words) > 6 {
		return strings.Join(words[:6], ", ") + ", …"
	}
	return strings.Join(words, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
