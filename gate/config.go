package gate

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Config bounds what strangers may ask of the server. Zero fields have their defaults; where 0 means "no bound" in the file,
// -1 does here. DESIGN.md says how the defaults follow from a fleet of 10,000 devices behind one address.
type Config struct {
	// AddressRate is how many connections a second may begin from one address: an IPv4 address, or the /64 of an IPv6 one.
	// 0 sets no bound.
	AddressRate int `toml:"address_rate" default:"500" min:"0" max:"1000000" none:"-1"`

	// AddressBurst is how many may begin at once from an address that was quiet before.
	AddressBurst int `toml:"address_burst" default:"2500" min:"1" max:"10000000"`

	// AddressConnections is how many connections one address may have open. 0 sets no bound.
	AddressConnections int `toml:"address_connections" default:"25000" min:"0" max:"100000000" none:"-1"`

	// AddressHandshakes is how many of them may be in the TLS handshake. 0 sets no bound.
	AddressHandshakes int `toml:"address_handshakes" default:"2500" min:"0" max:"100000000" none:"-1"`

	// AddressConnects is how many of them may have done it and wait for their CONNECT to be accepted. 0 sets no bound.
	AddressConnects int `toml:"address_connects" default:"2500" min:"0" max:"100000000" none:"-1"`

	// NetworkRate is the same as `address_rate` for all addresses of a network: a /24 of IPv4, a /48 of IPv6. Of the bounds
	// of networks and of those in total, the last eighth is for addresses from which a client has connected within a day.
	NetworkRate int `toml:"network_rate" default:"1000" min:"0" max:"1000000" none:"-1"`

	// NetworkBurst is the same as `address_burst` for a network.
	NetworkBurst int `toml:"network_burst" default:"5000" min:"1" max:"10000000"`

	// NetworkConnections is the same as `address_connections` for a network.
	NetworkConnections int `toml:"network_connections" default:"100000" min:"0" max:"100000000" none:"-1"`

	// NetworkHandshakes is the same as `address_handshakes` for a network.
	NetworkHandshakes int `toml:"network_handshakes" default:"5000" min:"0" max:"100000000" none:"-1"`

	// NetworkConnects is the same as `address_connects` for a network.
	NetworkConnects int `toml:"network_connects" default:"5000" min:"0" max:"100000000" none:"-1"`

	// TotalRate is the same as `address_rate` for everybody together, except those in `exempt`.
	TotalRate int `toml:"total_rate" default:"10000" min:"0" max:"1000000" none:"-1"`

	// TotalBurst is the same as `address_burst` for everybody together, except those in `exempt`.
	TotalBurst int `toml:"total_burst" default:"20000" min:"1" max:"10000000"`

	// TotalConnections is how many connections may be open on all listeners. 0 sets no bound but the descriptors of the
	// process.
	TotalConnections int `toml:"total_connections" default:"0" min:"0" max:"100000000"`

	// TotalHandshakes is how many of them may be in the TLS handshake, for which each takes about 20 kB. 0 sets no bound.
	TotalHandshakes int `toml:"total_handshakes" default:"10000" min:"0" max:"100000000" none:"-1"`

	// TotalConnects is how many of them may wait for their CONNECT to be accepted. 0 sets no bound.
	TotalConnects int `toml:"total_connects" default:"10000" min:"0" max:"100000000" none:"-1"`

	// Exempt are addresses and networks, such as those of a gateway with a fleet behind it, for which only
	// `total_connections`, `total_handshakes` and `total_connects` hold, and which are never banned but by hand. Empty:
	// 127.0.0.0/8 and ::1. The word "none" exempts nobody.
	Exempt []string `toml:"exempt"`

	// Proxies are the addresses and networks of load balancers that begin each connection with a header of the PROXY
	// protocol, version 1 or 2. Connections from there must have one, and count for the address in it. Headers of others
	// are not looked for.
	Proxies []string `toml:"proxies"`

	// BanAfter is how many failures within `ban_window` ban an address for a time. Wrong credentials, unknown CAs and
	// garbage count; what is mostly a mistake, such as an expired certificate, counts little or not. Each client that is
	// connected from the address allows one more. 0 bans nobody but by hand.
	BanAfter int `toml:"ban_after" default:"20" min:"0" max:"100000" none:"-1"`

	// BanWindow is the time after which that many failures are forgotten.
	BanWindow time.Duration `toml:"ban_window" default:"10m" min:"1s" max:"24h"`

	// BanTime is how long the first ban lasts. Each further one within a day of the one before lasts twice as long.
	BanTime time.Duration `toml:"ban_time" default:"1m" min:"1s" max:"24h"`

	// BanLongest is the longest that a ban may last, unless it is made by hand.
	BanLongest time.Duration `toml:"ban_longest" default:"24h" min:"1s" max:"720h"`

	// BanNetworkAfter is how many addresses of one network must be banned within an hour, one after the other, before the
	// whole network is; not while as many of its addresses have clients that connected meanwhile. 0 bans no networks.
	BanNetworkAfter int `toml:"ban_network_after" default:"8" min:"0" max:"128" none:"-1"`

	// TrackedAddresses is how many addresses are remembered, at about 100 bytes each, and a quarter as many networks. Most
	// connections from more of them count for their network and in total.
	TrackedAddresses int `toml:"tracked_addresses" default:"500000" min:"1000" max:"100000000"`

	// MemoryLimit is the memory of which 80 % make the server refuse strangers, and more refuse more. 0 takes GOMEMLIMIT,
	// and without that there is no such limit.
	MemoryLimit int64 `toml:"memory_limit" unit:"bytes" default:"0" min:"0" max:"16TiB"`
}

