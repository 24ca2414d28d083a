package pki

import (
	"fmt"
	"strings"
)

// Reason of a revocation, RFC 5280 section 5.3.1.
type Reason int

const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	CACompromise         Reason = 2
	AffiliationChanged   Reason = 3
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
	CertificateHold      Reason = 6
	removeFromCRL        Reason = 8 // of delta lists alone, which are refused
	PrivilegeWithdrawn   Reason = 9
	AACompromise         Reason = 10
)

func reasonNames() []string {
	return []string{
		"unspecified", "key-compromise", "ca-compromise", "affiliation-changed", "superseded",
		"cessation-of-operation", "certificate-hold", "", "", "privilege-withdrawn", "aa-compromise",
	}
}

// String is the reason's name in lower case with hyphens.
func (r Reason) String() string {
	if r.valid() {
		return reasonNames()[r]
	}
	return fmt.Sprintf("reason-%d", int(r))
}

func (r Reason) valid() bool {
	return r >= Unspecified && r <= CertificateHold || r == PrivilegeWithdrawn || r == AACompromise
}

// ParseReason reads a name such as key-compromise, also written keyCompromise.
func ParseReason(s string) (Reason, error) {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "")) }
	var all []string
	for i, name := range reasonNames() {
		if name == "" {
			continue
		}
		if plain(s) == plain(name) {
			return Reason(i), nil
		}
		all = append(all, name)
	}
	return 0, fmt.Errorf("reason %q: one of %s wanted", cut(s, 40), strings.Join(all, ", "))
}
