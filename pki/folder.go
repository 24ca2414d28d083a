package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Folder is a data folder with a CA in it.
type Folder struct {
	path string
	ca   *Authority
}

// OpenFolder opens the data folder path. Without a CA in it the error is
// ErrNoCA, with the command that makes one as hint.
func OpenFolder(path string, cfg Config) (*Folder, error) {
	ca, err := Open(filepath.Join(path, "ca"), cfg)
	if errors.Is(err, ErrNoCA) {
		return nil, &hinted{
			err:  fmt.Errorf("open %s: %w", path, ErrNoCA),
			hint: "sealmq init --data " + quote(path),
		}
	}
	if err != nil {
		return nil, err
	}
	return &Folder{path, ca}, nil
}

// InitFolder opens the data folder path and makes folder and CA where they are
// missing; created tells whether it made the CA.
func InitFolder(path string, cfg Config) (f *Folder, created bool, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, false, err
	}
	ca, err := Open(filepath.Join(path, "ca"), cfg)
	if errors.Is(err, ErrNoCA) {
		ca, err = Create(filepath.Join(path, "ca"), cfg)
		created = err == nil
		if errors.Is(err, fs.ErrExist) { // another process was first
			ca, err = Open(filepath.Join(path, "ca"), cfg)
		}
	}
	if err != nil {
		return nil, false, err
	}
	return &Folder{path, ca}, created, nil
}

// Path is the data folder.
func (f *Folder) Path() string { return f.path }

// CA is the authority of the folder.
func (f *Folder) CA() *Authority { return f.ca }

const hostsHeader = "# Names and addresses of this broker beside those of the machine, one a line.\n"

// With returns the folder as it would issue with the Holder, CRL and Policy of
// cfg in place of those that it was opened with.
func (f *Folder) With(cfg Config) *Folder {
	ca := *f.ca
	ca.cfg.Holder, ca.cfg.CRL, ca.cfg.Policy = cfg.Holder, cfg.CRL, cfg.Policy
	return &Folder{f.path, &ca}
}

// RetiredDeviceCAs are the device CAs of roots that are trusted no longer.
func (f *Folder) RetiredDeviceCAs() []*x509.Certificate {
	return retiredCAs(filepath.Join(f.path, "ca"), deviceName)
}

// AddHosts adds names to DATA/server/hosts: the broker's certificate carries
// them beside the machine's own.
func (f *Folder) AddHosts(hosts []string) error {
	old, err := f.AskedHosts()
	if err != nil {
		return err
	}
	all, err := cleanHosts(append(slices.Clone(old), hosts...))
	if err != nil {
		return err
	}
	if slices.Equal(all, old) {
		return nil
	}
	if err := makeDir(filepath.Join(f.path, "server")); err != nil {
		return err
	}
	b := []byte(hostsHeader + strings.Join(all, "\n") + "\n")
	return writeAtomic(filepath.Join(f.path, "server", "hosts"), b, 0o644)
}

// AskedHosts are the names in DATA/server/hosts.
func (f *Folder) AskedHosts() ([]string, error) {
	path := filepath.Join(f.path, "server", "hosts")
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			names = append(names, line)
		}
	}
	hosts, err := cleanHosts(names)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return hosts, nil
}

// CertifiedHosts are the names in the broker's certificate; none before it was issued.
func (f *Folder) CertifiedHosts() []string {
	certFile, _ := f.ServerFiles()
	b, err := readFile(certFile)
	if err != nil {
		return nil
	}
	chain, err := ParseCertificates(b)
	if err != nil {
		return nil
	}
	return chain[0].DNSNames
}

// Hosts are all names that the broker's certificate shall carry: those in
// DATA/server/hosts, the further ones, then the machine's own.
func (f *Folder) Hosts(further ...string) ([]string, error) {
	asked, err := f.AskedHosts()
	if err != nil {
		return nil, err
	}
	hosts, err := cleanHosts(slices.Concat(asked, further, LocalHosts()))
	if err != nil {
		return nil, fmt.Errorf("names of the broker's certificate: %w", err)
	}
	return hosts, nil
}

// ServerFiles are the paths of the broker's certificate chain and key.
func (f *Folder) ServerFiles() (cert, key string) {
	return filepath.Join(f.path, "server", "cert.pem"), filepath.Join(f.path, "server", "key.pem")
}

// OperatorFiles are the paths of the operator's CA, certificate chain and key.
func (f *Folder) OperatorFiles() (ca, cert, key string) {
	dir := filepath.Join(f.path, "operator")
	return filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}

