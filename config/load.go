package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/sealmq/sealmq/config/internal/bind"
	"github.com/sealmq/sealmq/pki"
)

// Load reads a file. The error lists everything that is wrong with it and with the certificate files that it names, a
// line each: "sealmq.toml:7: listener.address: …". Relative paths in it count from its own folder.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, bind.MaxSize+1))
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, doc, ps := parse(path, data)
	if err := append(ps, c.files(doc)...).Err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Parse reads a configuration from memory, as Load does, without looking at the files that it names. The name appears
// in errors, and its folder is where relative paths begin.
func Parse(name string, data []byte) (Config, error) {
	c, _, ps := parse(name, data)
	if err := ps.Err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// hints are for those who know the key by another broker's name.
var hints = map[string]string{
	"port":                         `the port is a part of address: address = ":8883"`,
	"bind_address":                 `it is a part of address: address = "192.168.1.5:8883"`,
	"protocol":                     "a listener speaks MQTT 3.1, 3.1.1 and 5 at once; over WebSocket with websocket = true",
	"cafile":                       "here it is client_ca, in [[listener]]",
	"certfile":                     "here it is certificate, in [[listener]]",
	"keyfile":                      "here it is key, in [[listener]]",
	"require_certificate":          `here it is client_certificates = "required", "optional" or "none", in [[listener]]`,
	"allow_anonymous":              "here it is anonymous, in [[listener]]",
	"message_size_limit":           "here it is max_packet_size, in [limits]",
	"max_inflight":                 "here it is max_inflight_messages, in [limits]",
	"persistent_client_expiration": "here it is max_session_expiry, in [limits]",
	"tls_version":                  "TLS 1.2 and 1.3 are always on, and nothing older",
	"tls_versions":                 "TLS 1.2 and 1.3 are always on, and nothing older",
	"ciphers":                      "the cipher suites are fixed to those without known weakness",
	"log_type":                     "here it is level, in [log]",
	"password_file":                "here it is file, in [auth.password], and auth = [\"certificate\", \"password\"] in [[listener]]",
	"use_identity_as_username":     "here it is identity = \"cn\", in [[listener]]",
	"use_subject_as_username":      "here it is identity = \"subject\", in [[listener]]",
}

// mosquitto finds lines that no TOML file has: a key, blanks, and no equals sign.
var mosquitto = regexp.MustCompile(`(?m)^[ \t]*(listener|port|bind_address|allow_anonymous|persistence|persistence_location|cafile|capath|certfile|keyfile|` +
	`require_certificate|password_file|acl_file|log_dest|log_type|pid_file|include_dir|per_listener_settings|connection|protocol)[ \t]+[^ \t=]`)

func parse(name string, data []byte) (Config, *bind.Document, bind.Problems) {
	doc, ps := bind.Parse(name, data)
	if len(ps) > 0 && mosquitto.Match(data) {
		return Config{}, doc, bind.Problems{{File: name, Text: "this is a configuration of Mosquitto; SealMQ reads TOML, and without any file it has TLS, " +
			"a CA and port 8883 (docs/handbook/configuration.md has every key)"}}
	}
	var c Config
	ps = append(ps, bind.Bind(doc, &c, bind.Options{
		Element: func(_ string, e any) {
			// [limits] has been read: it is bound before the lists.
			l := e.(*Listener)
			l.Limits, l.inherited = c.Broker.Limits, true
		},
		Hints: hints,
	})...)
	if dir := filepath.Dir(name); dir != "." {
		base(dir, &c.Data, &c.Policy, &c.ACLFile, &c.CA.PassphraseFile, &c.ACME.CAFile, &c.ACME.EABKeyFile,
			&c.Auth.Password.File, &c.Auth.JWT.CAFile, &c.Auth.HTTP.CAFile, &c.Auth.HTTP.TokenFile, &c.Auth.LDAP.CAFile, &c.Auth.LDAP.PasswordFile)
		for i := range c.Auth.JWT.Keys {
			base(dir, &c.Auth.JWT.Keys[i])
		}
		for i := range c.Listeners {
			l := &c.Listeners[i]
			base(dir, &l.Certificate, &l.Key, &l.ClientCA)
			for _, list := range [][]string{l.MoreCertificates, l.MoreKeys} {
				for j := range list {
					base(dir, &list[j])
				}
			}
			for j, c := range l.ClientCRL {
				if !strings.Contains(c, "://") {
					base(dir, &l.ClientCRL[j])
				}
			}
		}
	}
	c = c.Effective()
	return c, doc, append(ps, c.problems(doc, ps)...)
}

func base(dir string, paths ...*string) {
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// files checks that the certificate files can be used, just as the server will when it starts.
func (c Config) files(doc *bind.Document) bind.Problems {
	p := top(doc)
	p.in("auth").authFiles(c)
	for i, l := range c.Listeners {
		q := p.element("listener", i, l.Name)
		cert, key := q.readable("certificate", l.Certificate), q.readable("key", l.Key)
		if cert && key {
			_, err := pki.LoadServer(l.Certificate, l.Key, time.Now())
			q.unusable("certificate", err)
		}
		for j := range min(len(l.MoreCertificates), len(l.MoreKeys)) {
			cert, key := q.readable("more_certificates", l.MoreCertificates[j]), q.readable("more_keys", l.MoreKeys[j])
			if cert && key {
				_, err := pki.LoadServer(l.MoreCertificates[j], l.MoreKeys[j], time.Now())
				q.unusable("more_certificates", err)
			}
		}
		if q.readable("client_ca", l.ClientCA) {
			_, err := pki.LoadPool(l.ClientCA)
			q.unusable("client_ca", err)
		}
	}
	return *p.found
}

// readable tells whether a file is named and can be opened.
func (p *place) readable(key, file string) bool {
	if file == "" {
		return false
	}
	f, err := os.Open(file)
	if err != nil {
		p.add(key, "%v", err)
		return false
	}
	f.Close()
	return true
}

func (p *place) unusable(key string, err error) {
	if err == nil {
		return
	}
	advice := ""
	if h := (interface{ Hint() string })(nil); errors.As(err, &h) {
		advice = "; " + h.Hint()
	}
	p.add(key, "%v%s", err, advice)
}
