package ldap

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// Config says which directory is asked, and how users are found in it. Zero fields have their defaults.
type Config struct {
	// URL is the address of the directory: ldaps://HOST:PORT, or ldap://HOST:PORT, which begins TLS with StartTLS.
	URL string `toml:"url"`

	// CAFile is a PEM file with the CA of the directory's certificate. Empty: those of the machine.
	CAFile string `toml:"ca_file"`

	// Plaintext does without TLS on an ldap:// URL: passwords are then readable on the way.
	Plaintext bool `toml:"allow_plaintext"`

	// UserDN is the name that a client is bound with: a distinguished name such as uid=${user},ou=people,dc=example,dc=org,
	// or ${user}@example.org for Active Directory. Empty: users are searched for.
	UserDN string `toml:"user_dn"`

	// BindDN is the account that searches. Empty: the search is anonymous; with user_dn, the client's own.
	BindDN string `toml:"bind_dn"`

	// PasswordFile is a file, readable by its owner alone, whose first line is the password of bind_dn.
	PasswordFile string `toml:"password_file"`

	// Base is where users are searched.
	Base string `toml:"search_base"`

	// Filter finds a user there: exactly one entry has to be it.
	Filter string `toml:"search_filter" default:"(uid=${user})"`

	// NameAttribute is the attribute of the user's entry that becomes the principal's name, so that ALICE and alice are one.
	NameAttribute string `toml:"name_attribute" default:"uid"`

	// GroupAttribute is the attribute of the user's entry that names its groups. Of distinguished names the first value is the
	// group.
	GroupAttribute string `toml:"group_attribute" default:"memberOf"`

	// GroupBase is where groups are searched, beside those of group_attribute. Empty: they are not.
	GroupBase string `toml:"group_base"`

	// GroupFilter finds those of ${user} or ${dn} there.
	GroupFilter string `toml:"group_filter" default:"(member=${dn})"`

	// GroupName is the attribute with a group's name.
	GroupName string `toml:"group_name" default:"cn"`

	// Timeout is how long all that is asked about one client may take. After it the client is told that authentication is not
	// available.
	Timeout time.Duration `toml:"timeout" default:"5s" min:"100ms" max:"1m"`

	// Conns is how many connections to the directory are open at most. More clients wait.
	Conns int `toml:"connections" default:"4" min:"1" max:"100"`
}

func (c Config) effective() Config {
	for _, d := range []struct {
		val  *string
		base string
	}{{&c.Filter, "(uid=${user})"}, {&c.NameAttribute, "uid"}, {&c.GroupAttribute, "memberOf"}, {&c.GroupFilter, "(member=${dn})"}, {&c.GroupName, "cn"}} {
		if *d.val == "" {
			*d.val = d.base
		}
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Conns == 0 {
		c.Conns = 4
	}
	return c
}

// Validate reports every value that is missing or outside its limits, by its key in the configuration file. It opens no
// file.
func (c Config) Validate() error {
	c = c.effective()
	var errs []error
	bad := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }
	if _, err := parseURL(c.URL); err != nil {
		bad("url", "%w", err)
	} else if c.Plaintext && !strings.HasPrefix(c.URL, "ldap://") {
		bad("allow_plaintext", "the URL is not ldap://")
	}
	switch {
	case c.UserDN == "" && c.Base == "":
		bad("user_dn", "want this or search_base, to find users by")
	case c.UserDN != "" && !strings.Contains(c.UserDN, userHere):
		bad("user_dn", "no %s in it: all clients would be one user", userHere)
	case c.UserDN != "" && c.BindDN != "":
		bad("bind_dn", "clients are bound by user_dn, and search themselves: leave out one of the two")
	}
	if (c.BindDN == "") != (c.PasswordFile == "") {
		bad("password_file", "bind_dn and password_file belong together")
	}
	for _, f := range []struct {
		key, filter string
		used        bool
		holds       []string
	}{{"search_filter", c.Filter, c.Base != "", []string{userHere}}, {"group_filter", c.GroupFilter, c.GroupBase != "", []string{userHere, dnHere}}} {
		if !f.used {
			continue
		}
		if err := checkFilter(f.filter, f.holds...); err != nil {
			bad(f.key, "%w", err)
		}
	}
	if c.Timeout < 100*time.Millisecond || c.Timeout > time.Minute {
		bad("timeout", "%v is not between 100ms and 1m", c.Timeout)
	}
	if c.Conns < 1 || c.Conns > 100 {
		bad("connections", "%d is not between 1 and 100", c.Conns)
	}
	return errors.Join(errs...)
}

// server is where a directory is.
type server struct {
	host string // for its certificate
	addr string
	tls  bool // from the first byte
}

func parseURL(raw string) (server, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return server{}, errors.New("this is no URL")
	case u.Scheme != "ldap" && u.Scheme != "ldaps":
		return server{}, errors.New("want ldaps:// or ldap://")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return server{}, errors.New("want a host and a port, nothing else")
	case u.Hostname() == "":
		return server{}, errors.New("the URL has no host")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ldap": "389", "ldaps": "636"}[u.Scheme]
	}
	return server{u.Hostname(), net.JoinHostPort(u.Hostname(), port), u.Scheme == "ldaps"}, nil
}
