package pki

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// KeyOptions say how a private key is reached. The zero value reads plain files
// and runs signing programs.
type KeyOptions struct {
	// Passphrase is asked for the passphrase of an encrypted key file, or for
	// the PIN of a token; what names the file or the token. Without it such keys
	// are refused.
	Passphrase Passphrase
	// Timeout bounds one run of a signing program; 10 s when zero.
	Timeout time.Duration
	// Work is the cost of keys that are encrypted here, the logarithm of
	// scrypt's N: 10 to 20, and 17 when zero, which takes 128 MiB and half a second.
	Work int
}

func (o KeyOptions) withDefaults() KeyOptions {
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Work == 0 {
		o.Work = sealWork
	}
	o.Work = min(max(o.Work, minSealWork), maxSealWork)
	return o
}

// ErrLocked: the key is encrypted, and nothing gives a passphrase.
var ErrLocked = errors.New("the key is encrypted and no passphrase is given")

const (
	execPrefix   = "exec:"
	pkcs11Prefix = "pkcs11:"
	maxKeyRef    = 4096
)

// OpenKey opens the private key that ref names:
//
//	PATH or file:PATH      a file that only its owner may read, see below
//	exec:PROGRAM ARG...    a program that signs; words as in a shell, without expansion
//	pkcs11:...             an RFC 7512 URI of a key on a token
//
// A key file is PEM (PKCS#8, SEC 1, PKCS#1), an age file encrypted with a
// passphrase around it, or one line that begins with exec: or pkcs11:, so that
// the keys of a CA folder can be anywhere.
func OpenKey(ref string, o KeyOptions) (crypto.Signer, error) {
	o = o.withDefaults()
	switch {
	case strings.HasPrefix(ref, execPrefix):
		return openExec(ref, o)
	case strings.HasPrefix(ref, pkcs11Prefix):
		u, err := parseTokenURI(ref)
		if err != nil {
			return nil, err
		}
		return openToken(u, o)
	}
	return openKeyFile(strings.TrimPrefix(ref, "file:"), o)
}

func openKeyFile(path string, o KeyOptions) (crypto.Signer, error) {
	b, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	if ref, ok := keyRef(b); ok {
		key, err := OpenKey(ref, o)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		return key, nil
	}
	if isSealed(b) {
		if o.Passphrase == nil {
			return nil, &hinted{
				err:  absent{fmt.Errorf("open %s: %w", path, ErrLocked)},
				hint: "give the passphrase by environment, file or prompt",
			}
		}
		phrase, err := o.Passphrase(path)
		if err != nil {
			return nil, absent{fmt.Errorf("open %s: passphrase: %w", path, err)}
		}
		if b, err = unseal(b, phrase); err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		defer clear(b)
	}
	key, err := ParseKey(b)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return key, nil
}

// keyRef is the reference in a key file of one line. References do not lead to
// further files, so they cannot form a circle.
func keyRef(b []byte) (string, bool) {
	if len(b) > maxKeyRef {
		return "", false
	}
	s := strings.TrimSpace(string(b))
	if strings.ContainsAny(s, "\r\n") || !strings.HasPrefix(s, execPrefix) && !strings.HasPrefix(s, pkcs11Prefix) {
		return "", false
	}
	return s, true
}

// Passphrase returns the passphrase of an encrypted file, or the PIN of a token.
type Passphrase func(what string) ([]byte, error)

// maxPassphrase bounds a passphrase, in bytes.
const maxPassphrase = 1024

// PassphraseFromEnv takes the passphrase from an environment variable.
func PassphraseFromEnv(name string) Passphrase {
	return func(string) ([]byte, error) {
		v, ok := os.LookupEnv(name)
		if !ok || v == "" {
			return nil, fmt.Errorf("environment variable %s is not set", name)
		}
		return []byte(v), nil
	}
}

// PassphraseFromFile takes the passphrase from the first line of a file that
// only its owner may read.
func PassphraseFromFile(path string) Passphrase {
	return func(string) ([]byte, error) {
		b, err := readSecret(path)
		if err != nil {
			return nil, err
		}
		line, _, _ := bytes.Cut(b, []byte("\n"))
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
			return nil, fmt.Errorf("read %s: its first line is empty", path)
		}
		return line, nil
	}
}

// newKeyFile makes the key of the CA name in the folder dir: a key of its own,
// encrypted when the configuration says so, or the reference that it gives.
func newKeyFile(dir, name string, cfg Config) (crypto.Signer, error) {
	path := filepath.Join(dir, name+".key")
	if ref := cfg.KeyRefs[name]; ref != "" {
		if _, ok := keyRef([]byte(ref)); !ok {
			return nil, fmt.Errorf("key of the %s CA: %q begins with neither %s nor %s", name, ref, execPrefix, pkcs11Prefix)
		}
		key, err := OpenKey(ref, cfg.Keys)
		if err != nil {
			return nil, fmt.Errorf("key of the %s CA: %w", name, err)
		}
		if err := checkCAKey(key.Public()); err != nil {
			return nil, fmt.Errorf("key of the %s CA: %w", name, err)
		}
		return key, writeNew(path, []byte(ref+"\n"), 0o600)
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	return key, writeKey(path, key, cfg)
}

// writeKey writes a key that is in memory, encrypted when the configuration says so.
func writeKey(path string, key crypto.Signer, cfg Config) error {
	b, err := encodeKey(key)
	if err != nil {
		return err
	}
	defer clear(b)
	if cfg.Seal {
		if cfg.Keys.Passphrase == nil {
			return fmt.Errorf("encrypt %s: %w", path, ErrLocked)
		}
		phrase, err := cfg.Keys.Passphrase(path)
		if err != nil {
			return fmt.Errorf("encrypt %s: passphrase: %w", path, err)
		}
		if b, err = sealCost(b, phrase, cfg.Keys.Work); err != nil {
			return fmt.Errorf("encrypt %s: %w", path, err)
		}
	}
	return writeNew(path, b, 0o600)
}

// missing reports whether err says that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
