package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
)

// CheckKey accepts the public keys that a certificate may have: ECDSA on P-256
// or P-384, Ed25519, and RSA of 2048 to 8192 bits. Keys of kinds known to be
// broken are refused, see DESIGN.md.
func CheckKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return refuse(CodeKeyKind, fmt.Errorf("ECDSA on %s, P-256 or P-384 wanted", k.Curve.Params().Name))
		}
		if _, err := k.ECDH(); err != nil { // not on the curve
			return refuse(CodeKeyWeak, fmt.Errorf("ECDSA key: %w", err))
		}
		return nil
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize || smallOrder(k) {
			return refuse(CodeKeyWeak, errors.New("Ed25519 key: a point of small order"))
		}
		return nil
	case *rsa.PublicKey:
		return checkRSA(k)
	}
	return refuse(CodeKeyKind, fmt.Errorf("key of kind %T, ECDSA, Ed25519 or RSA wanted", pub))
}

// checkCAKey is CheckKey for a CA: Ed25519 is left out, small TLS stacks do not know it.
func checkCAKey(pub crypto.PublicKey) error {
	if _, ok := pub.(ed25519.PublicKey); ok {
		return refuse(CodeKeyKind, errors.New("an Ed25519 key for a CA: Mbed TLS 2 and BearSSL cannot check its signatures"))
	}
	return CheckKey(pub)
}

const (
	minRSA, maxRSA = 2048, 8192
	minExponent    = 65537
	fermatRounds   = 100
)

func checkRSA(k *rsa.PublicKey) error {
	weak := func(why string) error { return refuse(CodeKeyWeak, errors.New("RSA key: "+why)) }
	bits := k.N.BitLen()
	switch {
	case bits < minRSA:
		return refuse(CodeKeySmall, fmt.Errorf("RSA key of %d bits, at least %d wanted", bits, minRSA))
	case bits > maxRSA:
		return refuse(CodeKeyKind, fmt.Errorf("RSA key of %d bits, at most %d wanted", bits, maxRSA))
	case k.E < minExponent || k.E%2 == 0:
		return weak(fmt.Sprintf("public exponent %d, an odd one of at least %d wanted", k.E, minExponent))
	case k.N.Bit(0) == 0 || hasSmallFactor(k.N):
		return weak("its modulus has a small factor")
	case isROCA(k.N):
		return weak("made by a chip with a broken generator (CVE-2017-15361)")
	case closePrimes(k.N):
		return weak("its primes lie close together (CVE-2022-26320)")
	}
	return nil
}

// smallPrimes are the odd primes below 752, the bound of the CA/Browser Forum.
func smallPrimes() []uint64 {
	var out []uint64
	for n := uint64(3); n < 752; n += 2 {
		prime := true
		for _, p := range out {
			if p*p > n {
				break
			}
			if n%p == 0 {
				prime = false
				break
			}
		}
		if prime {
			out = append(out, n)
		}
	}
	return out
}

func hasSmallFactor(n *big.Int) bool {
	var r, m big.Int
	for _, p := range smallPrimes() {
		if r.Mod(n, m.SetUint64(p)).Sign() == 0 {
			return true
		}
	}
	return false
}

// isROCA reports the fingerprint of the keys of CVE-2017-15361: modulo these
// primes they are powers of 65537, which others all are once in 2^27.
func isROCA(n *big.Int) bool {
	var r, m big.Int
	for _, p := range []uint64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157} {
		want := r.Mod(n, m.SetUint64(p)).Uint64()
		power, found := uint64(1), false
		for range p {
			if power == want {
				found = true
				break
			}
			power = power * 65537 % p
		}
		if !found {
			return false
		}
	}
	return true
}

// closePrimes tries Fermat's factorization: n = a² − b² with a near the root of n.
func closePrimes(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	if new(big.Int).Mul(a, a).Cmp(n) == 0 {
		return true
	}
	rest, step := new(big.Int), new(big.Int)
	one, two := big.NewInt(1), big.NewInt(2)
	a.Add(a, one)
	rest.Mul(a, a).Sub(rest, n)
	step.Mul(a, two).Add(step, one)
	var root, square, mod big.Int
	m := big.NewInt(3 * 3 * 5 * 7 * 11 * 13 * 64)
	for range fermatRounds {
		// Most numbers are no squares modulo m, which spares the slow root.
		if maybeSquare(mod.Mod(rest, m).Uint64()) {
			root.Sqrt(rest)
			if square.Mul(&root, &root).Cmp(rest) == 0 {
				return true
			}
		}
		rest.Add(rest, step)
		step.Add(step, two)
	}
	return false
}

func maybeSquare(r uint64) bool {
	for _, m := range []uint64{64, 9, 5, 7, 11, 13} {
		found := false
		for i := range m {
			if i*i%m == r%m {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// smallOrder reports the encodings of the eight points of small order, also
// those that are not canonical: y is 0, 1, −1 or one of two further values.
func smallOrder(k ed25519.PublicKey) bool {
	y := make([]byte, len(k))
	for i, b := range k { // big-endian, without the sign of x
		y[len(k)-1-i] = b
	}
	y[0] &= 0x7f
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	v := new(big.Int).SetBytes(y)
	v.Mod(v, p)
	// At the points of order 8, d·y⁴ + 2·y² = 1.
	eight, _ := new(big.Int).SetString("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7", 16)
	for _, w := range []*big.Int{big.NewInt(0), big.NewInt(1), new(big.Int).Sub(p, big.NewInt(1)), eight, new(big.Int).Sub(p, eight)} {
		if v.Cmp(w) == 0 {
			return true
		}
	}
	return false
}

// SPKI is the SHA-256 of a subject public key info: the name of a key, whoever
// has a certificate for it.
type SPKI [sha256.Size]byte

// SPKIOf names a public key.
func SPKIOf(pub crypto.PublicKey) (SPKI, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return SPKI{}, fmt.Errorf("encode public key: %w", err)
	}
	return sha256.Sum256(der), nil
}
