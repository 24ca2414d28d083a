package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	acmelib "github.com/mholt/acmez/v3/acme"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/store"
)

func problem(kind, tried string) acmelib.Problem {
	p := acmelib.Problem{Type: acmelib.ProblemTypeNamespace + kind, Detail: "its words", Status: 400}
	if tried != "" {
		p.Resource = acmelib.Authorization{Challenges: []acmelib.Challenge{{Type: "other"}, {Type: tried, Error: &acmelib.Problem{}}}}
	}
	return p
}

// Every failure is told in plain words, with what to do.
func TestExplain(t *testing.T) {
	refused := &url.Error{Op: "Get", URL: "https://ca.lan/d", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
	for _, c := range []struct {
		err       error
		cfg       Config
		what, fix string
		near      bool
	}{
		{problem("connection", TLSALPN01), Config{}, "could not reach a.example on port 443", "tls_address", false},
		{problem("connection", TLSALPN01), Config{TLSAddress: ":443"}, "port 443", "forward it in the router", false},
		{problem("connection", HTTP01), Config{}, "could not reach a.example on port 80", "http_address", false},
		{problem("unauthorized", HTTP01), Config{}, "wrong answer from a.example: its words", "another server answers on port 80", false},
		{problem("unauthorized", DNS01), Config{}, "wrong answer", "_acme-challenge.a.example", false},
		{problem("dns", HTTP01), Config{}, "no address in the DNS for a.example", "A or AAAA record", false},
		{problem("dns", DNS01), Config{}, "no TXT record _acme-challenge.a.example", "dns_exec", false},
		{problem("caa", ""), Config{}, "CAA", "CAA record for a.example", false},
		{problem("rateLimited", ""), Config{}, "limit of acme-v02.api.letsencrypt.org", "staging = true", false},
		{problem("externalAccountRequired", ""), Config{}, "external account", "set eab_kid", false},
		{problem("externalAccountRequired", ""), Config{EABKeyID: "x"}, "external account", "not used up", false},
		{problem("rejectedIdentifier", ""), Config{}, "does not issue certificates for *.a.example", "public DNS name", false},
		{problem("invalidContact", ""), Config{}, "address in email", "leave it out", false},
		{problem("serverInternal", ""), Config{}, "has a fault", "status page", false},
		{problem("somethingNew", ""), Config{}, "somethingNew: its words", "documentation", false},
		{refused, Config{}, "acme-v02.api.letsencrypt.org cannot be reached", "firewall", true},
		{&url.Error{Op: "Get", Err: x509.UnknownAuthorityError{}}, Config{}, "not trusted", "ca_file", true},
		{context.DeadlineExceeded, Config{}, "in time", "status page", false},
		{&listenError{HTTP01, "http_address", syscall.EACCES}, Config{}, "listen for http-01", "CAP_NET_BIND_SERVICE", false},
		{&execError{"/bin/dns present x", errors.New("exit status 1"), "bad token"}, Config{}, `it says "bad token"`, "by hand", false},
		{fmt.Errorf("put: %w", store.ErrDegraded), Config{}, "store refuses", "sealmq status", true},
		{errors.New("a.example: no solvers available for remaining challenges"), Config{}, "offers none of the challenges", "challenges", false},
		{&clockError{noon, &x509.Certificate{}}, Config{}, "the clock here says", "timedatectl", false},
		{pki.CheckClock(time.Unix(0, 0)), Config{}, "clock is wrong", "timedatectl", true},
		{errors.New("a\nb\x1b[31m" + strings.Repeat("é", 1000) + "\xff"), Config{}, "a b [31mé", "documentation", false},
	} {
		got := explain("*.a.example", c.cfg.withDefaults(), fmt.Errorf("wrapped: %w", c.err))
		if !strings.Contains(got.what, c.what) || !strings.Contains(got.fix, c.fix) || got.near != c.near {
			t.Errorf("%v:\n%+v", c.err, got)
		}
		if strings.ContainsFunc(got.what+got.fix, func(r rune) bool { return r < ' ' }) || len(got.what) > 2000 || !utf8.ValidString(got.what) {
			t.Errorf("%v: not fit for a line: %q", c.err, got.what)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "120", "-1", "1e300", "Wed, 21 Oct 2065 07:28:00 GMT", "1h", "NaN"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := retryAfter(s, noon); d < 0 || d > maxRetryAfter {
			t.Errorf("%q: %v", s, d)
		}
	})
}
