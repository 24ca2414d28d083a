package main

import (
	"bytes"
	"embed"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"text/template"

	"github.com/sealmq/sealmq/pki"
)

//go:embed snippets
var snippets embed.FS

// snippet fills the templates that show a device's owner how to connect.
type snippet struct {
	ID     string
	Host   string
	Port   int
	Bundle *pki.Bundle
}

var snippetFiles = []struct {
	name   string
	secret bool // it holds the private key
}{
	{"mosquitto.txt", false},
	{"paho_device.py", false},
	{"arduino_device.h", true},
	{"mongoose_device.c", false},
}

func (s snippet) files() ([]pki.File, error) {
	all, err := template.ParseFS(snippets, "snippets/*")
	if err != nil {
		return nil, fmt.Errorf("read snippets: %w", err)
	}
	var out []pki.File
	for _, f := range snippetFiles {
		var buf bytes.Buffer
		if err := all.ExecuteTemplate(&buf, f.name, s); err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
		out = append(out, pki.File{Name: f.name, Content: buf.Bytes(), Secret: f.secret})
	}
	return out, nil
}

// URL is the broker's address, mqtts://host:port.
func (s snippet) URL() string {
	u := url.URL{Scheme: "mqtts", Host: net.JoinHostPort(s.Host, strconv.Itoa(s.Port))}
	return u.String()
}

// Mosquitto is a command line to be used inside the bundle's folder.
func (s snippet) Mosquitto(tool string, args ...string) string {
	return endpoint{host: s.Host, port: s.Port, ca: "ca.pem", cert: "cert.pem", key: "key.pem"}.mosquitto(tool, args...)
}

// Until is the last day of the certificate.
func (s snippet) Until() string { return s.Bundle.Leaf.NotAfter.Format("2 January 2006") }

// CA, Cert and Key are PEM without the last line feed.
func (s snippet) CA() string   { return strings.TrimSpace(string(s.Bundle.CA)) }
func (s snippet) Cert() string { return strings.TrimSpace(string(s.Bundle.Cert)) }
func (s snippet) Key() string  { return strings.TrimSpace(string(s.Bundle.Key)) }
