package doctor

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

// exam is one examination under way.
type exam struct {
	o      Options
	ctx    context.Context
	report *Report
	phase  time.Duration // longest wait for the other side
	live   *phased       // the connection made last

	url   *client.URL
	trust trust
	id    identity
	key   crypto.Signer
	addrs []netip.Addr
	addr  netip.Addr // the one that is used

	state tls.ConnectionState // of the first handshake
}

func (e *exam) step(s Step) {
	r := e.report
	if x, ok := transport.Explain(s.Cause); ok {
		s.Doc = x.Code
	}
	r.Steps = append(r.Steps, s)
	if s.Status == Failed && r.OK {
		r.OK, r.Cause, r.Reason = false, s.Cause, s.Reason
	}
	if e.o.OnStep != nil {
		e.o.OnStep(s)
	}
}

// run is the examination; every part tells whether to go on.
func (e *exam) run() {
	if e.readURL() && e.files() && e.resolve() && e.reach() && (!e.url.TLS || e.secure()) {
		e.converse()
	}
}

func (e *exam) readURL() bool {
	o := &e.o
	u, err := client.ParseURL(o.URL)
	if err != nil {
		e.step(fail(StepURL, CauseURL, "", show(err.Error()), "write it as mqtts://host or mqtts://host:port"))
		return false
	}
	if u.HasUser && o.Username == "" {
		o.Username = u.User
	}
	if u.HasPassword && o.Password == nil {
		o.Password = []byte(u.Password)
	}
	u.Password = ""
	e.url, e.report.URL = u, show(u.String())
	switch {
	case !u.TLS && (o.Cert != "" || o.CAFile != "" || o.ALPN != ""):
		e.step(fail(StepURL, CauseURL, "tls_options", "certificates and ALPN belong to TLS, and "+e.report.URL+" is without", "write mqtts:// or wss://, or leave them out"))
		return false
	case (o.Cert == "") != (o.Key == ""):
		e.step(fail(StepURL, CauseURL, "pair", "a client certificate and its key are needed together", "--cert FILE --key FILE"))
		return false
	case o.Password != nil && !o.SendCredentials && (!u.TLS || o.Insecure || o.InsecureName):
		e.step(fail(StepURL, CauseExposed, "", "the password would go to a broker that nobody has checked",
			"connect with TLS and the broker's CA (--cafile), or say --insecure-yes-send-credentials"))
		return false
	}
	e.step(pass(StepURL, "%s", e.report.URL))
	return true
}

// maxFile bounds a PEM file, in bytes.
const maxFile = 1 << 20

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("read %s: more than %d bytes", name, maxFile)
	}
	return b, err
}

