package acme

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The directories of Let's Encrypt.
const (
	LetsEncrypt        = "https://acme-v02.api.letsencrypt.org/directory"
	LetsEncryptStaging = "https://acme-staging-v02.api.letsencrypt.org/directory"
)

// The challenges by which a CA finds out whether a name is ours.
const (
	TLSALPN01 = "tls-alpn-01" // RFC 8737: a TLS handshake with port 443 of the name
	HTTP01    = "http-01"     // RFC 8555 section 8.3: a file fetched from port 80 of the name
	DNS01     = "dns-01"      // RFC 8555 section 8.4: a TXT record below the name
)

const (
	maxNames           = 100
	defaultHTTPAddress = ":80"
)

// Config says which certificates are kept, and by which CA. With no names there are none.
type Config struct {
	// Names are the DNS names and IP addresses that clients connect to, each with a certificate of its own. A wildcard
	// such as *.example.com needs dns-01. At most 100. Whoever sets them agrees to the CA's terms of service.
	Names []string `toml:"names"`

	// Email is an address for messages from the CA. It may be left out.
	Email string `toml:"email"`

	// Directory is the URL of the ACME CA's directory.
	Directory string `toml:"directory" default:"https://acme-v02.api.letsencrypt.org/directory"`

	// Staging takes the test CA of Let's Encrypt, whose limits are wide and whose certificates no client trusts.
	Staging bool `toml:"staging"`

	// CAFile is a PEM file with the root of a private ACME CA, for the connection to it. Empty: those of the machine.
	CAFile string `toml:"ca_file"`

	// EABKeyID is the key identifier of an external account, for CAs that want one (RFC 8555 section 7.3.4).
	EABKeyID string `toml:"eab_kid"`

	// EABKeyFile is a file, readable by the server alone, with the key of `eab_kid` in base64url, as the CA shows it.
	EABKeyFile string `toml:"eab_key_file"`

	// Challenges are those that may be used: tls-alpn-01 (the CA comes to port 443), http-01 (port 80), dns-01. Empty:
	// dns-01 if dns_exec is set, else the first two.
	Challenges []string `toml:"challenges"`

	// HTTPAddress is where http-01 is answered. It is listened on only while the CA is expected.
	HTTPAddress string `toml:"http_address" default:":80"`

	// TLSAddress is where tls-alpn-01 is answered, and nothing else. It is listened on only while the CA is expected.
	// Empty: the listeners for MQTT answer, one of which must then be on port 443 or have that forwarded to it.
	TLSAddress string `toml:"tls_address"`

	// DNSExec is the absolute path of a program that sets and removes the TXT record of dns-01. It is run, without a
	// shell, as PROGRAM present|cleanup NAME VALUE, and ends when the record is there.
	DNSExec string `toml:"dns_exec"`

	// RenewBefore is how long before its end a certificate is renewed, at most half of its life. 0: when the CA
	// suggests it (RFC 9773), else when a third of its life is left.
	RenewBefore time.Duration `toml:"renew_before" default:"0s" min:"0s" max:"8760h"`
}

// Enabled tells whether there is anything to do.
func (c Config) Enabled() bool { return len(c.Names) > 0 }

func (c Config) withDefaults() Config {
	if c.Directory == "" {
		c.Directory = LetsEncrypt
	}
	if c.Staging {
		c.Directory = LetsEncryptStaging
	}
	if c.HTTPAddress == "" {
		c.HTTPAddress = defaultHTTPAddress
	}
	if len(c.Challenges) == 0 {
		c.Challenges = []string{TLSALPN01, HTTP01}
		if c.DNSExec != "" {
			c.Challenges = []string{DNS01}
		}
	}
	names := make([]string, len(c.Names))
	for i, n := range c.Names {
		names[i] = normal(n)
	}
	c.Names = names
	return c
}

