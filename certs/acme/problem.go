package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	acmelib "github.com/mholt/acmez/v3/acme"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/store"
)

// listenError: what shall be opened for a challenge cannot be.
type listenError struct {
	challenge, key string
	err            error
}

func (e *listenError) Error() string { return fmt.Sprintf("listen for %s: %v", e.challenge, e.err) }
func (e *listenError) Unwrap() error { return e.err }

// cause is why there was no certificate, for people.
type cause struct {
	what string // bounded, and without control characters
	fix  string // what to do, a line
	near bool   // the CA was not asked: it is no burden to try again soon
}

// explain puts an error of an attempt to get a certificate for name into plain words.
func explain(name string, cfg Config, err error) cause {
	host := cfg.Directory
	if u, err := url.Parse(cfg.Directory); err == nil {
		host = u.Host
	}
	var (
		listen  *listenError
		program *execError
		problem acmelib.Problem
		trust   x509.UnknownAuthorityError
		network *url.Error
		hint    interface{ Hint() string }
	)
	switch {
	case errors.As(err, &listen):
		return cause{what: clip(err), fix: fmt.Sprintf("free that address, allow the server to listen on it (AmbientCapabilities=CAP_NET_BIND_SERVICE), or set %s and forward the port", listen.key)}
	case errors.As(err, &program):
		return cause{what: clip(program), fix: "run the program of dns_exec by hand, with present, a name and a value: it must end with status 0"}
	case errors.As(err, &problem):
		return explainProblem(name, host, cfg, problem)
	case errors.Is(err, store.ErrDegraded):
		return cause{what: clip(err), fix: "see sealmq status for what is wrong with the store", near: true}
	case errors.As(err, &trust):
		return cause{what: fmt.Sprintf("the certificate of %s itself is not trusted: %s", host, clip(trust)), fix: "set ca_file to the root of that CA", near: true}
	case errors.Is(err, context.DeadlineExceeded):
		return cause{what: fmt.Sprintf("%s did not come to an end in time", host), fix: "look at the status page of the CA; the network between may be slow too"}
	case errors.As(err, &network):
		return cause{what: fmt.Sprintf("%s cannot be reached: %s", host, clip(network.Err)), fix: "this machine must reach it over https: look at DNS, firewall and proxy (HTTPS_PROXY)", near: true}
	case strings.Contains(err.Error(), "no solvers available"): // acmez has no type for it
		return cause{what: host + " offers none of the challenges that are allowed", fix: "allow another in challenges: " + clip(err)}
	case errors.As(err, &hint):
		return cause{what: clip(err), fix: hint.Hint(), near: errors.Is(err, pki.ErrClock)}
	}
	return cause{what: clip(err), fix: "see the documentation of the CA"}
}

// explainProblem translates a problem document (RFC 8555 section 6.7).
func explainProblem(name, host string, cfg Config, p acmelib.Problem) cause {
	kind := strings.TrimPrefix(p.Type, acmelib.ProblemTypeNamespace)
	what, fix := host+" says "+clip(errors.New(kind)), "see the documentation of the CA"
	base := strings.TrimPrefix(name, "*.")
	port, key := "80", "http_address"
	tried := challengeOf(p)
	if tried == TLSALPN01 {
		port, key = "443", "tls_address"
	}
	switch kind {
	case "connection", "tls":
		what = fmt.Sprintf("the CA could not reach %s on port %s", base, port)
		fix = fmt.Sprintf("port %s of %s must lead here from the internet: open it in the firewall, forward it in the router to %s", port, base, key)
		if tried == TLSALPN01 && cfg.TLSAddress == "" {
			fix = fmt.Sprintf("port 443 of %s must lead to an MQTT listener with TLS from the internet, or set tls_address = \":443\"", base)
		}
	case "unauthorized", "incorrectResponse":
		what = fmt.Sprintf("the CA got a wrong answer from %s", base)
		switch tried {
		case DNS01:
			fix = fmt.Sprintf("the program of dns_exec must end only when every name server of the zone shows the TXT record of _acme-challenge.%s", base)
		case HTTP01, TLSALPN01:
			fix = fmt.Sprintf("another server answers on port %s of %s: its DNS must lead here (A and AAAA), and no proxy may stand between", port, base)
		default:
			fix = "look at what the CA says"
		}
	case "dns":
		what = fmt.Sprintf("the CA found no address in the DNS for %s", base)
		fix = fmt.Sprintf("add an A or AAAA record for %s that leads here", base)
		if tried == DNS01 {
			what = fmt.Sprintf("the CA found no TXT record _acme-challenge.%s", base)
			fix = "the program of dns_exec must end only when every name server of the zone shows the record"
		}
	case "caa":
		what = fmt.Sprintf("the DNS of %s does not allow this CA to issue (CAA record)", base)
		fix = fmt.Sprintf("add a CAA record for %s that names the CA, or remove those that are there", base)
	case "rateLimited":
		what = fmt.Sprintf("a limit of %s is reached", host)
		fix = "wait; for trials set staging = true, whose limits are wide"
	case "externalAccountRequired":
		what = host + " wants an external account"
		fix = "set eab_kid and eab_key_file to what the CA gives its customers"
		if cfg.EABKeyID != "" {
			fix = "look whether eab_kid and eab_key_file are those of this CA, and not used up"
		}
	case "rejectedIdentifier", "unsupportedIdentifier":
		what = fmt.Sprintf("%s does not issue certificates for %s", host, name)
		fix = "public CAs want a public DNS name or address; take a private CA (directory, ca_file), or our own CA, for this one"
	case "userActionRequired":
		what = host + " wants its terms of service to be accepted anew"
		fix = "open " + clip(errors.New(p.Instance))
	case "invalidContact", "unsupportedContact":
		what = host + " does not take the address in email"
		fix = "set email to one that is in use, or leave it out"
	case "accountDoesNotExist":
		what = host + " does not know our account"
		fix = "it is registered anew at the next attempt"
	case "malformed", "serverInternal", "badNonce", "badCSR", "badSignatureAlgorithm", "orderNotReady":
		if p.Status >= 500 || kind == "serverInternal" {
			what, fix = host+" has a fault", "look at the status page of the CA; it is tried again"
		}
	}
	if p.Detail != "" {
		what += ": " + clip(errors.New(p.Detail))
	}
	return cause{what: what, fix: fix}
}

// challengeOf is the challenge that failed, "" when the problem is of something else.
func challengeOf(p acmelib.Problem) string {
	authz, ok := p.Resource.(acmelib.Authorization)
	if !ok {
		return ""
	}
	for _, c := range authz.Challenges {
		if c.Error != nil {
			return c.Type
		}
	}
	return ""
}

// clip makes text that came over the network, or holds such, fit for a line.
func clip(err error) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(err.Error(), "?"))
	if r := []rune(s); len(r) > 400 {
		s = string(r[:400]) + "…"
	}
	return s
}
