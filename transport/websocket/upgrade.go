package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gobwas/ws"
)

// MaxHead is the longest HTTP request or response head taken, in bytes.
const MaxHead = 8 << 10

// Options says who may upgrade. The zero value is safe. It must not be
// modified while in use.
type Options struct {
	// Paths are the request paths served, compared whole and without query; "*"
	// is every path.
	// Default: /mqtt and /.
	Paths []string
	// Origins are the web pages that may connect, as browsers name them:
	// scheme://host or scheme://host:port without default ports, or "null";
	// "*" is every page. Default: pages whose host is the one connected to, on
	// any port, since this port serves no page itself. Requests without Origin
	// do not come from pages and are not concerned.
	Origins []string
}

// Cause names why an upgrade failed, as logs and statistics count it.
type Cause string

const (
	CauseMQTT        Cause = "mqtt_on_websocket" // plain MQTT came
	CauseTLS         Cause = "tls_on_plaintext"  // TLS came to a listener without
	CauseNotHTTP     Cause = "not_http"          // something else came
	CauseTooLong     Cause = "request_too_long"  // over MaxHead
	CauseMalformed   Cause = "malformed"         // not a request of HTTP/1.1, or not a whole one
	CauseNotUpgrade  Cause = "not_upgrade"       // HTTP, but not WebSocket
	CauseVersion     Cause = "version"           // another version of WebSocket
	CausePath        Cause = "path"              // not in Options.Paths
	CauseOrigin      Cause = "origin"            // not in Options.Origins
	CauseSubprotocol Cause = "subprotocol"       // none of ours is offered
)

// UpgradeError says why a request was refused.
type UpgradeError struct {
	Cause  Cause
	Status int // of the HTTP answer, 0 if none was given: what came was not HTTP
	Text   string
}

func (e *UpgradeError) Error() string {
	if e.Status == 0 {
		return "websocket upgrade: " + e.Text
	}
	return fmt.Sprintf("websocket upgrade: %s (answered %d)", e.Text, e.Status)
}

// Upgrade reads a request to switch to WebSocket and answers it. It blocks:
// the caller sets a deadline. leftover is what came after the request, nil if
// nothing did; it begins the stream of frames.
//
// On an *UpgradeError the request has been refused, in HTTP if it was HTTP;
// the caller closes, lingering so that the answer is read. Any other error
// wraps one of rw.
func Upgrade(rw io.ReadWriter, o Options) (leftover []byte, err error) {
	head, leftover, err := readHead(rw, true)
	var refused *UpgradeError
	if err == nil {
		var answer bytes.Buffer
		if refused = negotiate(head, &answer, o); refused == nil {
			if _, err := rw.Write(answer.Bytes()); err != nil {
				return nil, fmt.Errorf("websocket upgrade: write answer: %w", err)
			}
			return leftover, nil
		}
	} else if !errors.As(err, &refused) {
		return nil, fmt.Errorf("websocket upgrade: read request: %w", err)
	}
	if refused.Status != 0 {
		// The refusal counts, whether or not its answer arrives.
		_, _ = rw.Write(appendRefusal(nil, refused, bytes.HasPrefix(head, []byte("HEAD "))))
	}
	return nil, refused
}

