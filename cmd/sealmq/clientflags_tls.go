package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tlsFiles is where the proofs of both sides come from.
type tlsFiles struct {
	cas       []string // PEM files
	cert, key string
	operator  bool // those of the local broker's data folder
	system    bool // also, or only, what the operating system trusts
}

// findFiles decides which certificates count: those of the flags, else the
// operator's in the data folder, else what the operating system trusts.
func (o *clientOptions) findFiles() (tlsFiles, error) {
	f := tlsFiles{cert: o.cert, key: o.key, system: o.osCerts}
	if o.caFile != "" {
		f.cas = append(f.cas, o.caFile)
	}
	if o.caPath != "" {
		names, err := certificateFiles(o.caPath)
		if err != nil {
			return f, err
		}
		f.cas = append(f.cas, names...)
	}
	if o.caFile != "" || o.caPath != "" || o.cert != "" || o.osCerts {
		f.system = f.system || len(f.cas) == 0
		return f, nil
	}
	folder := filepath.Join(o.data, "operator")
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) && !o.given("data") {
		f.system = true
		return f, nil
	}
	f.operator = true
	f.cas = []string{filepath.Join(folder, "ca.pem")}
	f.cert, f.key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	return f, nil
}

// certificateFiles are the files of a --capath folder.
func certificateFiles(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fileError("CA folder", err, "--capath names a folder of PEM files")
	}
	var names []string
	for _, e := range entries {
		if name := filepath.Join(folder, e.Name()); isFile(name) && holdsCertificate(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, verifyFailed(fmt.Errorf("no certificate in folder %s", folder), "--capath names a folder of PEM files that begin with -----BEGIN CERTIFICATE-----")
	}
	return names, nil
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

func holdsCertificate(name string) bool {
	b, err := os.ReadFile(name)
	return err == nil && strings.Contains(string(b), "-----BEGIN CERTIFICATE-----")
}

// verifyFailed is an error whose first words are what people search for.
func verifyFailed(err error, hints ...string) error {
	return &exitError{code: exitVerify, err: fmt.Errorf("certificate verify failed: %w", err), hints: hints, bare: true}
}

func fileError(what string, err error, hints ...string) error {
	return withExit(exitFile, fmt.Errorf("read %s: %w", what, err), hints...)
}

// tlsConfig is the client's side of TLS.
func (o *clientOptions) tlsConfig() (*tls.Config, tlsFiles, error) {
	files, err := o.findFiles()
	if err != nil {
		return nil, files, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.host}
	switch strings.ToLower(o.tlsVersion) {
	case "tlsv1.2":
	case "tlsv1.3":
		cfg.MinVersion = tls.VersionTLS13
	case "tlsv1", "tlsv1.0", "tlsv1.1":
		return nil, files, usagef("--tls-version %s: older than TLS 1.2 is not spoken here", o.tlsVersion)
	default:
		return nil, files, usagef("--tls-version %s: versions are tlsv1.2 and tlsv1.3", o.tlsVersion)
	}
	if o.alpn != "" {
		cfg.NextProtos = []string{o.alpn}
	}
	if err := o.loadCAs(cfg, files); err != nil {
		return nil, files, err
	}
	if files.cert != "" {
		pair, err := loadPair(files)
		if err != nil {
			return nil, files, err
		}
		// By callback: the certificate goes out even when its issuer is not among
		// the CAs that the broker names, so that the broker can say what is wrong.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	if o.insecure {
		cfg.InsecureSkipVerify = true
		if o.caFile != "" || o.caPath != "" {
			roots := cfg.RootCAs
			cfg.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, roots) }
		}
	}
	return cfg, files, nil
}

// verifyChain is the check without the host name, as --insecure has it with a CA file.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}

func (o *clientOptions) loadCAs(cfg *tls.Config, files tlsFiles) error {
	if len(files.cas) == 0 {
		return nil // the operating system's
	}
	pool := x509.NewCertPool()
	if files.system {
		if system, err := x509.SystemCertPool(); err == nil {
			pool = system
		}
	}
	for _, name := range files.cas {
		b, err := os.ReadFile(name)
		if err != nil {
			if files.operator && errors.Is(err, fs.ErrPermission) {
				return noAccess(o.data, err)
			}
			if files.operator {
				return fileError("CA file", err, "the folder "+o.data+" holds no operator certificate: 'sealmq serve' makes it", "say where with --data FOLDER, or give --cafile, --cert and --key")
			}
			return fileError("CA file", err, "--cafile names the broker's ca.pem, for a local broker "+filepath.Join(o.data, "operator", "ca.pem"))
		}
		if !pool.AppendCertsFromPEM(b) {
			return verifyFailed(fmt.Errorf("no CA certificate in %s", name), "a CA file begins with -----BEGIN CERTIFICATE-----")
		}
	}
	cfg.RootCAs = pool
	return nil
}

func loadPair(files tlsFiles) (tls.Certificate, error) {
	certificate, err := os.ReadFile(files.cert)
	if err != nil {
		return tls.Certificate{}, fileError("client certificate", err)
	}
	key, err := os.ReadFile(files.key)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return tls.Certificate{}, fileError("private key", err, "run this as the user whom the key belongs to")
		}
		return tls.Certificate{}, fileError("private key", err)
	}
	if b, _ := pem.Decode(key); b != nil && (b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "") {
		return tls.Certificate{}, fileError("private key", fmt.Errorf("%s is encrypted", files.key), "decrypt it first: openssl pkey -in "+files.key+" -out plain.key")
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "tls: ")
		return pair, fileError("client certificate", fmt.Errorf("%s with %s: %s", files.cert, files.key, text))
	}
	return pair, nil
}
