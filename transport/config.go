package transport

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// Config describes one listener. The zero value of each field means its
// default. It must not be modified once passed in.
type Config struct {
	// Name identifies the listener in logs, statistics and rules.
	Name string `toml:"name"`

	// Address is where to listen: host:port, or :port for all addresses.
	Address string `toml:"address" default:":8883"`

	// Plain leaves out TLS: everything is readable on the wire. In the file the
	// key is `tls`, true by default.
	Plain bool `toml:"!tls"`

	// Profile is what of TLS the listener speaks: default (TLS 1.2 and 1.3),
	// modern (1.3 only), high (1.3 with the NIST's groups, without resumption),
	// fips (what NIST SP 800-52 has; needs GODEBUG=fips140=on) or constrained
	// (default for small devices: records of at most 1,024 bytes, a smaller
	// handshake).
	Profile Profile `toml:"profile" default:"default"`

	// ClientCertificates says whether clients must present a certificate:
	// required, optional or none.
	ClientCertificates ClientCertificates `toml:"client_certificates" default:"required"`

	// WebSocket carries MQTT in WebSocket frames, as clients in web pages must
	// and others may: wss://, or ws:// without TLS.
	WebSocket bool `toml:"websocket"`

	// WebSocketPaths are the paths that a WebSocket client may ask for; "*" is
	// every path. Empty: /mqtt and /.
	WebSocketPaths []string `toml:"websocket_paths"`

	// WebSocketOrigins are the web pages that may connect over WebSocket, as
	// browsers name them: scheme://host, or scheme://host:port where the port is
	// not the scheme's own; "*" is every page. Empty: pages whose host is the one
	// connected to, on any port. Clients that are no web pages are not concerned.
	WebSocketOrigins []string `toml:"websocket_origins"`

	// HandshakeTimeout bounds the TLS handshake. Small devices need 6 to 8 s.
	HandshakeTimeout time.Duration `toml:"handshake_timeout" default:"15s" min:"1s" max:"10m"`

	// ConnectTimeout bounds the time from the end of the handshake to the end
	// of the CONNECT packet and its authentication. The upgrade to WebSocket
	// before it may take as long.
	ConnectTimeout time.Duration `toml:"connect_timeout" default:"10s" min:"1s" max:"10m"`

	// MaxRecord is the largest TLS record payload sent, in bytes. Clients that
	// announce a smaller one get that. Lower it for devices with small buffers
	// that cannot say so.
	MaxRecord int `toml:"max_record" default:"16KiB" min:"256" max:"16KiB" unit:"bytes"`

	// MaxConnections bounds the connections open at once on this listener;
	// those above it are closed at once. 0 sets no bound but the descriptors
	// of the process.
	MaxConnections int `toml:"max_connections" default:"0" min:"0" max:"100000000"`

	// MaxBacklog bounds the bytes queued for a peer that does not read. A
	// connection above it is closed.
	MaxBacklog int `toml:"max_backlog" default:"64MiB" min:"64KiB" max:"1GiB" unit:"bytes"`

	// TCPKeepAlive is the silence after which the kernel probes whether the
	// peer is still there.
	TCPKeepAlive time.Duration `toml:"tcp_keep_alive" default:"2m" min:"1s" max:"9h"`

	// Poller chooses how connections wait: auto, epoll (Linux) or goroutine.
	Poller Poller `toml:"poller" default:"auto"`
}

// ClientCertificates says what a listener wants of its clients.
type ClientCertificates uint8

const (
	// Required refuses clients without a certificate from our CAs.
	Required ClientCertificates = iota
	// Optional accepts clients without one; those that have one are verified.
	Optional
	// None asks for no certificate.
	None
	// Any takes every certificate, or none, without looking at its chain or its
	// dates: VerifyConnection does. It has no name in the configuration.
	Any
)

// Poller names a driver.
type Poller uint8

const (
	// PollerAuto takes epoll where it exists, goroutines elsewhere.
	PollerAuto Poller = iota
	// PollerEpoll runs one loop per processor for all connections.
	PollerEpoll
	// PollerGoroutine parks one goroutine per connection.
	PollerGoroutine
)

var (
	clientCertificatesNames = [...]string{"required", "optional", "none", "any"}
	pollerNames             = [...]string{"auto", "epoll", "goroutine"}
)