// Validate reports everything that is wrong, by its key in the configuration file. It reads no file.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, a...)))
	}
	if !c.Enabled() && c.says() {
		bad("names", "there are none; say which names clients connect to")
	}
	if c.Staging && c.Directory != "" && c.Directory != LetsEncrypt && c.Directory != LetsEncryptStaging {
		bad("staging", "is of Let's Encrypt; leave it out with another directory")
	}
	d := c.withDefaults()
	c.checkNames(d, bad)
	if u, err := url.Parse(d.Directory); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		bad("directory", "%.100q is not the https URL of an ACME directory", d.Directory)
	}
	if c.Email != "" && (strings.Count(c.Email, "@") != 1 || len(c.Email) > 254 || strings.ContainsFunc(c.Email, func(r rune) bool { return r <= ' ' || strings.ContainsRune("?,<>\"\x7f", r) })) {
		bad("email", "%.100q is not an address such as admin@example.com", c.Email)
	}
	if c.EABKeyID != "" && c.EABKeyFile == "" {
		bad("eab_kid", "needs its key: eab_key_file = \"FILE\"")
	}
	if c.EABKeyFile != "" && c.EABKeyID == "" {
		bad("eab_key_file", "needs the identifier of the key: eab_kid = \"ID\"")
	}
	for i, ch := range d.Challenges {
		if !slices.Contains([]string{TLSALPN01, HTTP01, DNS01}, ch) {
			bad("challenges", "%.40q is none of %s, %s and %s", ch, TLSALPN01, HTTP01, DNS01)
		} else if slices.Contains(d.Challenges[:i], ch) {
			bad("challenges", "%s is there twice", ch)
		}
	}
	wants := func(ch string) bool { return slices.Contains(d.Challenges, ch) }
	if wants(DNS01) && c.DNSExec == "" {
		bad("challenges", "dns-01 needs a program that sets the record: dns_exec = \"/PATH\"")
	}
	if c.DNSExec != "" && !filepath.IsAbs(c.DNSExec) {
		bad("dns_exec", "%.100q is not an absolute path", c.DNSExec)
	}
	if c.DNSExec != "" && !wants(DNS01) {
		bad("dns_exec", "has no effect while challenges are without dns-01")
	}
	if !address(d.HTTPAddress) {
		bad("http_address", "%.100q is not host:port", d.HTTPAddress)
	} else if d.HTTPAddress != defaultHTTPAddress && !wants(HTTP01) {
		bad("http_address", "has no effect while challenges are without http-01")
	}
	if c.TLSAddress != "" && !address(c.TLSAddress) {
		bad("tls_address", "%.100q is not host:port", c.TLSAddress)
	} else if c.TLSAddress != "" && !wants(TLSALPN01) {
		bad("tls_address", "has no effect while challenges are without tls-alpn-01")
	}
	if c.RenewBefore != 0 && (c.RenewBefore < time.Minute || c.RenewBefore > 8760*time.Hour) {
		bad("renew_before", "%v is not within 1m and 8760h", c.RenewBefore)
	}
	return errors.Join(errs...)
}

// says tells whether anything beside the names is set, other than to a default.
func (c Config) says() bool {
	return c.Email != "" || c.Directory != "" && c.Directory != LetsEncrypt || c.Staging || c.CAFile != "" ||
		c.EABKeyID != "" || c.EABKeyFile != "" || len(c.Challenges) > 0 || c.TLSAddress != "" || c.DNSExec != "" ||
		c.HTTPAddress != "" && c.HTTPAddress != defaultHTTPAddress || c.RenewBefore != 0
}

func (c Config) checkNames(d Config, bad func(key, format string, a ...any)) {
	if len(d.Names) > maxNames {
		bad("names", "%d of them, at most %d wanted", len(d.Names), maxNames)
		return
	}
	only := func(ch string) bool { return len(d.Challenges) == 1 && d.Challenges[0] == ch }
	for i, n := range d.Names {
		ip, err := netip.ParseAddr(n)
		switch {
		case err == nil && (ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast()):
			bad("names", "%.100q is not an address that a certificate can be for", n)
		case err == nil && only(DNS01):
			bad("names", "%s: dns-01 cannot prove an address; allow tls-alpn-01 or http-01", n)
		case err != nil && !isDNSName(strings.TrimPrefix(n, "*.")):
			bad("names", "%.100q is neither an address nor a DNS name (letters, digits and hyphens; others as xn--…)", c.Names[i])
		case strings.HasPrefix(n, "*.") && !slices.Contains(d.Challenges, DNS01):
			bad("names", "%s: a wildcard needs dns-01, and dns_exec for it", n)
		case slices.Contains(d.Names[:i], n):
			bad("names", "%s is there twice", n)
		}
	}
}

// normal is the form of a name by which it is looked up: lower case, no dot at the end; an address as netip writes it.
func normal(name string) string {
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Unmap().String()
	}
	return strings.TrimSuffix(strings.ToLower(name), ".")
}

func isDNSName(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if len(l) == 0 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' ||
			strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	// An all-numeric last label is a mistyped address.
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

func address(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = net.LookupPort("tcp", port)
	return err == nil && port != ""
}