// readHead reads up to the empty line that ends a head, and no further than
// one Read takes it. Before a request what is not HTTP is told by its first
// byte, since it may never send a line.
func readHead(r io.Reader, request bool) (head, rest []byte, err error) {
	buf := make([]byte, 0, 1<<10)
	seen := 0 // no head ends before it
	for idle := 0; ; {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, min(cap(buf), MaxHead-cap(buf)))
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), MaxHead)])
		buf = buf[:len(buf)+n]
		if request && len(buf) > 0 {
			if e := foreign(buf[0]); e != nil {
				return nil, nil, e
			}
		}
		if end := headEnd(buf, seen); end > 0 {
			if end < len(buf) {
				rest = bytes.Clone(buf[end:])
			}
			return buf[:end], rest, nil
		}
		seen = max(0, len(buf)-3)
		switch {
		case len(buf) >= MaxHead && !request:
			return nil, nil, errLongResponse
		case len(buf) >= MaxHead:
			return buf, nil, &UpgradeError{CauseTooLong, http.StatusRequestHeaderFieldsTooLarge,
				fmt.Sprintf("request is longer than %d bytes", MaxHead)}
		case err == io.EOF && len(buf) > 0:
			return nil, nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, nil, err
		}
		if idle++; n > 0 {
			idle = 0
		} else if idle == 100 {
			return nil, nil, io.ErrNoProgress
		}
	}
}

// headEnd returns where the head in b ends, 0 if it does not. As in any HTTP
// reader a line may end without carriage return.
func headEnd(b []byte, from int) int {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return 0
		}
		from += i + 1
		switch next := b[from:]; {
		case bytes.HasPrefix(next, []byte("\n")):
			return from + 1
		case bytes.HasPrefix(next, []byte("\r\n")):
			return from + 2
		}
	}
}

// foreign returns an error if no HTTP request begins with b.
func foreign(b byte) *UpgradeError {
	switch {
	case b >= 'A' && b <= 'Z', b >= 'a' && b <= 'z':
		return nil
	case b == 0x10:
		return &UpgradeError{CauseMQTT, 0, "client speaks plain MQTT, without WebSocket, to this port"}
	case b == 0x16:
		return &UpgradeError{CauseTLS, 0, "client speaks TLS to a listener without TLS"}
	}
	return &UpgradeError{CauseNotHTTP, 0, fmt.Sprintf("client does not speak HTTP: its first byte is 0x%02x", b)}
}

// memory is a connection whose input has been read and whose output is kept.
type memory struct {
	io.Reader
	io.Writer
}

// negotiate judges the request and leaves the answer to a good one in answer.
func negotiate(head []byte, answer *bytes.Buffer, o Options) *UpgradeError {
	var (
		host, origin string
		hosts        int
		fromPage     bool
		v31          bool
		refused      *UpgradeError
	)
	refuse := func(c Cause, status int, format string, args ...any) error {
		refused = &UpgradeError{c, status, fmt.Sprintf(format, args...)}
		return refused
	}
	malformed := func(what string) error { return refuse(CauseMalformed, http.StatusBadRequest, "%s", what) }
	u := ws.Upgrader{
		OnRequest: func(uri []byte) error {
			// A query may hold secrets: it is neither compared nor told.
			if p, _, _ := strings.Cut(string(uri), "?"); !o.servesPath(p) {
				return refuse(CausePath, http.StatusNotFound, "path %s is not served", quote(p))
			}
			return nil
		},
		OnHost: func(h []byte) error {
			host = string(h)
			if hosts++; hosts > 1 {
				return malformed("request has two Host fields")
			}
			return nil
		},
		OnHeader: func(key, value []byte) error {
			switch string(key) {
			case "Origin":
				if fromPage {
					return malformed("request has two Origin fields")
				}
				origin, fromPage = string(value), true
			case "Transfer-Encoding":
				return malformed("request has a body")
			case "Content-Length":
				if string(value) != "0" {
					return malformed("request has a body")
				}
			}
			return nil
		},
		Protocol: func(p []byte) bool {
			v31 = v31 || string(p) == ProtocolV31
			return string(p) == Protocol
		},
		OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
			if fromPage && !o.allowsOrigin(origin, host) {
				return nil, refuse(CauseOrigin, http.StatusForbidden, "origin %s may not connect to %s", quote(origin), quote(host))
			}
			return nil, nil
		},
	}
	hs, err := u.Upgrade(memory{bytes.NewReader(head), answer})
	switch {
	case refused != nil:
		return refused
	case err == nil && hs.Protocol == "" && !v31:
		return &UpgradeError{CauseSubprotocol, http.StatusBadRequest, "Sec-WebSocket-Protocol does not offer " + Protocol}
	case err == nil && hs.Protocol == "":
		answer.Truncate(answer.Len() - len("\r\n"))
		answer.WriteString("Sec-WebSocket-Protocol: " + ProtocolV31 + "\r\n\r\n")
		return nil
	case err == nil:
		return nil
	case errors.Is(err, ws.ErrHandshakeBadMethod):
		return &UpgradeError{CauseNotUpgrade, http.StatusMethodNotAllowed, "method is not GET"}
	case errors.Is(err, ws.ErrHandshakeBadUpgrade), errors.Is(err, ws.ErrHandshakeBadConnection):
		return &UpgradeError{CauseNotUpgrade, http.StatusUpgradeRequired, "request does not ask for an upgrade to websocket"}
	case errors.Is(err, ws.ErrHandshakeUpgradeRequired):
		return &UpgradeError{CauseVersion, http.StatusUpgradeRequired, "Sec-WebSocket-Version is not 13"}
	case errors.Is(err, ws.ErrHandshakeBadProtocol):
		return &UpgradeError{CauseMalformed, http.StatusHTTPVersionNotSupported, "request is not HTTP/1.1"}
	case errors.Is(err, ws.ErrHandshakeBadHost):
		return &UpgradeError{CauseMalformed, http.StatusBadRequest, "request has no Host"}
	case errors.Is(err, ws.ErrHandshakeBadSecKey):
		return &UpgradeError{CauseMalformed, http.StatusBadRequest, "Sec-WebSocket-Key is missing or not 24 characters"}
	case errors.Is(err, ws.ErrHandshakeBadSecVersion):
		return &UpgradeError{CauseVersion, http.StatusUpgradeRequired, "Sec-WebSocket-Version is missing"}
	}
	return &UpgradeError{CauseMalformed, http.StatusBadRequest, "request is malformed"}
}