const (
	defaultAddress          = ":8883"
	defaultHandshakeTimeout = 15 * time.Second
	defaultConnectTimeout   = 10 * time.Second
	defaultMaxBacklog       = 64 << 20
	defaultTCPKeepAlive     = 2 * time.Minute

	maxPlaintext = 16384 // TLS record payload [RFC 8446, 5.1]
	minRecord    = 256
)

// WithDefaults returns c with every zero field replaced by its default.
func (c Config) WithDefaults() Config {
	if c.Address == "" {
		c.Address = defaultAddress
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = defaultHandshakeTimeout
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = defaultConnectTimeout
	}
	if c.MaxRecord == 0 {
		c.MaxRecord = maxPlaintext
	}
	if c.MaxBacklog == 0 {
		c.MaxBacklog = defaultMaxBacklog
	}
	if c.TCPKeepAlive == 0 {
		c.TCPKeepAlive = defaultTCPKeepAlive
	}
	return c
}

// Validate reports every field that is out of its limits, by its key.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, a...)))
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		bad("address", "%q is not host:port", c.Address)
	}
	if int(c.Profile) >= len(profileNames) {
		bad("profile", "must be one of %q", profileNames)
	}
	if int(c.ClientCertificates) >= len(clientCertificatesNames) {
		bad("client_certificates", "must be required, optional or none")
	}
	if c.HandshakeTimeout < time.Second || c.HandshakeTimeout > 10*time.Minute {
		bad("handshake_timeout", "%v is not within 1s and 10m", c.HandshakeTimeout)
	}
	if c.ConnectTimeout < time.Second || c.ConnectTimeout > 10*time.Minute {
		bad("connect_timeout", "%v is not within 1s and 10m", c.ConnectTimeout)
	}
	if c.MaxRecord < minRecord || c.MaxRecord > maxPlaintext {
		bad("max_record", "%d is not within %d and %d", c.MaxRecord, minRecord, maxPlaintext)
	}
	if c.MaxConnections < 0 || c.MaxConnections > 100_000_000 {
		bad("max_connections", "%d is not within 0 and 100000000", c.MaxConnections)
	}
	if c.MaxBacklog < 64<<10 || c.MaxBacklog > 1<<30 {
		bad("max_backlog", "%d is not within 64KiB and 1GiB", c.MaxBacklog)
	}
	if c.TCPKeepAlive < time.Second || c.TCPKeepAlive > 9*time.Hour {
		bad("tcp_keep_alive", "%v is not within 1s and 9h", c.TCPKeepAlive)
	}
	for _, p := range c.WebSocketPaths {
		if p != "*" && !strings.HasPrefix(p, "/") || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '?' || r == '#' }) {
			bad("websocket_paths", "%q is neither a path such as /mqtt nor *", p)
		}
	}
	for _, o := range c.WebSocketOrigins {
		if !isOrigin(o) {
			bad("websocket_origins", "%q is neither scheme://host nor *", o)
		}
	}
	switch {
	case int(c.Poller) >= len(pollerNames):
		bad("poller", "must be auto, epoll or goroutine")
	case c.Poller == PollerEpoll && !haveEpoll:
		bad("poller", "this system has no epoll")
	}
	return errors.Join(errs...)
}

// isOrigin tells whether s is what a browser may send as Origin [RFC 6454, 6.2].
func isOrigin(s string) bool {
	if s == "*" || s == "null" {
		return true
	}
	u, err := url.Parse(s)
	return err == nil && u.Hostname() != "" && strings.EqualFold(s, u.Scheme+"://"+u.Host)
}

func (m ClientCertificates) String() string { return nameOf(clientCertificatesNames[:], int(m)) }

// MarshalText returns required, optional, none or any.
func (m ClientCertificates) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads required, optional or none; any is not for it.
func (m *ClientCertificates) UnmarshalText(b []byte) error {
	i, err := parseName(clientCertificatesNames[:Any], string(b))
	*m = ClientCertificates(i)
	return err
}

func (p Poller) String() string { return nameOf(pollerNames[:], int(p)) }

// MarshalText returns auto, epoll or goroutine.
func (p Poller) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads auto, epoll or goroutine.
func (p *Poller) UnmarshalText(b []byte) error {
	i, err := parseName(pollerNames[:], string(b))
	*p = Poller(i)
	return err
}

func nameOf(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown(%d)", i)
}

func parseName(names []string, s string) (int, error) {
	for i, n := range names {
		if n == s {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%q must be one of %q", s, names)
}