// bounds are the numbers of a Config with their defaults and limits.
func (c *Config) bounds() []bound {
	const most = 100_000_000
	return []bound{
		{"address_rate", &c.AddressRate, 500, 0, 1_000_000},
		{"address_burst", &c.AddressBurst, 2500, 1, 10_000_000},
		{"address_connections", &c.AddressConnections, 25_000, 0, most},
		{"address_handshakes", &c.AddressHandshakes, 2500, 0, most},
		{"address_connects", &c.AddressConnects, 2500, 0, most},
		{"network_rate", &c.NetworkRate, 1000, 0, 1_000_000},
		{"network_burst", &c.NetworkBurst, 5000, 1, 10_000_000},
		{"network_connections", &c.NetworkConnections, 100_000, 0, most},
		{"network_handshakes", &c.NetworkHandshakes, 5000, 0, most},
		{"network_connects", &c.NetworkConnects, 5000, 0, most},
		{"total_rate", &c.TotalRate, 10_000, 0, 1_000_000},
		{"total_burst", &c.TotalBurst, 20_000, 1, 10_000_000},
		{"total_connections", &c.TotalConnections, 0, 0, most},
		{"total_handshakes", &c.TotalHandshakes, 10_000, 0, most},
		{"total_connects", &c.TotalConnects, 10_000, 0, most},
		{"ban_after", &c.BanAfter, 20, 0, 100_000},
		{"ban_network_after", &c.BanNetworkAfter, 8, 0, 128},
		{"tracked_addresses", &c.TrackedAddresses, 500_000, 1000, most},
	}
}

// spans are the durations.
func (c *Config) spans() []span {
	return []span{
		{"ban_window", &c.BanWindow, 10 * time.Minute, time.Second, 24 * time.Hour},
		{"ban_time", &c.BanTime, time.Minute, time.Second, 24 * time.Hour},
		{"ban_longest", &c.BanLongest, 24 * time.Hour, time.Second, 720 * time.Hour},
	}
}

type bound struct {
	key           string
	val           *int
	base, min, to int
}

type span struct {
	key           string
	val           *time.Duration
	base, min, to time.Duration
}

// maxMemoryLimit is 16 TiB.
const maxMemoryLimit = 16 << 40

