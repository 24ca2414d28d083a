package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/transport"
)

func TestJudgeLookup(t *testing.T) {
	for _, tt := range []struct {
		host   string
		err    error
		cause  transport.Cause
		reason string
	}{
		{"broker", &net.DNSError{IsNotFound: true}, CauseDNS, ""},
		{"broker.lan", nil, CauseDNS, ""},
		{"broker.lan", &net.DNSError{IsTimeout: true}, transport.CauseTimeout, "dns"},
		{"broker.lan", context.DeadlineExceeded, transport.CauseTimeout, "dns"},
		{"broker.lan", errors.New("server misbehaving"), CauseDNS, "failed"},
	} {
		s := judgeLookup(tt.host, tt.err)
		if s.Status != Failed || s.Cause != tt.cause || s.Reason != tt.reason || s.Fix == "" {
			t.Errorf("%v: %+v", tt.err, s)
		}
	}
}

func TestJudgeDial(t *testing.T) {
	wrap := func(e error) error { return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", e)} }
	for _, tt := range []struct {
		err   error
		cause transport.Cause
	}{
		{wrap(syscall.ECONNREFUSED), CauseRefused},
		{wrap(syscall.ETIMEDOUT), transport.CauseTimeout},
		{context.DeadlineExceeded, transport.CauseTimeout},
		{wrap(syscall.EHOSTUNREACH), CauseUnreachable},
		{wrap(syscall.ENETUNREACH), CauseUnreachable},
		{wrap(syscall.ECONNRESET), CauseHungUp},
		{context.Canceled, transport.CauseClosed},
		{errors.New("?"), CauseUnreachable},
	} {
		if s := judgeDial("h:1", tt.err); s.Status != Failed || s.Cause != tt.cause || s.Text == "" {
			t.Errorf("%v: %+v", tt.err, s)
		}
	}
}

// TestJudgeClientAlert goes through every alert, with and without a certificate.
func TestJudgeClientAlert(t *testing.T) {
	root := newCA(t, "root", nil)
	with := identity{asked: true, chain: []*x509.Certificate{root.client().cert}, file: "cert.pem"}
	wrong := identity{asked: true, chain: []*x509.Certificate{root.server().cert}, file: "cert.pem"}
	want := map[int][3]transport.Cause{ // with a certificate, without though asked, without
		40:  {transport.CauseClientCertificate, transport.CauseNoClientCert, transport.CauseCipher},
		42:  {transport.CauseClientCertificate, transport.CauseNoClientCert, transport.CauseOther},
		43:  {transport.CauseClientCertificate, transport.CauseNoClientCert, transport.CauseOther},
		44:  {transport.CauseClientRevoked, transport.CauseNoClientCert, transport.CauseOther},
		45:  {transport.CauseClientExpired, transport.CauseNoClientCert, transport.CauseOther},
		46:  {transport.CauseClientCertificate, transport.CauseNoClientCert, transport.CauseOther},
		48:  {transport.CauseClientUnknownCA, transport.CauseNoClientCert, transport.CauseOther},
		49:  {transport.CauseClientCertificate, transport.CauseNoClientCert, transport.CauseOther},
		51:  {transport.CauseClientKey, transport.CauseNoClientCert, transport.CauseOther},
		70:  {transport.CauseVersion, transport.CauseVersion, transport.CauseVersion},
		80:  {transport.CauseOther, transport.CauseOther, transport.CauseOther},
		112: {CauseServerName, CauseServerName, CauseServerName},
		116: {transport.CauseNoClientCert, transport.CauseNoClientCert, transport.CauseNoClientCert},
		120: {transport.CauseALPN, transport.CauseALPN, transport.CauseALPN},
	}
	for n := range 256 {
		for i, id := range []identity{with, {asked: true}, {}} {
			s := judgeClientAlert(n, id)
			if s.Status != Failed || s.Cause == "" || s.Fix == "" || s.Alert != n || s.Name != StepClientCert || !strings.Contains(s.Text, fmt.Sprintf("alert %d (", n)) {
				t.Errorf("alert %d: %+v", n, s)
			}
			if w, ok := want[n]; ok && s.Cause != w[i] {
				t.Errorf("alert %d, case %d: %s, want %s", n, i, s.Cause, w[i])
			}
		}
	}
	if s := judgeClientAlert(42, wrong); s.Cause != transport.CauseClientPurpose {
		t.Errorf("certificate for servers: %+v", s)
	}
}

func TestRemoteAlert(t *testing.T) {
	for n := range 256 {
		err := fmt.Errorf("read: %w", &net.OpError{Op: "remote error", Err: tls.AlertError(n)})
		got := remoteAlert(err)
		// Numbers without a name of their own have one text each.
		if got != n {
			t.Errorf("alert %d read as %d", n, got)
		}
	}
	if remoteAlert(io.EOF) != -1 || remoteAlert(nil) != -1 {
		t.Error("an alert out of nothing")
	}
}

// TestMatches compares names as the small stacks do.
func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, host string
		want          bool
	}{
		{"a.example", "A.Example", true}, {"*.example", "a.example", true}, {"*.example", "a.b.example", false},
		{"*.example", "example", false}, {"10.0.0.1", "10.0.0.1", true}, {"", "", false}, {"*", "a", false}, {"a.*", "a.b", false},
	} {
		if got := matches(tt.pattern, tt.host); got != tt.want {
			t.Errorf("%q for %q: %v", tt.pattern, tt.host, got)
		}
	}
}