func (o *Options) servesPath(path string) bool {
	paths := o.Paths
	if len(paths) == 0 {
		paths = []string{"/mqtt", "/"}
	}
	return slices.Contains(paths, "*") || slices.Contains(paths, path)
}

func (o *Options) allowsOrigin(origin, host string) bool {
	for _, allowed := range o.Origins {
		if allowed == "*" || strings.EqualFold(allowed, origin) {
			return true
		}
	}
	if len(o.Origins) > 0 {
		return false
	}
	u, err := url.Parse(origin)
	if err != nil || u.Hostname() == "" {
		return false // "null" among others
	}
	return strings.EqualFold(u.Hostname(), hostname(host))
}

// hostname returns the host in a Host field, without port and brackets.
func hostname(s string) string {
	if h, _, err := net.SplitHostPort(s); err == nil {
		return h
	}
	return strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
}

// quote makes what the client sent fit for one line of a log.
func quote(s string) string {
	const limit = 200
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return fmt.Sprintf("%+q", s)
}

// appendRefusal appends the HTTP answer for e.
func appendRefusal(dst []byte, e *UpgradeError, head bool) []byte {
	// Quotes from the request stay plain text: nosniff keeps browsers to it.
	body := "This port speaks MQTT over WebSocket (sub-protocol \"mqtt\"). Connect an MQTT client to it.\nRefused: " + e.Text + ".\n"
	dst = fmt.Appendf(dst, "HTTP/1.1 %d %s\r\n", e.Status, http.StatusText(e.Status))
	switch e.Status {
	case http.StatusUpgradeRequired:
		dst = append(dst, "Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"...)
	case http.StatusMethodNotAllowed:
		dst = append(dst, "Connection: close\r\nAllow: GET\r\n"...)
	default:
		dst = append(dst, "Connection: close\r\n"...)
	}
	dst = fmt.Appendf(dst, "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n", len(body))
	if head {
		return dst
	}
	return append(dst, body...)
}
