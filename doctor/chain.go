package doctor

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/transport"
)

// Sizes of a chain, in bytes: what fits the buffers of most devices, and what
// does not fit those of many.
const (
	chainFits = 2 << 10
	chainBig  = 4 << 10
)

// maxChain bounds the certificates that are judged: no client takes as many,
// and each costs checks of signatures.
const maxChain = 20

func judged(chain []*x509.Certificate) []*x509.Certificate { return chain[:min(len(chain), maxChain)] }

func chainBytes(chain []*x509.Certificate) int {
	n := 0
	for _, c := range chain {
		n += len(c.Raw)
	}
	return n
}

// judgeChain judges how the chain was sent, not whether it is trusted.
func judgeChain(chain []*x509.Certificate) []Step {
	var out []Step
	note := func(reason, text, fix string) { out = append(out, warn(StepChain, CauseChain, reason, text, fix)) }
	unique := chain[:0:0]
	for _, c := range chain {
		if !slices.ContainsFunc(unique, c.Equal) {
			unique = append(unique, c)
		}
	}
	if len(unique) < len(chain) {
		note("duplicate", "the broker sends a certificate twice", "take the second copy out of the broker's certificate file")
	}
	for i := 1; i < len(unique); i++ {
		c := unique[i]
		if issues(c, unique[i-1]) {
			continue
		}
		if slices.ContainsFunc(unique, func(child *x509.Certificate) bool { return child != c && issues(c, child) }) {
			note("order", fmt.Sprintf("the chain is out of order: %s stands before its turn; BearSSL and old Mbed TLS refuse that", nameOf(c)),
				"order the broker's certificate file: the leaf, then the CA that issued it, and so on")
		} else {
			note("stray", fmt.Sprintf("the broker sends %s, which has nothing to do with the others", nameOf(c)), "take it out of the broker's certificate file")
		}
		break
	}
	if last := unique[len(unique)-1]; len(unique) > 1 && selfIssued(last) {
		note("root_sent", fmt.Sprintf("the broker also sends the root %s: %d bytes that clients do not need", nameOf(last), len(last.Raw)),
			"take the last certificate out of the broker's certificate file")
	}
	if len(out) == 0 {
		out = append(out, pass(StepChain, "%s, %d bytes", count(len(chain), "certificate"), chainBytes(chain)))
	}
	return out
}

// judgeDevices tells what small TLS stacks make of a chain that others accept.
func judgeDevices(chain []*x509.Certificate) []Step {
	var out []Step
	note := func(c transport.Cause, reason, text, fix string) {
		out = append(out, warn(StepDevices, c, reason, text, fix))
	}
	if n := chainBytes(chain); n > chainBig {
		note(CauseDevices, "chain_large", fmt.Sprintf("the chain has %d bytes; devices with small buffers (ESP8266, tuned ESP32) may not take more than %d", n, chainBig),
			"use a P-256 certificate with one intermediate CA at most: about 1,000 bytes")
	}
	for _, c := range chain {
		switch k := c.PublicKey.(type) {
		case ed25519.PublicKey:
			note(transport.CauseKeyUnsupported, "", fmt.Sprintf("%s has an Ed25519 key; Mbed TLS 2 and BearSSL do not know it", nameOf(c)), "use a P-256 key")
		case *ecdsa.PublicKey:
			if k.Curve == elliptic.P521() {
				note(transport.CauseKeyUnsupported, "", fmt.Sprintf("%s has a key on P-521; many devices leave it out", nameOf(c)), "use a P-256 key")
			}
		}
		if slices.ContainsFunc(c.Extensions, func(x pkix.Extension) bool { return x.Id.String() == "2.5.29.30" }) {
			note(transport.CauseNameConstraints, "", fmt.Sprintf("%s has name constraints; Mbed TLS 2, BearSSL and wolfSSL may refuse the chain", nameOf(c)),
				"issue the broker's certificate from a CA without name constraints")
		}
	}
	if len(out) == 0 && chainBytes(chain) <= chainFits {
		out = append(out, pass(StepDevices, "%s with %s fits small devices", nameOf(chain[0]), keyOf(chain[0])))
	} else if len(out) == 0 {
		out = append(out, pass(StepDevices, "%s with %s; %d bytes of chain are much for a small device", nameOf(chain[0]), keyOf(chain[0]), chainBytes(chain)))
	}
	return out
}

// judgeName tells whether the certificate is for host: first as Go, OpenSSL and
// most others see it, then as the small stacks do.
func judgeName(leaf *x509.Certificate, host string) Step {
	names := hosts(leaf)
	if err := leaf.VerifyHostname(host); err != nil {
		switch {
		case len(names) == 0 && matches(leaf.Subject.CommonName, host):
			return fail(StepName, transport.CauseNoNames, "",
				fmt.Sprintf("the certificate has %s as its common name only; Go, browsers and Node want a subject alternative name", show(host)),
				"issue it again with a subject alternative name; SealMQ: sealmq init --host "+show(host))
		case len(names) == 0:
			return fail(StepName, nameCause(host), "", fmt.Sprintf("the certificate names no host, so not %s", show(host)),
				"issue it again with a subject alternative name; SealMQ: sealmq init --host "+show(host))
		}
		return fail(StepName, nameCause(host), "", fmt.Sprintf("the certificate is for %s, not for %s", list(names), show(host)),
			fmt.Sprintf("connect to %s, or add the name; SealMQ: sealmq init --host %s, then SIGHUP", names[0], show(host)))
	}
	if _, err := netip.ParseAddr(host); err == nil && !slices.ContainsFunc(leaf.DNSNames, func(n string) bool { return matches(n, host) }) {
		return warn(StepName, transport.CauseIPAsName, "",
			fmt.Sprintf("the certificate has %s as an address only; Mbed TLS 2 (ESP32) and BearSSL (ESP8266) look at DNS names alone", show(host)),
			"put the address into the certificate as a DNS name too (SealMQ does), or connect by a name")
	}
	return pass(StepName, "the certificate is for %s", show(host))
}

// matches compares a DNS name of a certificate with a host as the small stacks
// do: any host is text to them, and an asterisk stands for the first label.
func matches(pattern, host string) bool {
	if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		_, tail, found := strings.Cut(host, ".")
		return found && strings.EqualFold(tail, rest)
	}
	return pattern != "" && strings.EqualFold(pattern, host)
}

func nameCause(host string) transport.Cause {
	if _, err := netip.ParseAddr(host); err == nil {
		return transport.CauseIP
	}
	return transport.CauseName
}
