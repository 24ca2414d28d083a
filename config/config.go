// Package config is the configuration of a SealMQ server: the Config types of the packages put together, and the one
// strict file, sealmq.toml, that is read into them.
//
// Load and Parse report everything that is wrong at once, each with file, line and key. What they return is complete:
// every value is set, either as the file says or to its default. A program that embeds the server fills a Config
// itself, leaving zero what shall have its default. Nothing is read after that: no file, environment or flag.
//
// The package starts no goroutine. cmd/sealmq and the root package use it.
package config

import (
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/auth/callout"
	"github.com/sealmq/sealmq/auth/jwt"
	"github.com/sealmq/sealmq/auth/ldap"
	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/certs/acme"
	"github.com/sealmq/sealmq/config/internal/bind"
	"github.com/sealmq/sealmq/enroll"
	"github.com/sealmq/sealmq/gate"
	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/store/disk"
	"github.com/sealmq/sealmq/transport"
)

//go:generate go run ./internal/docgen -root ..

// DefaultData is the data folder, in the working directory, of a Config that names none.
const DefaultData = "sealmq-data"

// Config is a whole server. Its zero value is the default: one listener on port 8883 with mutual TLS, certificates from
// the server's own CA in the folder sealmq-data. It must not be modified once passed in.
type Config struct {
	// Data is the folder for everything that the server keeps: its CA, certificates and keys. It is made when missing.
	Data string `toml:"data" default:"sealmq-data"`

	// Hosts are names and addresses that the certificate made by the server itself carries, besides localhost and the
	// machine's own host name and addresses.
	Hosts []string `toml:"hosts"`

	// Policy is a file that says who may do what. Empty: the file policy in the data folder, which is made at the first
	// start. At a reload a file with a mistake, or that is missing, leaves the policy in force as it is; at a start it is refused.
	Policy string `toml:"policy"`

	// ACLFile is an access-control file of Mosquitto, which is used instead.
	ACLFile string `toml:"acl_file"`

	// Memory keeps sessions, waiting messages and retained messages in memory only: they end with the broker. Without it
	// they are in the folder store of the data folder, and what was acknowledged survives a crash.
	Memory bool `toml:"memory"`

	// Store says how the store on disk works.
	Store disk.Config `toml:"store"`

	// CA says how the server's own CA is reached, and where what it publishes is to be had.
	CA CA `toml:"ca"`

	// Devices says how long the certificates of devices live, and how they are renewed.
	Devices identity.Config `toml:"devices"`

	// Enroll says what devices may ask for that get their certificates over MQTT.
	Enroll enroll.Config `toml:"enroll"`

	// ACME is where listeners with `acme = true` get their certificates: Let's Encrypt, or any CA that speaks RFC 8555.
	ACME acme.Config `toml:"acme"`

	// Gate bounds what strangers may ask of the server, before anything of theirs is read.
	Gate gate.Config `toml:"gate"`

	// Auth is what the ways need that listeners name in `auth`.
	Auth Auth `toml:"auth"`

	// Broker has its keys at the top of the file and in the table [limits].
	Broker broker.Config `toml:",inline"`

	// Log says what is logged, and how. The log goes to standard error.
	Log Log `toml:"log"`

	// Listeners are where clients connect, a [[listener]] table for each. Without any there is one with the defaults:
	// mutual TLS on port 8883.
	Listeners []Listener `toml:"listener"`
}

// Log says what is logged and how.
type Log struct {
	// Level is the least important kind of line that is logged.
	Level string `toml:"level" default:"info" enum:"debug|info|warn|error"`

	// Format is text (key=value pairs) or json, a line each.
	Format string `toml:"format" default:"text" enum:"text|json"`
}

// Auth are the ways in which clients may prove who they are. Which of them a listener takes is in its own `auth`.
type Auth struct {
	// Password is for password and scram.
	Password password.Config `toml:"password"`

	// JWT is for tokens.
	JWT jwt.Config `toml:"jwt"`

	// HTTP is for a web service that decides.
	HTTP callout.Config `toml:"http"`

	// LDAP is for a directory.
	LDAP ldap.Config `toml:"ldap"`

	// Backoff slows down guessing, on all listeners together.
	Backoff auth.BackoffConfig `toml:"backoff"`
}

// CA says how the server's own CA is reached.
type CA struct {
	// PassphraseFile is a file, readable by its owner alone, whose first line is the passphrase of the CA's encrypted keys,
	// or the PIN of their token. Empty: the environment variable SEALMQ_PASSPHRASE.
	PassphraseFile string `toml:"passphrase_file"`

	// PublishAddress is where revocation lists and the root are served over HTTP, without TLS as RFC 5280 advises: host:port.
	// /pki/device.crl is the list, /pki/device.pem those of all CAs that are trusted, /pki/ca.pem the root. Empty: nowhere; the folder crl of the data folder has them too.
	PublishAddress string `toml:"publish_address"`
}