// files reads what the options name.
func (e *exam) files() bool {
	no := func(name, reason string, err error, fix string) bool {
		text := show(err.Error())
		if !strings.Contains(text, name) {
			text = name + ": " + text
		}
		if h := (interface{ Hint() string })(nil); errors.As(err, &h) {
			fix = h.Hint()
		}
		e.step(fail(StepFiles, CauseFile, reason, text, fix))
		return false
	}
	var said []string
	if name := e.o.CAFile; name != "" {
		b, err := read(name)
		if err != nil {
			return no(name, "ca", err, "name the broker's CA certificate with --cafile; SealMQ: operator/ca.pem in its data folder")
		}
		roots, err := pki.ParseCertificates(b)
		if err != nil {
			return no(name, "ca", err, "a CA file begins with -----BEGIN CERTIFICATE-----")
		}
		e.trust = trust{roots: roots, file: name}
		said = append(said, fmt.Sprintf("%s in %s", count(len(roots), "CA certificate"), name))
	}
	if name := e.o.Cert; name != "" {
		b, err := read(name)
		if err != nil {
			return no(name, "certificate", err, "name the client's certificate with --cert")
		}
		if e.id.chain, err = pki.ParseCertificates(b); err != nil {
			return no(name, "certificate", err, "a certificate file begins with -----BEGIN CERTIFICATE-----")
		}
		e.id.file = name
		if b, err = read(e.o.Key); err != nil {
			return no(e.o.Key, "key", err, "name the client's private key with --key, and run this as the user whom it belongs to")
		}
		if e.key, err = pki.ParseKey(b); err != nil {
			return no(e.o.Key, "key", err, "a key file begins with -----BEGIN PRIVATE KEY-----")
		}
		pub, ok := e.key.Public().(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !pub.Equal(e.id.chain[0].PublicKey) {
			e.step(fail(StepFiles, transport.CauseClientKey, "", fmt.Sprintf("%s does not belong to %s", e.o.Key, name), hint(transport.CauseClientKey)))
			return false
		}
		said = append(said, fmt.Sprintf("certificate of %s in %s, and its key", nameOf(e.id.chain[0]), name))
	}
	if len(said) > 0 {
		e.step(pass(StepFiles, "%s", strings.Join(said, "; ")))
	}
	return true
}

// hostHeader is the host as HTTP wants it.
func (e *exam) hostHeader() string {
	own := uint16(80)
	if e.url.TLS {
		own = 443
	}
	switch {
	case e.url.Port != own:
		return net.JoinHostPort(e.url.Host, strconv.Itoa(int(e.url.Port)))
	case strings.Contains(e.url.Host, ":"):
		return "[" + e.url.Host + "]"
	}
	return e.url.Host
}

// secure examines TLS up to the point where the client shows who it is.
func (e *exam) secure() bool {
	alpn := e.o.ALPN
	if alpn == "" {
		if alpn = transport.ALPN; e.url.WebSocket {
			alpn = "http/1.1"
		}
	}
	var refused *Step
	first, err := e.look(alpn)
	if remoteAlert(err) == 120 {
		s := judgeHelloAlert(120, e.url.Host, []string{alpn})
		s.Fix = hint(transport.CauseALPN)
		if e.o.ALPN == "" { // nobody asked for it
			s.Status = Warning
		}
		refused = &s
		first, err = e.look("")
	}
	chain := judged(e.state.PeerCertificates)
	if len(chain) == 0 {
		return e.noTLS(err, first)
	}
	s := e.probe()
	group := ""
	if e.state.CurveID != 0 {
		group = " with " + groupName(e.state.CurveID)
	}
	e.report.TLS = &TLS{
		Version: tls.VersionName(e.state.Version), Suite: tls.CipherSuiteName(e.state.CipherSuite), Versions: s.accepted(), Groups: names(s.groups),
		ClientCertificate: e.id.asked, ClientCAs: issuers(e.id.cas), ChainBytes: chainBytes(e.state.PeerCertificates),
	}
	if group != "" {
		e.report.TLS.Group = groupName(e.state.CurveID)
	}
	for _, c := range chain {
		e.report.TLS.Chain = append(e.report.TLS.Chain, certificate(c))
	}
	e.step(pass(StepTLS, "%s, %s%s", e.report.TLS.Version, e.report.TLS.Suite, group))
	for _, s := range judgeVersions(&s) {
		e.step(s)
	}
	good := e.judgeServer(chain)
	switch p := e.state.NegotiatedProtocol; {
	case refused != nil:
		e.step(*refused)
		good = good && refused.Status != Failed
	case p != "":
		e.step(pass(StepALPN, "the broker agrees to %s", show(p)))
	default:
		e.step(pass(StepALPN, "the broker does not look at it"))
	}
	for _, s := range judgeLocal(e.id, e.o.Now()) {
		e.step(s)
	}
	return good
}

// judgeServer gives the judgements of the broker's certificate, and tells
// whether the client may go on.
func (e *exam) judgeServer(chain []*x509.Certificate) bool {
	now := e.o.Now()
	for _, s := range judgeChain(chain) {
		e.step(s)
	}
	trusted := judgeTrust(chain, e.trust, now)
	e.step(trusted)
	named := judgeName(chain[0], e.url.Host)
	e.step(named)
	for _, s := range judgeDates(chain, now, e.serverTime(trusted.Status != Failed && named.Status != Failed)) {
		if s.Status != Failed || s.Cause != trusted.Cause { // said already
			e.step(s)
		}
	}
	for _, s := range judgeDevices(chain) {
		e.step(s)
	}
	return e.acceptable(trusted, named)
}

func (e *exam) acceptable(trusted, named Step) bool {
	return e.o.Insecure || trusted.Status != Failed && (named.Status != Failed || e.o.InsecureName)
}

// tlsConfig is the client's; whether the broker is trusted is decided elsewhere.
func (e *exam) tlsConfig(alpn string) *tls.Config {
	cfg := &tls.Config{ServerName: e.url.Host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	if alpn != "" {
		cfg.NextProtos = []string{alpn}
	}
	return cfg
}

// look makes a handshake without a certificate of ours and keeps what it
// shows. first is what the broker said to begin with.
func (e *exam) look(alpn string) (first []byte, err error) {
	conn, err := e.dial()
	if err != nil {
		return nil, err
	}
	rec := &recorder{Conn: conn}
	cfg := e.tlsConfig(alpn)
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		e.state = s
		return nil
	}
	cfg.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		e.id.asked, e.id.cas = true, slices.Clone(r.AcceptableCAs)
		return &tls.Certificate{}, nil
	}
	t := tls.Client(rec, cfg)
	if err = t.HandshakeContext(e.ctx); err == nil {
		e.state = t.ConnectionState()
	}
	t.Close()
	return rec.first, err
}

// noTLS explains a handshake that showed no certificate.
func (e *exam) noTLS(err error, first []byte) bool {
	target := e.target(e.addr)
	alert := remoteAlert(err)
	text := err.Error()
	tells := recognise(first) == kindTLS
	switch {
	case tells && (alert == 70 || strings.Contains(text, "protocol version")):
		e.step(pass(StepTLS, "%s speaks TLS", target))
		s := e.probe()
		if steps := judgeVersions(&s); len(steps) > 0 {
			for _, s := range steps {
				e.step(s)
			}
		}
		if e.report.OK {
			e.step(judgeHelloAlert(70, e.url.Host, nil))
		}
	case tells && alert >= 0:
		e.step(judgeHelloAlert(alert, e.url.Host, []string{e.o.ALPN}))
	case tells && strings.Contains(text, "certificate"):
		e.step(fail(StepChain, transport.CauseRejectsCert, "unreadable", verifyFailed+show(text), "give the broker a certificate that is well-formed"))
	case tells && isTimeout(err):
		e.step(fail(StepTLS, transport.CauseTimeout, "tls", target+" begins a TLS handshake and does not end it", hint(transport.CauseTimeout)))
	case tells:
		e.step(fail(StepTLS, transport.CauseOther, "", "the TLS handshake failed: "+show(text), "look into the broker's log"))
	case isTimeout(err) && len(first) == 0 && e.speaksTLS():
		e.step(fail(StepTLS, transport.CauseTimeout, "large_hello",
			target+" answers a small ClientHello and not a large one, as post-quantum key exchange makes it: something in between drops it",
			"mend the firewall or proxy in between, or leave X25519MLKEM768 out (programs in Go: GODEBUG=tlsmlkem=0)"))
	default:
		e.step(judgeNotTLS(e.identify(first), target, e.authority(), e.url.WebSocket))
	}
	return false
}