// Server returns the broker's certificate, and whether it had to be issued: at
// first, when less than a third of its life remains, or when one of its Hosts is missing.
// While the CA's key is not there, one that has not expired stays.
func (f *Folder) Server(further ...string) (cert *tls.Certificate, issued bool, err error) {
	hosts, err := f.Hosts(further...)
	if err != nil {
		return nil, false, err
	}
	certFile, keyFile := f.ServerFiles()
	good := func(chain []*x509.Certificate) bool {
		return len(chain) == 2 && chain[1].Equal(f.ca.above) &&
			!slices.ContainsFunc(hosts, func(h string) bool { return !slices.Contains(chain[0].DNSNames, h) })
	}
	cert, due, err := f.current(certFile, keyFile, f.issuers(brokerName, f.ca.BrokerCAs()), good)
	if err != nil || !due {
		return cert, false, err
	}
	b, err := f.ca.IssueBroker(hosts)
	if errors.Is(err, ErrNoKey) && cert != nil && f.ca.cfg.Now().Before(cert.Leaf.NotAfter) {
		return cert, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if err := writePair(certFile, keyFile, b); err != nil {
		return nil, false, err
	}
	cert, due, err = f.current(certFile, keyFile, f.issuers(brokerName, f.ca.BrokerCAs()), good)
	if err == nil && due {
		cert, err = nil, fmt.Errorf("issue %s: the certificate is not usable", certFile)
	}
	return cert, true, err
}

// Operator makes sure that the operator's files exist and have more than a
// third of their life before them; issued tells whether they were written. While
// the CA's key is not there they stay as they are.
func (f *Folder) Operator() (issued bool, err error) {
	caFile, certFile, keyFile := f.OperatorFiles()
	_, due, err := f.current(certFile, keyFile, f.issuers(deviceName, f.ca.DeviceCAs()), nil)
	if err != nil {
		return false, err
	}
	if due {
		b, err := f.ca.IssueClient(Operator, "operator", "")
		if errors.Is(err, ErrNoKey) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if err := writePair(certFile, keyFile, b); err != nil {
			return false, err
		}
		issued = true
	}
	root := f.ca.RootPEM()
	if old, err := readFile(caFile); err == nil && string(old) == string(root) {
		return issued, nil
	}
	return true, writeAtomic(caFile, root, 0o644)
}

// issuers are the CAs whose certificates are ours, the one that issues first.
func (f *Folder) issuers(name string, present []*x509.Certificate) []*x509.Certificate {
	return append(present, retiredCAs(filepath.Join(f.path, "ca"), name)...)
}

// current reads a pair that one of our issuers signed; due says that a fresh one
// shall take its place, as it shall when the issuer is not the first. Without a
// pair that can be used it returns nil, and an error when the files are not ours to replace.
func (f *Folder) current(certFile, keyFile string, issuers []*x509.Certificate, good func([]*x509.Certificate) bool) (pair *tls.Certificate, due bool, err error) {
	foreign := func(path, what string) error {
		return &hinted{
			err:  fmt.Errorf("open %s: %s", path, what),
			hint: "move it to another folder; a certificate of another CA is named in the configuration",
		}
	}
	certPEM, err := readFile(certFile)
	if errors.Is(err, fs.ErrNotExist) {
		if exists(keyFile) {
			return nil, false, foreign(keyFile, "a key without its certificate")
		}
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	chain, err := ParseCertificates(certPEM)
	if err != nil {
		return nil, false, foreign(certFile, err.Error())
	}
	leaf := chain[0]
	by := slices.IndexFunc(issuers, func(c *x509.Certificate) bool { return leaf.CheckSignatureFrom(c) == nil })
	if by < 0 {
		return nil, false, foreign(certFile, "not issued by the CA of this folder")
	}
	if err := CheckSecret(filepath.Dir(keyFile)); err != nil {
		return nil, false, err
	}
	keyPEM, err := readSecret(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true, nil // the write of a pair was interrupted
	}
	if err != nil {
		return nil, false, err
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, false, foreign(keyFile, err.Error())
	}
	if !samePublic(leaf, key) {
		return nil, true, nil
	}
	due = by > 0 || NeedsRenewal(leaf, f.ca.cfg.Now()) || good != nil && !good(chain)
	return newTLS(chain, key), due, nil
}

// writePair writes the certificate before the key: a certificate whose key is
// missing or another shows that the write was interrupted, and is ours to replace.
func writePair(certFile, keyFile string, b *Bundle) error {
	if err := makeDir(filepath.Dir(certFile)); err != nil {
		return err
	}
	if err := writeAtomic(certFile, b.Cert, 0o644); err != nil {
		return err
	}
	return writeAtomic(keyFile, b.Key, 0o600)
}

// IssueDevice issues a certificate for a device. An id that is a name of the
// broker is refused: some clients take a common name for a host name, and would
// take that device for the broker.
func (f *Folder) IssueDevice(id, group string) (*Bundle, error) {
	return f.Sign(Request{Kind: Device, ID: id, Group: group})
}

// Sign is Authority.Sign for clients, which refuses the names of the broker as IssueDevice does.
func (f *Folder) Sign(r Request) (*Bundle, error) {
	if r.Kind == "" {
		return nil, errors.New("issue certificate: no kind of client")
	}
	if err := CheckID(r.ID); err != nil {
		return nil, refuse(CodeIdentity, err)
	}
	hosts, err := f.Hosts()
	if err != nil {
		return nil, err
	}
	if slices.Contains(append(hosts, f.CertifiedHosts()...), strings.ToLower(r.ID)) {
		return nil, refuse(CodeIdentity, fmt.Errorf("device id %q is a host name of the broker", r.ID))
	}
	return f.ca.Sign(r)
}

// File is a file to be written into a bundle's folder.
type File struct {
	Name    string
	Content []byte
	Secret  bool // mode 0600
}

// Write puts ca.pem, cert.pem, key.pem and the further files into the folder
// dir, all or none of them. Nothing is overwritten (fs.ErrExist).
func (b *Bundle) Write(dir string, further ...File) error {
	files := append([]File{
		{"ca.pem", b.CA, false},
		{"cert.pem", b.Cert, false},
		{"key.pem", b.Key, true},
	}, further...)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, f := range files {
		if path := filepath.Join(dir, f.Name); exists(path) {
			return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
	}
	for i, f := range files {
		mode := fs.FileMode(0o644)
		if f.Secret {
			mode = 0o600
		}
		if err := writeNew(filepath.Join(dir, f.Name), f.Content, mode); err != nil {
			for _, done := range files[:i] {
				os.Remove(filepath.Join(dir, done.Name))
			}
			return err
		}
	}
	return nil
}
