package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/pki"
)

// explain gives an error of the connection its exit code and says what to do.
func (l *link) explain(err error) error {
	var (
		coded     *exitError
		verify    *client.VerifyError
		handshake *client.HandshakeError
		upgrade   *client.UpgradeError
		server    *client.ServerError
		dns       *net.DNSError
	)
	text := err.Error()
	switch {
	case err == nil, errors.As(err, &coded):
		return err
	case errors.Is(err, errTimedOut):
		return withExit(exitTimeout, err)
	case errors.Is(err, context.Canceled):
		return withExit(exitFailure, errors.New("interrupted"))
	case errors.As(err, &verify):
		return verifyFailed(errors.New(certificateReason(verify.Err)), l.certificateHints(verify.Err)...)
	case errors.As(err, &handshake):
		return withExit(exitTLSRefused, err, l.handshakeHints(text)...)
	case strings.Contains(text, "remote error: tls:"):
		// With TLS 1.3 the broker's no to our certificate comes after the handshake.
		return withExit(exitTLSRefused, err, l.handshakeHints(text)...)
	case errors.As(err, &upgrade) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded):
		return withExit(exitFailure, err, l.upgradeHint(text))
	case errors.As(err, &server):
		return l.explainServer(server)
	case errors.As(err, &dns):
		return withExit(exitUnreachable, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		hint := "nothing listens there; 'sealmq serve' starts a broker"
		return withExit(exitUnreachable, err, hint)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return withExit(exitUnreachable, err)
	case errors.Is(err, client.ErrConnectionLost), errors.Is(err, client.ErrTimeout):
		return withExit(exitLost, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		if errors.Is(err, syscall.ECONNRESET) && !l.made {
			return withExit(exitLost, err, keptOut)
		}
		if !l.o.secure {
			return withExit(exitLost, err, "is the port one for TLS? then use mqtts:// or --cafile")
		}
		if !l.made && !l.o.ws {
			return withExit(exitLost, err, "is the port one for WebSocket? then use wss://"+l.target+client.DefaultPath)
		}
		return withExit(exitLost, err)
	case strings.HasPrefix(text, "connect: dial"), strings.HasPrefix(text, "connect: local address"):
		return withExit(exitUnreachable, err)
	}
	return withExit(exitFailure, err)
}

func (l *link) upgradeHint(text string) string {
	switch {
	case strings.Contains(text, "answered 404"):
		return "the broker serves WebSocket at another path; it is part of the URL: wss://host:port/path"
	case !l.o.secure:
		return "is the port one for WebSocket, and without TLS? with TLS it is wss://"
	}
	return "is the port one for WebSocket? without it, it is mqtts://"
}

func (l *link) explainServer(e *client.ServerError) error {
	text := fmt.Sprintf("connection refused by the broker: %s (0x%02X)", strings.ToLower(e.Code.String()), uint8(e.Code))
	if e.Packet == mqtt.DISCONNECT {
		text = fmt.Sprintf("disconnected by the broker: %s (0x%02X)", strings.ToLower(e.Code.String()), uint8(e.Code))
	}
	if e.Reason != "" {
		text += ": " + printable(e.Reason)
	}
	var hints []string
	switch e.Code {
	case mqtt.BadUserNameOrPassword:
		if e.Reason != "" {
			break // the broker has said what it wants
		}
		hints = append(hints, "give user name and password with -u and -P")
	case mqtt.ClientIDNotValid:
		hints = append(hints, "choose another client id with -i")
	case mqtt.UnsupportedProtocolVersion:
		hints = append(hints, "choose another version with -V mqttv311 or -V mqttv31")
	case mqtt.SessionTakenOver:
		hints = append(hints, "another client connected with the same id; -i chooses one")
	}
	if e.ServerReference != "" {
		hints = append(hints, "the broker says to use "+printable(e.ServerReference))
	}
	code := int(e.Code)
	if !e.Code.IsError() {
		code = exitLost
	}
	return withExit(code, errors.New(text), hints...)
}

// refused gives the broker's no to one request its exit code, and says how to learn the reason if it is the policy's.
func (l *link) refused(code int, err error) error {
	if !errors.Is(err, mqtt.NotAuthorized) {
		return withExit(code, err)
	}
	who := l.id
	switch {
	case l.o.given("username") && l.o.username != "":
		who = l.o.username
	case l.files.cert != "":
		if pair, err := loadPair(l.files); err == nil && pair.Leaf != nil && pair.Leaf.Subject.CommonName != "" {
			who = pair.Leaf.Subject.CommonName
		}
	}
	if l.here() {
		return withExit(code, err, withData(self(), l.o.data, "acl", "why", printable(who)))
	}
	return withExit(code, err, "the broker's operator can ask: "+commandLine("sealmq", "acl", "why", printable(who)))
}

// here tells whether the broker is the one that runs on this machine's data folder, as far as can be told.
func (l *link) here() bool {
	if ip := net.ParseIP(l.o.host); !l.files.operator && l.o.unix == "" && l.o.host != "localhost" && !ip.IsLoopback() {
		return false
	}
	c, err := control.Dial(l.o.data)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// told is an error that has been shown.
type told struct{ err error }

func (told) Error() string   { return "" }
func (t told) Unwrap() error { return t.err }

// printable keeps a stranger's text from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7F && r < 0xA0 {
			return -1
		}
		return r
	}, s)
}

