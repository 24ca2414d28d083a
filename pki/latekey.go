package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"
)

// ErrNoKey: the key of an issuing CA is encrypted without a passphrase, or is elsewhere. The CA can be opened without it,
// and signs once it is there.
var ErrNoKey = errors.New("the CA cannot sign at present")

// lateKeyPause is the time between two attempts to open a key: one may cost half a second and 128 MiB, or run a program,
// and devices may ask for certificates all the time.
const lateKeyPause = 10 * time.Second

// absent marks the error of a key that may be there later, without being another one.
type absent struct{ error }

func (e absent) Unwrap() error        { return e.error }
func (e absent) Is(target error) bool { return target == ErrNoKey }

// lateKey is a key that is opened when it signs. It is safe for several goroutines.
type lateKey struct {
	public crypto.PublicKey
	open   func() (crypto.Signer, error)

	mu    sync.Mutex
	key   crypto.Signer
	err   error
	tried time.Time
}

// Public is the key of the certificate.
func (k *lateKey) Public() crypto.PublicKey { return k.public }

// Sign fails with ErrNoKey while the key is not there.
func (k *lateKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	key, err := k.opened()
	if err != nil {
		return nil, err
	}
	return key.Sign(rand, digest, opts)
}

// opened is the key. What failed is not tried again for a while.
func (k *lateKey) opened() (crypto.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != nil || time.Since(k.tried) < lateKeyPause {
		return k.key, k.err
	}
	k.key, k.err = k.open()
	k.tried = time.Now()
	return k.key, k.err
}

// openIssuer opens the CA name of a folder with its key. While the key is not there it is the CA without; a key that is
// damaged, open to others or not that of the certificate is an error.
func openIssuer(dir, name string, cert *x509.Certificate, cfg Config) (issuer, error) {
	open := func() (crypto.Signer, error) {
		key, err := openIssuerKey(dir, name, cfg)
		if err != nil {
			return nil, err
		}
		if !samePublic(cert, key) {
			return nil, fmt.Errorf("open %s: the key does not belong to %s.pem", filepath.Join(dir, name+".key"), name)
		}
		return key, nil
	}
	key, err := open()
	if errors.Is(err, ErrNoKey) {
		return issuer{cert, &lateKey{public: cert.PublicKey, open: open, err: err, tried: time.Now()}}, nil
	}
	return issuer{cert, key}, err
}

// ready opens the key if that was not done before.
func (i *issuer) ready() error {
	if late, ok := i.key.(*lateKey); ok {
		_, err := late.opened()
		return err
	}
	return nil
}

// OpenKeys opens the keys that were not there before, at most every ten seconds. Its error tells which are not there yet
// (ErrNoKey), or are not what they have to be.
func (a *Authority) OpenKeys() error {
	all := []issuer{a.broker, a.device}
	if a.otherKey != nil {
		all = append(all, issuer{a.other.device, a.otherKey})
	}
	var errs []error
	for _, i := range all {
		errs = append(errs, i.ready())
	}
	return errors.Join(errs...)
}