func TestJudgeDates(t *testing.T) {
	now := time.Now()
	leaf := newCA(t, "root", nil).server().cert
	chain := []*x509.Certificate{leaf}
	for _, tt := range []struct {
		name        string
		now, server time.Time
		status      Status
		reason      string
	}{
		{"right", now, time.Time{}, OK, ""},
		{"right by both", now, now.Add(time.Minute), OK, ""},
		{"ahead", now, now.Add(-time.Hour), Warning, "clock"},
		{"behind", now, now.Add(time.Hour), Warning, "clock"},
		{"of 1970", time.Unix(1e6, 0), time.Time{}, Failed, "clock"},
		{"before", leaf.NotBefore.Add(-time.Second), time.Time{}, Failed, "not_yet_valid"},
		{"after", leaf.NotAfter.Add(time.Second), time.Time{}, Failed, ""},
		{"near the end", leaf.NotAfter.Add(-time.Hour), time.Time{}, Warning, ""},
	} {
		s := judgeDates(chain, tt.now, tt.server)[0]
		if s.Status != tt.status || s.Reason != tt.reason {
			t.Errorf("%s: %+v", tt.name, s)
		}
	}
}

func TestJudgeReason(t *testing.T) {
	for c := range 256 {
		s := judgeReason(&refusal{mqtt.CONNACK, mqtt.ReasonCode(c), "because\x1b[31m", ""}, c%2 == 0, Options{})
		if s.Status != Failed || s.Fix == "" || s.Code != c || strings.Contains(s.Text, "\x1b") || !strings.Contains(s.Text, "because") {
			t.Errorf("code %#x: %+v", c, s)
		}
	}
	if s := judgeReason(&refusal{code: mqtt.ServerMoved, reference: "b.example"}, false, Options{}); s.Fix != "connect to b.example" {
		t.Errorf("moved: %+v", s)
	}
	if s := judgeReason(&refusal{code: mqtt.BadUserNameOrPassword}, false, Options{Username: "me"}); strings.Contains(s.Fix, "--username") {
		t.Errorf("wrong password: %+v", s)
	}
}

