package jwt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeys = 64        // of all files, or of a set
	maxSet  = 256 << 10 // bytes of a file or set
	maxKid  = 256       // bytes
)

// key is a public key with the one algorithm that it is good for: what a token says of its algorithm cannot make it good
// for another.
type key struct {
	id     string // empty: of any token
	alg    jose.SignatureAlgorithm
	public any
}

// usable makes a key of a public key.
func usable(id string, public any) (key, error) {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return key{id, jose.EdDSA, k}, nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return key{id, jose.ES256, k}, nil
		}
		return key{}, errors.New("a curve other than P-256")
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return key{}, fmt.Errorf("an RSA key of %d bits; want 2048 to 8192", n)
		}
		return key{id, jose.RS256, k}, nil
	}
	return key{}, fmt.Errorf("a key of another kind: %T", public)
}

// parseFile reads public keys or certificates in PEM, a JWK or a JWK set. All of them have to be good.
func parseFile(text []byte) ([]key, error) {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return parseSet(text, true)
	}
	var all []key
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		var public any
		var err error
		switch {
		case b.Type == "PUBLIC KEY":
			public, err = x509.ParsePKIXPublicKey(b.Bytes)
		case b.Type == "RSA PUBLIC KEY":
			public, err = x509.ParsePKCS1PublicKey(b.Bytes)
		case b.Type == "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(b.Bytes); err == nil {
				public = c.PublicKey
			}
		case strings.HasSuffix(b.Type, "PRIVATE KEY"):
			err = errors.New("a private key: only the issuer needs it; openssl pkey -pubout shows its public key")
		default:
			err = fmt.Errorf("a PEM block %q", b.Type)
		}
		if err != nil {
			return nil, err
		}
		k, err := usable("", public)
		if err != nil {
			return nil, err
		}
		if all = append(all, k); len(all) > maxKeys {
			return nil, fmt.Errorf("more than %d keys", maxKeys)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no public key, certificate, JWK or JWK set in it")
	}
	return all, nil
}

// parseSet reads a JWK or JWK set. Keys that are not for signatures of ours are an error if strict, else left out: a set
// may have keys for others too.
func parseSet(text []byte, strict bool) ([]key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("no JWK set")
	}
	if set.Keys == nil && strict {
		set.Keys = []json.RawMessage{text}
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	var all []key
	for i, raw := range set.Keys {
		k, err := parseJWK(raw)
		if err == nil {
			all = append(all, k)
		} else if strict {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("a JWK set without a key for EdDSA, ES256 or RS256")
	}
	return all, nil
}

func parseJWK(raw []byte) (key, error) {
	var j jose.JSONWebKey
	if err := j.UnmarshalJSON(raw); err != nil {
		return key{}, fmt.Errorf("parse JWK: %w", err)
	}
	switch {
	case !j.Valid() || !j.IsPublic():
		return key{}, errors.New("a private or symmetric key: only public keys belong here")
	case j.Use != "" && j.Use != "sig":
		return key{}, fmt.Errorf("a key for another use: %.16q", j.Use)
	case len(j.KeyID) > maxKid:
		return key{}, fmt.Errorf("a key id of more than %d bytes", maxKid)
	}
	k, err := usable(j.KeyID, j.Key)
	if err == nil && j.Algorithm != "" && j.Algorithm != string(k.alg) && !(j.Algorithm == "Ed25519" && k.alg == jose.EdDSA) {
		err = fmt.Errorf("a key for another algorithm: %.16q", j.Algorithm)
	}
	return k, err
}

// fitting are the keys that may have signed a token.
func fitting(all []key, alg jose.SignatureAlgorithm, id string) []key {
	var some []key
	for _, k := range all {
		if k.alg == alg && (k.id == id || k.id == "" || id == "") {
			some = append(some, k)
		}
	}
	return some
}