// certificateReason says in words why the broker's certificate was not accepted.
func certificateReason(err error) string {
	var (
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &host):
		if names := hostNames(host.Certificate); len(names) > 0 {
			return fmt.Sprintf("the broker's certificate is for %s, not for %s", strings.Join(names, ", "), host.Host)
		}
		return fmt.Sprintf("the broker's certificate names no host, so not %s", host.Host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		now := time.Now()
		if c := invalid.Cert; c != nil && now.Before(c.NotBefore) {
			return fmt.Sprintf("certificate of %q is valid from %s, and now is %s", c.Subject.CommonName, stamp(c.NotBefore), stamp(now))
		} else if c != nil {
			return fmt.Sprintf("certificate of %q expired on %s", c.Subject.CommonName, stamp(c.NotAfter))
		}
	}
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "x509: "), "tls: ")
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// hostNames are the names of a certificate, each once: addresses may stand in it twice.
func hostNames(c *x509.Certificate) []string {
	if c == nil {
		return nil
	}
	var names []string
	seen := make(map[string]bool)
	add := func(s string) {
		if s = printable(s); !seen[s] && len(names) < 20 {
			seen[s] = true
			names = append(names, s)
		}
	}
	for _, n := range c.DNSNames {
		add(n)
	}
	for _, ip := range c.IPAddresses {
		add(ip.String())
	}
	return names
}

func (l *link) certificateHints(err error) []string {
	var (
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
	)
	o, files := l.o, l.files
	switch {
	case errors.As(err, &host):
		if names := hostNames(host.Certificate); len(names) > 0 {
			return []string{"connect by a name that is in it: -h " + names[0], "or have the broker issue one for " + host.Host}
		}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return []string{"is the clock of this machine right? else the broker's certificate must be renewed"}
	case errors.As(err, &unknown):
		if files.operator {
			return []string{fmt.Sprintf("%s is not the CA of the broker at %s; is it another broker's data folder?", files.cas[0], l.target)}
		}
		if beside := filepath.Join(filepath.Dir(files.cert), "ca.pem"); files.cert != "" && len(files.cas) == 0 && isFile(beside) {
			return []string{"name the broker's CA: --cafile " + beside}
		}
		if len(files.cas) > 0 {
			return []string{fmt.Sprintf("the CA in %s did not issue the broker's certificate; take the ca.pem that came with this broker", strings.Join(files.cas, ", "))}
		}
		return []string{
			"name the broker's CA: --cafile ca.pem",
			"for a broker on this machine, run where its data folder is, or say --data FOLDER (looked for " + filepath.Join(o.data, "operator") + ")",
		}
	}
	return []string{"'sealmq serve' on the broker's machine shows which certificate it has"}
}

// dates says what is wrong with the dates of our own certificate; empty when nothing is.
func dates(file string, now time.Time) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	chain, err := pki.ParseCertificates(b)
	if err != nil {
		return ""
	}
	switch c := chain[0]; {
	case now.After(c.NotAfter):
		return fmt.Sprintf("the certificate in %s was valid until %s: it needs a new one, sealmq device add", file, stamp(c.NotAfter))
	case now.Before(c.NotBefore):
		return fmt.Sprintf("the certificate in %s is valid from %s, and now is %s", file, stamp(c.NotBefore), stamp(now))
	}
	return ""
}

// keptOut is the advice when a connection is reset before it begins.
const keptOut = "the broker, or something on the way, keeps this address out; on the broker's machine: sealmq gate list, sealmq gate stats"

func (l *link) handshakeHints(text string) []string {
	switch {
	case strings.Contains(text, "reset by peer"):
		return []string{keptOut}
	case strings.Contains(text, "first record does not look like a TLS handshake"), strings.HasSuffix(text, "EOF"):
		return []string{"the port seems to be one without TLS; to connect in the clear: --no-tls, or mqtt:// in the URL"}
	case strings.Contains(text, "certificate required"), strings.Contains(text, "handshake failure") && l.files.cert == "":
		return []string{"the broker wants a client certificate: --cert FILE --key FILE"}
	case strings.Contains(text, "unknown certificate authority"), strings.Contains(text, "bad certificate"), strings.Contains(text, "expired certificate"):
		if l.files.cert == "" {
			return []string{"the broker wants a client certificate: --cert FILE --key FILE"}
		}
		if hint := dates(l.files.cert, time.Now()); hint != "" {
			return []string{hint}
		}
		return []string{"the broker does not accept the certificate in " + l.files.cert + "; its log says why"}
	case strings.Contains(text, "protocol version"):
		return []string{"broker and client have no TLS version in common; here it is --tls-version and up"}
	}
	return []string{"the broker's log says why it refused; is the port one for TLS?"}
}