func TestRecognise(t *testing.T) {
	for s, want := range map[string]kind{
		"":                 kindSilent,
		"\x16\x03\x03":     kindTLS,
		"\x15\x03\x01":     kindTLS,
		"\x20\x02\x00\x05": kindMQTT,
		"\xe0\x00":         kindMQTT,
		"HTTP/1.1 400":     kindHTTP,
		"<html>":           kindHTTP,
		"SSH-2.0-":         kindSSH,
		"220 mail":         kindMail,
		"\x00\x01":         kindOther,
	} {
		if got := recognise([]byte(s)); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

// TestNotSpeaking has a text and a fix for whatever answers.
func TestNotSpeaking(t *testing.T) {
	for k := kindClosed; k <= kindMail; k++ {
		for _, s := range []Step{judgeNotTLS(k, "192.0.2.1:1", "h:1", false), judgeNotTLS(k, "192.0.2.1:1", "h:1", true), judgeNotMQTT(k, "192.0.2.1:1", "h:1")} {
			if s.Status != Failed || s.Cause == "" || s.Fix == "" || !strings.Contains(s.Text, "192.0.2.1:1") || strings.Contains(s.Fix, "192.0.2.1") {
				t.Errorf("%v: %+v", k, s)
			}
		}
	}
}

func TestJudgeUpgrade(t *testing.T) {
	for text, want := range map[string]transport.Cause{
		"websocket upgrade: server answered 404 Not Found":                                transport.CausePath,
		"websocket upgrade: server answered 403 Forbidden":                                transport.CauseOrigin,
		"websocket upgrade: server answered 200 OK":                                       transport.CauseNotUpgrade,
		"websocket upgrade: server does not speak the sub-protocol mqtt":                  transport.CauseSubprotocol,
		"websocket upgrade: read answer: EOF":                                             CauseNoWebSocket,
		"websocket upgrade: malformed HTTP response: \x1b[2J" + strings.Repeat("x", 1000): CauseNoWebSocket,
	} {
		s := judgeUpgrade(errors.New(text), "/mqtt")
		if s.Cause != want || s.Fix == "" || len(s.Text) > 400 || strings.Contains(s.Text, "\x1b") {
			t.Errorf("%q: %+v", text, s)
		}
	}
	if s := judgeUpgrade(os.ErrDeadlineExceeded, "/"); s.Cause != transport.CauseTimeout {
		t.Errorf("%+v", s)
	}
}

// TestAskTime reads the Date of an HTTP answer, and of nothing else.
func TestAskTime(t *testing.T) {
	date := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	for answer, want := range map[string]time.Time{
		"HTTP/1.1 426 Upgrade Required\r\nDate: Mon, 03 Feb 2031 04:05:06 GMT\r\n\r\n": date,
		"HTTP/1.1 200 OK\r\n\r\n":                             {},
		"HTTP/1.1 200 OK\r\nDate: tomorrow\r\n\r\n":           {},
		"\x20\x02\x00\x05":                                    {},
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<16): {},
	} {
		a, b := net.Pipe()
		go func() {
			buf := make([]byte, 1024)
			b.Read(buf)
			io.WriteString(b, answer)
			b.Close()
		}()
		if got := askTime(a, "h"); !got.Equal(want) {
			t.Errorf("%.40q: %v", answer, got)
		}
		a.Close()
	}
}

// TestSystem judges by the CAs of the system, of which none is the test's.
func TestSystem(t *testing.T) {
	root := newCA(t, "root", nil)
	public := newCA(t, "issuer", root)
	aia := public.server(func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://ca.example/ca.crt"} })
	for _, tt := range []struct {
		chain []*x509.Certificate
		cause transport.Cause
	}{
		{[]*x509.Certificate{root.server().cert}, transport.CauseRejectsCA},
		{[]*x509.Certificate{root.cert}, transport.CauseSelfSigned},
		{[]*x509.Certificate{aia.cert}, transport.CauseChainIncomplete},
		{[]*x509.Certificate{aia.cert, public.cert, root.cert}, transport.CauseRejectsCA},
	} {
		if s := judgeTrust(tt.chain, trust{}, time.Now()); s.Cause != tt.cause || s.Status != Failed {
			t.Errorf("%+v, want %s", s, tt.cause)
		}
	}
}

// TestCausesAreKnown: what the broker's log can say too is in its table.
func TestCausesAreKnown(t *testing.T) {
	for _, c := range []transport.Cause{
		transport.CauseRejectsCA, transport.CauseSelfSigned, transport.CauseChainIncomplete, transport.CauseSHA1, transport.CauseWeakKey,
		transport.CausePurpose, transport.CauseIssuerNotCA, transport.CauseNameConstraints, transport.CauseBrokerExpired, transport.CauseClock,
		transport.CauseName, transport.CauseIP, transport.CauseIPAsName, transport.CauseNoNames, transport.CauseKeyUnsupported,
		transport.CauseVersion, transport.CauseTLS12Excluded, transport.CauseCipher, transport.CauseALPN,
		transport.CauseTLSOnPlain, transport.CausePlainMQTT, transport.CauseNotTLS, transport.CauseMQTTOnWebSocket, transport.CausePath,
		transport.CauseNoClientCert, transport.CauseClientUnknownCA, transport.CauseClientExpired, transport.CauseClientPurpose,
		transport.CauseClientKey, transport.CauseClientCertificate, transport.CauseClientRevoked,
	} {
		if _, ok := transport.Explain(c); !ok || hint(c) == "" {
			t.Errorf("%s has no explanation", c)
		}
	}
}

// TestJudgeName: the host as it may be written.
func TestJudgeName(t *testing.T) {
	leaf := newCA(t, "root", nil).server(func(c *x509.Certificate) { c.DNSNames = []string{"*.lan", "broker.test", "10.0.0.1"} }).cert
	leaf.IPAddresses = []net.IP{net.ParseIP("10.0.0.1"), net.ParseIP("fd00::1")}
	for host, want := range map[string]transport.Cause{
		"broker.test": "", "broker.test.": "", "BROKER.test": "", "a.lan": "", "a.lan.": "", "10.0.0.1": "",
		"a.b.lan": transport.CauseName, "lan": transport.CauseName, "fd00::1": transport.CauseIPAsName, "fd00::2": transport.CauseIP,
	} {
		if s := judgeName(leaf, host); s.Cause != want {
			t.Errorf("%s: %+v", host, s)
		}
	}
}
