package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func prime(t testing.TB, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// nextPrime is the first prime above n.
func nextPrime(n *big.Int) *big.Int {
	p := new(big.Int).Add(n, big.NewInt(1))
	for !p.ProbablyPrime(10) {
		p.Add(p, big.NewInt(1))
	}
	return p
}

// rocaPrime has the form of CVE-2017-15361: k·M + (65537^a mod M).
func rocaPrime(t testing.TB) *big.Int {
	t.Helper()
	m := big.NewInt(2)
	for _, p := range smallPrimes()[:125] { // the odd primes up to 701, of keys of 2048 bits
		m.Mul(m, new(big.Int).SetUint64(p))
	}
	for {
		a, err := rand.Int(rand.Reader, big.NewInt(1<<62))
		if err != nil {
			t.Fatal(err)
		}
		p := new(big.Int).Exp(big.NewInt(65537), a, m)
		k, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(1024-m.BitLen())))
		if err != nil {
			t.Fatal(err)
		}
		p.Add(p, k.Mul(k, m))
		if p.BitLen() == 1024 && p.Bit(1022) == 1 && p.ProbablyPrime(5) {
			return p
		}
	}
}

func TestCheckKey(t *testing.T) {
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec := func(c elliptic.Curve) crypto.PublicKey {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k.Public()
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	product := func(a, b *big.Int) *big.Int { return new(big.Int).Mul(a, b) }
	p := prime(t, 1024)
	for _, test := range []struct {
		name string
		key  crypto.PublicKey
		code Code
	}{
		{"P-256", ec(elliptic.P256()), ""},
		{"P-384", ec(elliptic.P384()), ""},
		{"Ed25519", ed, ""},
		{"RSA 2048", &good.PublicKey, ""},
		{"P-224", ec(elliptic.P224()), CodeKeyKind},
		{"P-521", ec(elliptic.P521()), CodeKeyKind},
		{"not a public key", "x", CodeKeyKind},
		{"nothing", nil, CodeKeyKind},
		{"RSA 1024", &rsa.PublicKey{N: product(prime(t, 512), prime(t, 512)), E: 65537}, CodeKeySmall},
		{"RSA 9000", &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 9000), E: 65537}, CodeKeyKind},
		{"exponent 1", &rsa.PublicKey{N: good.N, E: 1}, CodeKeyWeak},
		{"exponent 3", &rsa.PublicKey{N: good.N, E: 3}, CodeKeyWeak},
		{"exponent 65536", &rsa.PublicKey{N: good.N, E: 65536}, CodeKeyWeak},
		{"exponent 65538", &rsa.PublicKey{N: good.N, E: 65538}, CodeKeyWeak},
		{"exponent 65539", &rsa.PublicKey{N: good.N, E: 65539}, ""},
		{"even modulus", &rsa.PublicKey{N: new(big.Int).Lsh(good.N, 1), E: 65537}, CodeKeyWeak},
		{"factor 751", &rsa.PublicKey{N: product(good.N, big.NewInt(751)), E: 65537}, CodeKeyWeak},
		{"square", &rsa.PublicKey{N: product(p, p), E: 65537}, CodeKeyWeak},
		{"neighbouring primes", &rsa.PublicKey{N: product(p, nextPrime(p)), E: 65537}, CodeKeyWeak},
		{"ROCA", &rsa.PublicKey{N: product(rocaPrime(t), rocaPrime(t)), E: 65537}, CodeKeyWeak},
		{"Ed25519 neutral element", ed25519.PublicKey(append([]byte{1}, make([]byte, 31)...)), CodeKeyWeak},
		{"Ed25519 short", ed25519.PublicKey{1}, CodeKeyWeak},
	} {
		err := CheckKey(test.key)
		var r *Refusal
		if test.code == "" && err != nil || test.code != "" && (!errors.As(err, &r) || r.Code != test.code || r.Hint() == "") {
			t.Errorf("%s: %v, want %q", test.name, err, test.code)
		}
	}
	if checkCAKey(ed) == nil {
		t.Error("Ed25519 for a CA")
	}
}

// The constant of smallOrder solves d·y⁴ + 2·y² = 1, the equation of the points of order 8.
func TestSmallOrder(t *testing.T) {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	d := new(big.Int).Mul(big.NewInt(-121665), new(big.Int).ModInverse(big.NewInt(121666), p))
	encode := func(y *big.Int, sign byte) ed25519.PublicKey {
		b := y.FillBytes(make([]byte, 32))
		for i := range 16 {
			b[i], b[31-i] = b[31-i], b[i]
		}
		b[31] |= sign << 7
		return b
	}
	n := 0
	for _, hexY := range []string{"7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7"} {
		y, _ := new(big.Int).SetString(hexY, 16)
		for _, y := range []*big.Int{y, new(big.Int).Sub(p, y)} {
			y2 := new(big.Int).Mul(y, y)
			sum := new(big.Int).Mul(d, new(big.Int).Mul(y2, y2))
			sum.Add(sum, y2).Add(sum, y2).Mod(sum, p)
			if sum.Cmp(big.NewInt(1)) != 0 {
				t.Error("not a point of order 8")
			}
			n++
			if !smallOrder(encode(y, 0)) || !smallOrder(encode(y, 1)) {
				t.Error("order 8 was not recognized")
			}
		}
	}
	for _, y := range []*big.Int{big.NewInt(0), big.NewInt(1), new(big.Int).Sub(p, big.NewInt(1)), p, new(big.Int).Add(p, big.NewInt(1))} {
		if !smallOrder(encode(y, 1)) {
			t.Errorf("y = %v was not recognized", y)
		}
	}
	if n != 2 || smallOrder(encode(big.NewInt(2), 0)) {
		t.Error("y = 2 is an ordinary point")
	}
}

// Fermat's method finds primes at any small distance, and maybeSquare never hides a square.
func TestClosePrimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(0, 1<<30).Draw(t, "n")
		if m := uint64(3 * 3 * 5 * 7 * 11 * 13 * 64); !maybeSquare(n * n % m) {
			t.Fatalf("%d² is a square", n)
		}
		a := new(big.Int).SetUint64(rapid.Uint64Range(1<<60, 1<<63).Draw(t, "a"))
		a.Mul(a, a).SetBit(a, 0, 1)
		b := new(big.Int).Add(a, big.NewInt(2*rapid.Int64Range(0, 1<<40).Draw(t, "distance")))
		if !closePrimes(new(big.Int).Mul(a, b)) {
			t.Fatal("factors close together were not found")
		}
	})
}
