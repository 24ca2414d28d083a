// Package web is the HTTP client of authenticators that ask a server: one URL, TLS with the CA of the configuration, no
// redirects, no proxy, answers bounded, and no connection to addresses inside the network unless the configuration allows
// it, which is checked after the name was looked up. The package starts no goroutine beside those of net/http, which Close
// ends.
package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"syscall"
	"time"
)

// Options say how a server is reached.
type Options struct {
	URL     string
	CAFile  string        // PEM; empty: the roots of the machine
	Private bool          // private addresses and those of this machine are allowed
	Timeout time.Duration // of a whole request
	Conns   int           // most connections
}

// Client asks one server.
type Client struct {
	url  string
	http *http.Client
}

// Check says what is wrong with a URL: it has to be https, or http to an address of this machine itself.
func Check(raw string, private bool) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return errors.New("this is no URL") // err shows all of it
	case u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return errors.New("the URL has no host")
	case u.User != nil:
		return errors.New("the URL holds a password, which would be in logs: use token_file")
	case u.Fragment != "":
		return errors.New("the URL has a fragment (#)")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return errors.New("want a URL with https://")
	}
	if a, err := netip.ParseAddr(u.Hostname()); err != nil || !a.Unmap().IsLoopback() {
		return errors.New("want https://; http:// is for 127.0.0.1 and [::1] alone")
	}
	if !private {
		return errors.New("this machine itself is asked only with allow_private = true")
	}
	return nil
}

// New makes a Client.
func New(o Options) (*Client, error) {
	if err := Check(o.URL, o.Private); err != nil {
		return nil, err
	}
	roots, err := Roots(o.CAFile)
	if err != nil {
		return nil, err
	}
	u, _ := url.Parse(o.URL)
	dialer := &net.Dialer{ControlContext: guard(o.Private, u.Scheme == "http")}
	return &Client{o.URL, &http.Client{
		Timeout: o.Timeout,
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    o.Timeout,
			MaxConnsPerHost:        o.Conns,
			MaxIdleConnsPerHost:    o.Conns,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 32 << 10,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Roots reads the CAs of a PEM file; nil, those of the machine, if path is empty.
func Roots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("open %s: no certificate in it", path)
	}
	return pool, nil
}

// Do sends a request and returns status and body. A body of more than limit bytes is an error. Errors do not show the URL's
// query.
func (c *Client) Do(ctx context.Context, method string, header http.Header, body io.Reader, limit int64) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header = header
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = fmt.Errorf("ask %s: %w", req.URL.Host, ue.Err)
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return 0, nil, fmt.Errorf("ask %s: read answer: %w", req.URL.Host, err)
	}
	if int64(len(b)) > limit {
		return 0, nil, fmt.Errorf("ask %s: the answer has more than %d bytes", req.URL.Host, limit)
	}
	return resp.StatusCode, b, nil
}

// Close ends idle connections; requests have to be over.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// guard refuses connections to addresses that are not allowed.
func guard(private, local bool) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, addr string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(addr)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", addr, err)
		}
		a := ap.Addr().Unmap()
		if local && !a.IsLoopback() {
			return fmt.Errorf("connect to %s: http:// is for this machine alone", a)
		}
		return Allowed(a, private)
	}
}

// Forbidden is an address that may not be connected to.
type Forbidden struct {
	Addr    netip.Addr
	Private bool // it may with allow_private = true
}

func (e *Forbidden) Error() string {
	return fmt.Sprintf("connect to %s: the address is not a public one", e.Addr)
}

// Hint is what to do about it.
func (e *Forbidden) Hint() string {
	if e.Private {
		return "allow_private = true if this server is meant"
	}
	return "no server is asked at such an address"
}

// Allowed says whether an address may be connected to, by a *Forbidden if not. Those of a link, among them the ones where
// clouds give their machines secrets, never may.
func Allowed(a netip.Addr, private bool) error {
	a = a.Unmap()
	switch {
	case within(a, never):
		return &Forbidden{Addr: a}
	case !private && within(a, inside):
		return &Forbidden{a, true}
	}
	return nil
}

func within(a netip.Addr, nets []string) bool {
	a = a.WithZone("")
	for _, s := range nets {
		if netip.MustParsePrefix(s).Contains(a) {
			return true
		}
	}
	return false
}

// The special addresses of IANA's registries (RFC 6890).
var (
	never = []string{
		"0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/3", // this network, link-local, protocol, multicast and beyond
		"::/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32", "fd20:ce::254/128", // the last two: secrets of clouds
		"64:ff9b::/32", "2001::/23", "2002::/16", // IPv4 inside IPv6
	}
	inside = []string{
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "198.18.0.0/15",
		"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "::1/128", "fc00::/7", "fec0::/10", "2001:db8::/32",
	}
)
