package enroll

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// errNotFactory: the certificate is of no factory CA.
var errNotFactory = errors.New("the certificate is of no factory CA")

// errRemoved: it is of one that was removed.
var errRemoved = errors.New("the CA of the device's maker is trusted no longer")

// Factory returns the device that a factory certificate is of, and its state. A device that is seen first is added to the
// registry, which waits for one write. The certificate is checked: its signature, its dates, and that the device has no
// other key. Its errors are for the device to read.
func (s *Service) Factory(leaf *x509.Certificate) (id string, state registry.State, err error) {
	f := s.factories.of(leaf)
	if f == nil {
		return "", "", errNotFactory
	}
	if f.removed {
		return "", "", fmt.Errorf("factory CA %s: %w", f.Name, errRemoved)
	}
	id, err = f.identify(leaf, s.now())
	if err != nil {
		return "", "", fmt.Errorf("factory CA %s: %w", f.Name, err)
	}
	pin := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	if d, ok := s.o.Registry.Get(id); ok {
		if state, ok := f.holds(&d, pin); ok {
			return id, state, nil
		}
	}
	state, err = s.meet(f, id, hex.EncodeToString(pin[:]))
	if err != nil {
		return "", "", fmt.Errorf("factory CA %s: device %s: %w", f.Name, id, err)
	}
	return id, state, nil
}

// Stands reports whether a device that has shown a certificate for a key (SHA-256 of its subject public key info) may stay as
// far as factory CAs are concerned: it may not when the certificate is a factory's and the CA was removed.
func (s *Service) Stands(id string, key [sha256.Size]byte) bool {
	d, ok := s.o.Registry.Get(id)
	name := d.Attributes[attributeFactory]
	if !ok || name == "" || d.Attributes[attributePinned] != hex.EncodeToString(key[:]) {
		return true
	}
	s.factories.mu.RLock()
	defer s.factories.mu.RUnlock()
	return s.factories.name[name] != nil || hasKey(&d, key)
}

// mayPurge keeps a revoked device with a factory certificate while its CA is trusted: nothing else says that it was revoked,
// and it would be met as if seen first.
func (s *Service) mayPurge(d registry.Device) error {
	name := d.Attributes[attributeFactory]
	s.factories.mu.RLock()
	defer s.factories.mu.RUnlock()
	if d.State != registry.Revoked || s.factories.name[name] == nil {
		return nil
	}
	return &keptError{factory: name}
}

// keptError is why a device is not purged.
type keptError struct{ factory string }

func (e *keptError) Error() string {
	return "it is revoked, and could come back with its certificate of the factory CA " + e.factory
}

// Hint implements what errors for people have.
func (e *keptError) Hint() string {
	return "leave it revoked, or first end the trust in the maker: sealmq factory remove " + e.factory
}

// hasKey reports whether a device has a certificate of ours for a key.
func hasKey(d *registry.Device, key [sha256.Size]byte) bool {
	name := hex.EncodeToString(key[:])
	return slices.ContainsFunc(d.Certificates, func(c registry.Certificate) bool {
		return c.SPKI == name && c.State == registry.CertActive
	})
}

// identify checks a certificate that the CA has signed, and reads the device's id.
func (f *factory) identify(leaf *x509.Certificate, now time.Time) (string, error) {
	if leaf.IsCA {
		return "", errors.New("a CA's certificate is no device's")
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: f.alone, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return "", err
	}
	if len(f.Serials) > 0 {
		text, err := cleanSerial(leaf.SerialNumber.Text(16))
		if err != nil {
			return "", err
		}
		if _, ok := slices.BinarySearch(f.Serials, text); !ok {
			return "", fmt.Errorf("the serial %s is not in the list", text)
		}
	}
	name := f.IDFrom.read(leaf)
	if name == "" {
		return "", fmt.Errorf("the certificate has no %s", f.IDFrom)
	}
	id := f.Prefix + name
	if err := pki.CheckID(id); err != nil {
		return "", fmt.Errorf("the certificate's %s: %w", f.IDFrom, err)
	}
	return id, nil
}

// read finds the id in a certificate; empty if there is none.
func (from IDFrom) read(leaf *x509.Certificate) string {
	switch from {
	case FromCN:
		return leaf.Subject.CommonName
	case FromSerial:
		if leaf.Subject.SerialNumber != "" {
			return leaf.Subject.SerialNumber
		}
		text, _ := cleanSerial(leaf.SerialNumber.Text(16))
		return text
	case FromDNS:
		if len(leaf.DNSNames) > 0 {
			return leaf.DNSNames[0]
		}
	case FromURI:
		if len(leaf.URIs) > 0 {
			u := leaf.URIs[0].String()
			return u[strings.LastIndexAny(u, ":/")+1:]
		}
	}
	return ""
}

// holds reports whether a device is one of the factory's with this key, and its state.
func (f *factory) holds(d *registry.Device, pin [sha256.Size]byte) (registry.State, bool) {
	ok := d.Attributes[attributeFactory] == f.Name && d.Attributes[attributePinned] == hex.EncodeToString(pin[:])
	return d.State, ok
}

// meet adds a device that is seen first, or takes one that was registered without any certificate for it.
func (s *Service) meet(f *factory, id, pin string) (registry.State, error) {
	defer s.one(id).Unlock()
	ctx := registry.As(s.ctx, "factory CA "+f.Name)
	mark := func(m map[string]string) map[string]string {
		m = maps.Clone(m)
		if m == nil {
			m = make(map[string]string)
		}
		m[attributeFactory], m[attributePinned] = f.Name, pin
		return m
	}
	d, ok := s.o.Registry.Get(id)
	switch {
	case ok && d.Attributes[attributePinned] == pin && d.Attributes[attributeFactory] == f.Name:
		return d.State, nil // a moment ago
	case ok && d.Attributes[attributePinned] != "":
		return "", errors.New("it was seen with another key")
	case ok && len(d.Certificates) > 0:
		return "", errors.New("it has a certificate of another CA")
	}
	s.factories.mu.Lock()
	wait := f.rate.take(s.now(), f.MaxPerHour)
	s.factories.mu.Unlock()
	if wait > 0 {
		return "", fmt.Errorf("more than %d devices seen first within an hour: again in %s", f.MaxPerHour, wait.Round(time.Second))
	}
	if ok {
		var state registry.State
		err := s.o.Registry.Update(ctx, id, func(d *registry.Device) error {
			state, d.Attributes = d.State, mark(d.Attributes)
			return nil
		})
		return state, err
	}
	return f.State, s.o.Registry.Add(ctx, registry.Device{ID: id, Groups: f.Groups, Attributes: mark(f.Attributes), State: f.State})
}