// Listener is one address on which clients connect.
type Listener struct {
	transport.Config

	// Certificate is a PEM file with the server's certificate, followed by the intermediate CAs. Empty: one from the
	// server's own CA, renewed by itself.
	Certificate string `toml:"certificate"`

	// Key is the PEM file with the private key of `certificate`.
	Key string `toml:"key"`

	// MoreCertificates are further PEM files like `certificate`: clients get the one that has the name they ask for, and
	// that of `certificate` if none has.
	MoreCertificates []string `toml:"more_certificates"`

	// MoreKeys are the keys of `more_certificates`, in the same order.
	MoreKeys []string `toml:"more_keys"`

	// ACME also shows the certificates of the table [acme], to clients that ask for one of their names. Without
	// `certificate` all others get one from the server's own CA.
	ACME bool `toml:"acme"`

	// ClientCA is a PEM file with the CAs whose client certificates are accepted. Empty: the server's own CA, and those of
	// devices' makers (sealmq factory).
	ClientCA string `toml:"client_ca"`

	// OwnClients also accepts clients of the server's own CA, where `client_ca` names others.
	OwnClients bool `toml:"own_clients"`

	// ClientCRL are revocation lists of the CAs in `client_ca`, PEM or DER: files, or http and https URLs, which are
	// fetched. When there are any, every one of these CAs must have one.
	ClientCRL []string `toml:"client_crl"`

	// CRLStale says what happens to clients whose CA's revocation list is out of date: deny, or allow with an alarm.
	CRLStale string `toml:"crl_stale" default:"deny" enum:"deny|allow"`

	// Enroll makes this a listener for enrolment and renewal alone. It takes clients without a certificate, which need a
	// token, and those whose certificate has expired, for `renewal_grace`.
	Enroll bool `toml:"enroll"`

	// Auth are the ways in which clients may prove who they are, in the order in which they are asked: certificate, password,
	// scram, jwt, http, ldap, and last anonymous. Each but the first and the last needs its table, as [auth.password]. Empty:
	// certificate.
	Auth []string `toml:"auth"`

	// Anonymous lets in clients that prove no identity, after all of `auth`; it is the same as anonymous there. A listener with
	// `tls = false` must set it, because without TLS no credentials are taken; with TLS it needs `client_certificates` to be
	// optional or none.
	Anonymous bool `toml:"anonymous"`

	// Identity is what names a client with a certificate of `client_ca`: uri, dns, cn, subject, or a text with these, o, ou, uid
	// or serial_number in ${}, such as ${ou}.${cn}. Each has to be there once. Empty: the URI urn:mqtts:…:device:ID, or cn.
	Identity string `toml:"identity"`

	// BindClientID is what the client identifier of a client with a certificate of `client_ca` has to be, or to begin with
	// before a slash: its identity, or its cn, dns or uri. With none it may be any.
	BindClientID string `toml:"bind_client_id" default:"identity" enum:"identity|cn|dns|uri|none"`

	// Limits are the limits of this listener's clients. What is not set here is taken from the table [limits].
	Limits broker.Limits `toml:"limits"`

	inherited bool // Limits already holds what [limits] says
}

// Chain are the ways of authentication of an effective listener, in their order.
func (l *Listener) Chain() []string {
	if len(l.Auth) > 0 {
		return l.Auth
	}
	var chain []string
	if !l.Plain {
		chain = append(chain, "certificate")
	}
	if l.Anonymous {
		chain = append(chain, "anonymous")
	}
	return chain
}

// Default returns the configuration of an empty file.
func Default() Config { return Config{}.Effective() }

// Effective returns c with every zero field set to its default, names and limits of listeners included.
func (c Config) Effective() Config {
	bind.Fill(&c)
	c.Listeners = slices.Clone(c.Listeners)
	if len(c.Listeners) == 0 {
		c.Listeners = make([]Listener, 1)
	}
	taken := map[string]bool{}
	for _, l := range c.Listeners {
		taken[l.Name] = true
	}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		if !l.inherited {
			bind.FillFrom(&l.Limits, &c.Broker.Limits)
			l.inherited = true
		}
		if l.Plain && l.Address == "" {
			l.Address = "127.0.0.1:1883"
		}
		if l.Plain && l.ClientCertificates == transport.Required {
			l.ClientCertificates = transport.None
		}
		switch named := slices.Contains(l.Auth, "anonymous"); {
		case named:
			l.Anonymous = true
		case l.Anonymous && len(l.Auth) > 0:
			l.Auth = append(slices.Clone(l.Auth), "anonymous")
		}
		bind.Fill(l)
		if l.Name == "" {
			l.Name = l.makeName(taken)
			taken[l.Name] = true
		}
	}
	return c
}

// makeName names a listener by its kind and port: "tls-8883", "wss-443".
func (l *Listener) makeName(taken map[string]bool) string {
	kind := "tls"
	switch {
	case l.WebSocket && l.Plain:
		kind = "ws"
	case l.WebSocket:
		kind = "wss"
	case l.Plain:
		kind = "plain"
	}
	_, port, _ := net.SplitHostPort(l.Address)
	name := kind + "-" + port
	for n := 2; taken[name]; n++ {
		name = fmt.Sprintf("%s-%s-%d", kind, port, n)
	}
	return name
}

// WriteTOML prints the effective configuration with every key, as a file that reads back to the same.
func (c Config) WriteTOML(w io.Writer) error {
	c = c.Effective()
	return bind.Write(w, &c)
}
