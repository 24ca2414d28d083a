package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/pki"
)

//go:embed snippets
var snippets embed.FS

// format is a value of --for: a way to hand an identity to a program, beside the three PEM files.
type format struct {
	name  string
	files []pki.File // without their contents; those that are made of a template have its name
	about string
}

// formats are all values of --for; when none is asked for the first ones are written.
func formats() []format {
	return []format{
		{"mosquitto", []pki.File{{Name: "mosquitto.txt"}}, "lines to paste, a bridge"},
		{"paho", []pki.File{{Name: "paho_device.py"}}, "Python: paho-mqtt"},
		{"arduino", []pki.File{{Name: "arduino_device.h", Secret: true}}, "ESP32, ESP8266: PubSubClient"},
		{"mongoose", []pki.File{{Name: "mongoose_device.c"}}, "C: Mongoose"},
		{"esp-idf", []pki.File{{Name: "esp_idf_device.h"}, {Name: "esp_idf_nvs.csv"}}, "ESP-IDF 5: esp-mqtt, an NVS partition"},
		{"p12", []pki.File{{Name: p12File, Secret: true}}, "phones, browsers, Java, Windows"},
		{"qr", []pki.File{{Name: qrFile}}, "address, id and CA for an app to scan; no key"},
	}
}

const (
	defaultFormats  = 4
	operatorFormats = 2 // the first ones, of an operator
)

// bundleFlags say what a new identity is written as.
type bundleFlags struct {
	address      addressFlags
	out          string
	formats      []string
	passwordFile string
	legacy       bool
	operator     bool // who sees everything, and is no microcontroller
}

func (f *bundleFlags) add(cmd *cobra.Command, out string) {
	cmd.Flags().StringVar(&f.out, "out", "", out)
	cmd.Flags().StringArrayVar(&f.formats, "for", nil, "`KIND` of program to write for, may be repeated: "+formatNames()+" (default: the first "+strconv.Itoa(f.written())+")")
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "`FILE` with the password of the .p12 file (default: one is made and printed)")
	cmd.Flags().BoolVar(&f.legacy, "legacy", false, "write the .p12 file with old ciphers, for macOS, iOS, old Windows and Java")
	f.address.add(cmd)
}

func formatNames() string {
	var names []string
	for _, f := range formats() {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

// check finds mistakes in the flags before anything is asked for.
func (f *bundleFlags) check(data string) error {
	all := formats()
	for _, name := range f.formats {
		if !slices.ContainsFunc(all, func(g format) bool { return g.name == name }) {
			return usagef("--for %q is none of %s", name, formatNames())
		}
	}
	p12 := slices.Contains(f.formats, "p12")
	if (f.legacy || f.passwordFile != "") && !p12 {
		return usagef("--legacy and --password-file are for --for p12")
	}
	return f.address.check(data)
}

// written is how many formats are written when none is asked for.
func (f *bundleFlags) written() int {
	if f.operator {
		return operatorFormats
	}
	return defaultFormats
}

func (f *bundleFlags) chosen() []format {
	all := formats()
	if len(f.formats) == 0 {
		return all[:f.written()]
	}
	return slices.DeleteFunc(all, func(g format) bool { return !slices.Contains(f.formats, g.name) })
}

// addressFlags are the broker's address as devices see it.
type addressFlags struct {
	host string
	port int

	enroll  bool // it is for enrolment
	nowhere bool // set by check: a broker runs and has no listener for that
}

func (a *addressFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.host, "host", "", "`NAME` of the broker for the device (default: a name asked for at init, or this machine's address)")
	cmd.Flags().IntVar(&a.port, "port", 0, "`PORT` of the broker for the device (default: that of the running broker, else 8883)")
}

func (a *addressFlags) check(data string) error {
	if a.port < 0 || a.port > 65535 {
		return usagef("--port %d is not between 1 and 65535", a.port)
	}
	if a.port == 0 {
		a.findPort(data)
	}
	if a.host == "" {
		a.host = bestHost(certifiedHosts(data), pki.LocalHosts())
		return nil
	}
	if err := pki.CheckHost(a.host); err != nil {
		return withExit(exitUsage, err)
	}
	return nil
}

// findPort takes the port of the first listener of a running broker that is meant for devices.
func (a *addressFlags) findPort(data string) {
	a.port = 8883
	setup := running(data)
	if setup == nil {
		return
	}
	for _, l := range setup.Listeners {
		_, port, err := net.SplitHostPort(l.Address)
		if err == nil && l.TLS && !l.WebSocket && l.Enroll == a.enroll {
			a.port, _ = strconv.Atoi(port)
			return
		}
	}
	a.nowhere = true
}

// URL is the broker's address, mqtts://host:port.
func (a addressFlags) URL() *url.URL {
	return &url.URL{Scheme: "mqtts", Host: net.JoinHostPort(a.host, strconv.Itoa(a.port))}
}

// certifiedHosts are the names in the certificate of the broker's own CA, if it has one.
func certifiedHosts(data string) []string {
	b, err := readSmall(filepath.Join(data, "server", "cert.pem"))
	if err != nil {
		return nil
	}
	chain, err := pki.ParseCertificates(b)
	if err != nil || len(chain) == 0 {
		return nil
	}
	return chain[0].DNSNames
}

// newKey makes a key, and asks for a certificate for it. Whose it will be, the answer says.
func newKey() (key, csr []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, crypto.Signer(k))
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}), nil
}

