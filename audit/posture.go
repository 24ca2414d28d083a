package audit

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/registry"
)

// Posture is how modern the cryptography in use is: what the devices that may connect used last.
type Posture struct {
	Devices     int     `json:"devices"`      // that have connected
	PostQuantum int     `json:"post_quantum"` // of these, with a key agreement that a quantum computer does not break
	TLSVersions []Share `json:"tls_versions,omitempty"`
	Groups      []Share `json:"groups,omitempty"` // of the key agreement
	Suites      []Share `json:"cipher_suites,omitempty"`
	Keys        []Share `json:"keys,omitempty"` // of clients that were connected since the broker started
}

// Share is a part of the fleet.
type Share struct {
	Name    string  `json:"name"`
	Count   int     `json:"count"`
	Percent float64 `json:"percent"` // to one decimal
}

// maxShares bounds how many names of a kind are told apart.
const maxShares = 32

// counts by name.
type counts struct {
	devices, postQuantum           int
	versions, groups, suites, keys map[string]int
}

func (c *counts) seen(s *registry.Seen) {
	c.devices++
	if postQuantum(s.Group) {
		c.postQuantum++
	}
	tally(&c.versions, s.TLSVersion)
	tally(&c.groups, s.Group)
	tally(&c.suites, s.CipherSuite)
}

func (c *counts) key(kind string) { tally(&c.keys, kind) }

func tally(m *map[string]int, name string) {
	if *m == nil {
		*m = make(map[string]int)
	}
	name = cmp.Or(name, "unknown")
	if _, ok := (*m)[name]; !ok && len(*m) >= maxShares {
		name = "other"
	}
	(*m)[name]++
}

func postQuantum(group string) bool { return strings.Contains(group, "MLKEM") }

func (c *counts) posture() Posture {
	return Posture{
		Devices: c.devices, PostQuantum: c.postQuantum,
		TLSVersions: shares(c.versions), Groups: shares(c.groups), Suites: shares(c.suites), Keys: shares(c.keys),
	}
}

// shares are the counts, the largest first.
func shares(m map[string]int) []Share {
	var all []Share
	total := 0
	for name, n := range m {
		all = append(all, Share{Name: name, Count: n})
		total += n
	}
	for i := range all {
		all[i].Percent = percent(all[i].Count, total)
	}
	slices.SortFunc(all, func(a, b Share) int { return cmp.Or(b.Count-a.Count, strings.Compare(a.Name, b.Name)) })
	return all
}

func percent(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(n*1000/of) / 10
}
