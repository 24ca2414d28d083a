package acme

import (
	"strings"
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	names := []string{"mqtt.example.com"}
	for _, c := range []struct {
		name string
		cfg  Config
		want string // "" for none; else what each line begins with
	}{
		{"nothing", Config{}, ""},
		{"a name is enough", Config{Names: names}, ""},
		{"upper case and a dot at the end", Config{Names: []string{"MQTT.Example.com."}}, ""},
		{"addresses", Config{Names: []string{"203.0.113.1", "2001:db8::1"}}, ""},
		{"one label, for a private CA", Config{Names: []string{"broker"}, Directory: "https://ca.lan/acme/directory", CAFile: "root.pem"}, ""},
		{"all of it", Config{Names: []string{"a.example", "*.a.example"}, Email: "admin@a.example", Directory: LetsEncrypt, Staging: true,
			EABKeyID: "k", EABKeyFile: "f", Challenges: []string{TLSALPN01, HTTP01, DNS01}, HTTPAddress: "127.0.0.1:8080", TLSAddress: ":443",
			DNSExec: "/usr/local/bin/dns", RenewBefore: 720 * time.Hour}, ""},

		{"without names", Config{Email: "a@example.com"}, "names:"},
		{"defaults are nothing", Config{Directory: LetsEncrypt, HTTPAddress: ":80"}, ""},
		{"a URL", Config{Names: []string{"https://example.com"}}, "names:"},
		{"an underscore", Config{Names: []string{"a_b.example"}}, "names:"},
		{"umlauts", Config{Names: []string{"bücher.example"}}, "names:"},
		{"a mistyped address", Config{Names: []string{"203.0.113"}}, "names:"},
		{"unspecified", Config{Names: []string{"0.0.0.0"}}, "names:"},
		{"a zone", Config{Names: []string{"fe80::1%eth0"}}, "names:"},
		{"twice", Config{Names: []string{"a.example", "A.example."}}, "names:"},
		{"the same address", Config{Names: []string{"192.0.2.1", "::ffff:192.0.2.1"}}, "names:"},
		{"too many", Config{Names: strings.Split(strings.Repeat("a,", 101), ",")}, "names:"},
		{"a wildcard without dns-01", Config{Names: []string{"*.example.com"}}, "names:"},
		{"a wildcard in the middle", Config{Names: []string{"a.*.example.com"}, DNSExec: "/x"}, "names:"},
		{"an address by dns-01", Config{Names: []string{"203.0.113.1"}, DNSExec: "/x"}, "names:"},
		{"http", Config{Names: names, Directory: "http://ca.lan/directory"}, "directory:"},
		{"staging of another", Config{Names: names, Directory: "https://ca.lan/directory", Staging: true}, "staging:"},
		{"no address", Config{Names: names, Email: "admin"}, "email:"},
		{"two addresses", Config{Names: names, Email: "a@example.com,b@example.com"}, "email:"},
		{"half an account", Config{Names: names, EABKeyID: "k"}, "eab_kid:"},
		{"the other half", Config{Names: names, EABKeyFile: "k"}, "eab_key_file:"},
		{"no such challenge", Config{Names: names, Challenges: []string{"tls-sni-01"}}, "challenges:"},
		{"a challenge twice", Config{Names: names, Challenges: []string{HTTP01, HTTP01}}, "challenges:"},
		{"dns-01 without program", Config{Names: names, Challenges: []string{DNS01}}, "challenges:"},
		{"a relative program", Config{Names: names, DNSExec: "dns.sh"}, "dns_exec:"},
		{"a program for nothing", Config{Names: names, DNSExec: "/x", Challenges: []string{HTTP01}}, "dns_exec:"},
		{"no port", Config{Names: names, HTTPAddress: "localhost"}, "http_address:"},
		{"an address for nothing", Config{Names: names, HTTPAddress: ":8080", Challenges: []string{TLSALPN01}}, "http_address:"},
		{"another for nothing", Config{Names: names, TLSAddress: ":443", Challenges: []string{HTTP01}}, "tls_address:"},
		{"a port of letters", Config{Names: names, TLSAddress: ":no-such-service"}, "tls_address:"},
		{"soon", Config{Names: names, RenewBefore: time.Second}, "renew_before:"},
		{"several at once", Config{Names: names, Email: "x", EABKeyID: "k", RenewBefore: -1}, "email: eab_kid: renew_before:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			if err := c.cfg.Validate(); err != nil {
				for _, line := range strings.Split(err.Error(), "\n") {
					got = append(got, strings.Fields(line)[0])
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %v, wanted %q", c.cfg.Validate(), c.want)
			}
		})
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"a.example", "*.a.example", "192.0.2.1", "::1", "a..b", "-a.example", "xn--bcher-kva.example", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if err := (Config{Names: []string{s}, DNSExec: "/x", Challenges: []string{DNS01, HTTP01}}).Validate(); err != nil {
			return
		}
		n := normal(s)
		if n != normal(n) {
			t.Errorf("%q becomes %q, that %q", s, n, normal(n))
		}
		if checkKey("certificates/x/"+strings.NewReplacer(":", "-", "*", "wildcard_").Replace(n)) != nil {
			t.Errorf("%q gives a key that is none", s)
		}
	})
}
