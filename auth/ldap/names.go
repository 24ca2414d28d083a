package ldap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	goldap "github.com/go-ldap/ldap/v3"
)

// What stands in templates for the user, and for the distinguished name of its entry.
const (
	userHere = "${user}"
	dnHere   = "${dn}"
)

const (
	maxName   = 256 // bytes of a user or group
	maxGroups = 256
)

// plausible reports whether a user name is one that a directory may be asked about. Spaces at the ends, which a directory
// would not see, make it another name for us.
func plausible(user string) bool {
	return user != "" && len(user) <= maxName && utf8.ValidString(user) && strings.TrimSpace(user) == user &&
		!strings.ContainsFunc(user, unicode.IsControl)
}

// bindName is the name that a user is bound with. In one that is no distinguished name, for which there are no rules of
// escaping, only plain names are taken.
func bindName(template, user string) (string, bool) {
	if strings.Contains(template, "=") {
		return strings.ReplaceAll(template, userHere, goldap.EscapeDN(user)), true
	}
	return strings.ReplaceAll(template, userHere, user), plain(user)
}

// plain reports whether a name has only ASCII letters, digits and ". _ -".
func plain(user string) bool {
	return !strings.ContainsFunc(user, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
}

// filter puts values into a filter.
func filter(template, user, dn string) string {
	return strings.NewReplacer(userHere, goldap.EscapeFilter(user), dnHere, goldap.EscapeFilter(dn)).Replace(template)
}

// checkFilter says what is wrong with a filter, of which one of the placeholders must be a part.
func checkFilter(template string, holds ...string) error {
	if !slices.ContainsFunc(holds, func(s string) bool { return strings.Contains(template, s) }) {
		return fmt.Errorf("no %s in it", strings.Join(holds, " or "))
	}
	if _, err := goldap.CompileFilter(filter(template, "x", "x")); err != nil {
		return errors.New("this is no filter of RFC 4515")
	}
	return nil
}

// nameOf is the user's name: that of its entry, of several always the same; without an entry what the client says in small
// letters, if that can only be one.
func nameOf(e *goldap.Entry, attribute, user string) (string, bool) {
	var names []string
	if e != nil {
		names = slices.Sorted(slices.Values(e.GetEqualFoldAttributeValues(attribute)))
	}
	if len(names) > 0 {
		return names[0], plausible(names[0])
	}
	return strings.ToLower(user), plain(user)
}

// groupName is the first value of a distinguished name, or the text itself.
func groupName(s string) string {
	if dn, err := goldap.ParseDN(s); err == nil && len(dn.RDNs) > 0 && len(dn.RDNs[0].Attributes) > 0 {
		return dn.RDNs[0].Attributes[0].Value
	}
	return s
}

// groups are the names without doubles. One that cannot be a name is an error: with a deny rule for it, leaving it out would
// let its members in.
func groups(names []string) ([]string, error) {
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > maxGroups {
		return nil, fmt.Errorf("more than %d groups", maxGroups)
	}
	for _, n := range names {
		if !plausible(n) {
			return nil, fmt.Errorf("a group with the name %.40q", n)
		}
	}
	return names, nil
}
