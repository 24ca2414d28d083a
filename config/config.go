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

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/config/internal/bind"
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

	// Memory keeps sessions, waiting messages and retained messages in memory only: they end with the broker. Without it
	// they are in the folder store of the data folder, and what was acknowledged survives a crash.
	Memory bool `toml:"memory"`

	// Store says how the store on disk works.
	Store disk.Config `toml:"store"`

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

// Listener is one address on which clients connect.
type Listener struct {
	transport.Config

	// Certificate is a PEM file with the server's certificate, followed by the intermediate CAs. Empty: one from the
	// server's own CA, renewed by itself.
	Certificate string `toml:"certificate"`

	// Key is the PEM file with the private key of `certificate`.
	Key string `toml:"key"`

	// ClientCA is a PEM file with the CAs whose client certificates are accepted. Empty: the server's own CA.
	ClientCA string `toml:"client_ca"`

	// Anonymous lets in clients that prove no identity. A listener with `tls = false` must set it, because without TLS
	// no credentials are taken; with TLS it needs `client_certificates` to be optional or none.
	Anonymous bool `toml:"anonymous"`

	// Limits are the limits of this listener's clients. What is not set here is taken from the table [limits].
	Limits broker.Limits `toml:"limits"`

	inherited bool // Limits already holds what [limits] says
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