// newBundle puts the answer to a CSR and the key together.
func newBundle(c *control.Certificate, key []byte) (*pki.Bundle, error) {
	chain, err := pki.ParseCertificates([]byte(c.Cert))
	if err != nil {
		return nil, fmt.Errorf("read the new certificate: %w", err)
	}
	if len(chain) == 0 {
		return nil, errors.New("read the new certificate: there is none")
	}
	return &pki.Bundle{CA: []byte(c.CA), Cert: []byte(c.Cert), Key: key, Leaf: chain[0]}, nil
}

// snippet fills the templates that show a device's owner how to connect.
type snippet struct {
	ID     string
	Host   string
	Port   int
	Bundle *pki.Bundle

	formats  []format
	password string // of the .p12 file
	legacy   bool
	Operator bool
}

// Filter is for all that the owner may see, and Hello a topic in it.
func (s snippet) Filter() string {
	if s.Operator {
		return "#"
	}
	return s.ID + "/#"
}

func (s snippet) Hello() string {
	if s.Operator {
		return "hello"
	}
	return s.ID + "/hello"
}

// names are those of all files of a bundle.
func bundleNames(chosen []format) []string {
	names := []string{"ca.pem", "cert.pem", "key.pem"}
	for _, f := range chosen {
		for _, file := range f.files {
			names = append(names, file.Name)
		}
	}
	return names
}

// files are all that a bundle consists of.
func (s snippet) files() ([]pki.File, error) {
	all, err := template.ParseFS(snippets, "snippets/*")
	if err != nil {
		return nil, fmt.Errorf("read snippets: %w", err)
	}
	out := []pki.File{
		{Name: "ca.pem", Content: s.Bundle.CA},
		{Name: "cert.pem", Content: s.Bundle.Cert},
		{Name: "key.pem", Content: s.Bundle.Key, Secret: true},
	}
	for _, f := range s.formats {
		for _, file := range f.files {
			switch f.name {
			case "p12":
				file.Content, err = s.p12()
			case "qr":
				file.Content, err = s.qr()
			default:
				var buf bytes.Buffer
				err = all.ExecuteTemplate(&buf, file.Name, s)
				file.Content = buf.Bytes()
			}
			if err != nil {
				return nil, fmt.Errorf("write %s: %w", file.Name, err)
			}
			out = append(out, file)
		}
	}
	return out, nil
}

// list tells what the files are for.
func (s snippet) list(w io.Writer) {
	const line = "  %-33s  %s\n"
	fmt.Fprintf(w, line, "ca.pem  cert.pem  key.pem", "the identity; the key exists only here")
	for _, f := range s.formats {
		var names []string
		for _, file := range f.files {
			names = append(names, file.Name)
		}
		fmt.Fprintf(w, line, strings.Join(names, "  "), f.about)
	}
}

func (s snippet) has(name string) bool {
	return slices.ContainsFunc(s.formats, func(f format) bool { return f.name == name })
}

func (s snippet) address() addressFlags { return addressFlags{host: s.Host, port: s.Port} }

// URL is the broker's address, mqtts://host:port.
func (s snippet) URL() string { return s.address().URL().String() }

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
