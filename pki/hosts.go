package pki

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
)

// maxHosts bounds the names of one broker certificate, so that it stays small
// enough for devices with little memory.
const maxHosts = 64

// maxAddresses bounds how many of the machine's own addresses are taken.
const maxAddresses = 16

// LocalHosts are the names under which clients may know this machine:
// localhost, the host name (also with .local, as mDNS has it), 127.0.0.1, ::1
// and the addresses of its interfaces that are up, without link-local ones.
func LocalHosts() []string {
	hosts := []string{"localhost"}
	if name, err := os.Hostname(); err == nil {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if CheckHost(name) == nil && name != "localhost" {
			hosts = append(hosts, name)
			if !strings.Contains(name, ".") {
				hosts = append(hosts, name+".local")
			}
		}
	}
	hosts = append(hosts, "127.0.0.1", "::1")
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return hosts
	}
	n := 0
	for _, a := range addrs {
		ipn, ok := a.(*net.IPNet)
		if !ok || !ipn.IP.IsGlobalUnicast() || n == maxAddresses {
			continue
		}
		hosts = append(hosts, ipn.IP.String())
		n++
	}
	return hosts
}

// CheckHost accepts an IP address or a DNS name of at most 253 bytes; a name
// may begin with the label "*".
func CheckHost(h string) error {
	if net.ParseIP(h) != nil {
		return nil
	}
	bad := func(why string) error { return fmt.Errorf("host %q: %s", h, why) }
	if len(h) > 253 {
		return bad("longer than 253 bytes")
	}
	if strings.Contains(h, "://") {
		return bad("a name or an address, not a URL")
	}
	for i, label := range strings.Split(h, ".") {
		if label == "" || len(label) > 63 {
			return bad("a label is empty or longer than 63 bytes")
		}
		if label == "*" && i == 0 && strings.Contains(h, ".") {
			continue
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return bad(fmt.Sprintf("%q is not allowed", c))
			}
		}
	}
	return nil
}

// cleanHosts checks names, brings them to one form, drops repeats and keeps the order.
func cleanHosts(hosts []string) ([]string, error) {
	var out []string
	for _, h := range hosts {
		h = strings.TrimSuffix(strings.TrimSpace(h), ".")
		h = strings.TrimSuffix(strings.TrimPrefix(h, "["), "]")
		if err := CheckHost(h); err != nil {
			return nil, err
		}
		if ip := net.ParseIP(h); ip != nil {
			h = ip.String()
		} else {
			h = strings.ToLower(h)
		}
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	if len(out) > maxHosts {
		return nil, fmt.Errorf("%d host names for one certificate, at most %d", len(out), maxHosts)
	}
	return out, nil
}