// effective has defaults in place of zeros, and zero in place of what is -1.
func (c Config) effective() Config {
	for _, b := range c.bounds() {
		if *b.val == 0 {
			*b.val = b.base
		} else if *b.val == -1 && b.min == 0 {
			*b.val = 0
		}
	}
	for _, s := range c.spans() {
		if *s.val == 0 {
			*s.val = s.base
		}
	}
	return c
}

// Validate reports every value outside its limits, by its key in the configuration file.
func (c Config) Validate() error {
	c = c.effective()
	var errs []error
	for _, b := range c.bounds() {
		if *b.val < b.min || *b.val > b.to {
			errs = append(errs, fmt.Errorf("%s: %d is not between %d and %d", b.key, *b.val, b.min, b.to))
		}
	}
	for _, s := range c.spans() {
		if *s.val < s.min || *s.val > s.to {
			errs = append(errs, fmt.Errorf("%s: %v is not between %v and %v", s.key, *s.val, s.min, s.to))
		}
	}
	if c.BanTime > c.BanLongest {
		errs = append(errs, fmt.Errorf("ban_time: %v is more than ban_longest, %v", c.BanTime, c.BanLongest))
	}
	if c.MemoryLimit < 0 || c.MemoryLimit > maxMemoryLimit {
		errs = append(errs, fmt.Errorf("memory_limit: %d is not between 0 and %d", c.MemoryLimit, int64(maxMemoryLimit)))
	}
	if _, err := c.exempt(); err != nil {
		errs = append(errs, fmt.Errorf("exempt: %w", err))
	}
	if _, err := prefixes(c.Proxies); err != nil {
		errs = append(errs, fmt.Errorf("proxies: %w", err))
	}
	return errors.Join(errs...)
}

func (c Config) exempt() ([]netip.Prefix, error) {
	switch {
	case len(c.Exempt) == 0:
		return prefixes([]string{"127.0.0.0/8", "::1"})
	case len(c.Exempt) == 1 && c.Exempt[0] == "none":
		return nil, nil
	}
	return prefixes(c.Exempt)
}

func prefixes(texts []string) ([]netip.Prefix, error) {
	var ps []netip.Prefix
	for _, s := range texts {
		p, err := ParsePrefix(s)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// ParsePrefix reads a network such as 192.0.2.0/24 or 2001:db8::/48, or an address, which is one of its own. What lies
// outside the mask must be zero, so that a slip of the pen is noticed.
func ParsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%.60q is not an address or a network", s)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%.60q is not a network", s)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%.60q is not a network: do you mean %v?", s, p.Masked())
	}
	return p, nil
}

// rules are a Config made ready for use.
type rules struct {
	address, network, total limits
	exempt, proxies         *ranges
	tracked                 int

	banAfter, banNetworkAfter int
	failure                   int64 // ns that a success pays for
	window                    int64
	banTime, banLongest       int64
}

// newRules takes an effective and valid Config.
func newRules(c Config) *rules {
	exempt, _ := c.exempt()
	proxies, _ := prefixes(c.Proxies)
	r := &rules{
		address:  newLimits(c.AddressRate, c.AddressBurst, c.AddressConnections, c.AddressHandshakes, c.AddressConnects),
		network:  newLimits(c.NetworkRate, c.NetworkBurst, c.NetworkConnections, c.NetworkHandshakes, c.NetworkConnects),
		total:    newLimits(c.TotalRate, c.TotalBurst, c.TotalConnections, c.TotalHandshakes, c.TotalConnects),
		exempt:   always(exempt),
		proxies:  always(proxies),
		tracked:  c.TrackedAddresses,
		banAfter: c.BanAfter, banNetworkAfter: c.BanNetworkAfter,
		window: int64(c.BanWindow), banTime: int64(c.BanTime), banLongest: int64(c.BanLongest),
	}
	if c.BanAfter > 0 {
		r.failure = r.window / int64(c.BanAfter)
	}
	return r
}
