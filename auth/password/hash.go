package password

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	gohash "hash"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Scheme is a way to keep a password.
type Scheme string

// The schemes. All are read, and the first two are written.
const (
	Argon2id Scheme = "argon2id"      // PHC string, as Mosquitto 2.1 writes it too
	SCRAM    Scheme = "scram-sha-256" // RFC 7677: good for SCRAM and for a password sent as it is
	PBKDF2   Scheme = "pbkdf2-sha512" // Mosquitto's $7$
	SHA512   Scheme = "sha512"        // Mosquitto's $6$: one round, salted; fit for long random passwords only
)

// Cost says how much work a new hash is. Zero fields have their defaults, which are the second of OWASP's equal choices:
// about 20 ms of a server's core, and 12 MiB.
type Cost struct {
	Memory uint32 // KiB of argon2id: 12288
	Passes uint32 // of argon2id: 3
	// Iterations of SCRAM: 15000, which each client has to do as well.
	Iterations uint32
}

func (c Cost) effective() Cost {
	if c.Memory == 0 {
		c.Memory = 12 << 10
	}
	if c.Passes == 0 {
		c.Passes = 3
	}
	if c.Iterations == 0 {
		c.Iterations = 15000
	}
	return c
}

// What a file may ask for. A hash above it would stop the server for whoever knows the user's name.
const (
	maxMemory     = 256 << 10 // KiB
	maxPasses     = 32
	maxThreads    = 16
	maxIterations = 2_000_000
	minIterations = 4096 // of SCRAM, RFC 7677 section 4
)

// hash is a kept password.
type hash struct {
	scheme     Scheme
	iterations uint32 // or passes
	memory     uint32 // KiB
	threads    uint8
	salt       []byte
	sum        []byte // of SCRAM the StoredKey
	serverKey  []byte // of SCRAM
}

// b64 takes base64 with or without padding, and nothing that is not canonical.
func b64(s string, least, most int) ([]byte, error) {
	b, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(s, "="))
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("salt or hash is not base64")
	}
	if len(b) < least || len(b) > most {
		return nil, fmt.Errorf("salt or hash of %d bytes", len(b))
	}
	return b, nil
}

// number reads a decimal number without sign or leading zeros.
func number(s, what string, least, most uint32) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || s != strconv.FormatUint(n, 10) {
		return 0, fmt.Errorf("%s is not a number", what)
	}
	if n < uint64(least) || n > uint64(most) {
		return 0, fmt.Errorf("%s: %d is not between %d and %d", what, n, least, most)
	}
	return uint32(n), nil
}

// parseHash reads what is behind the user's name in a line. Its errors show nothing of the text.
func parseHash(s string) (*hash, error) {
	part := strings.Split(s, "$")
	if len(part) < 3 || part[0] != "" {
		return nil, errors.New("no hash: a password in the clear is not taken")
	}
	wrong := fmt.Errorf("a $%s$ line has other parts", part[1])
	var h *hash
	var err error
	switch part[1] {
	case "6":
		if len(part) != 4 {
			return nil, wrong
		}
		h = &hash{scheme: SHA512}
		err = h.sums(part[2], part[3], 1, sha512.Size)
	case "7":
		if len(part) != 5 {
			return nil, wrong
		}
		h = &hash{scheme: PBKDF2}
		if h.iterations, err = number(part[2], "iterations", 1, maxIterations); err == nil {
			err = h.sums(part[3], part[4], 1, sha512.Size)
		}
	case "argon2id":
		if len(part) != 6 {
			return nil, wrong
		}
		h = &hash{scheme: Argon2id}
		if err = h.argon2(part[2], part[3]); err == nil {
			err = h.sums(part[4], part[5], 8, 0)
		}
	case "scram-sha-256":
		if len(part) != 6 {
			return nil, wrong
		}
		i, ok := strings.CutPrefix(part[2], "i=")
		if !ok {
			return nil, wrong
		}
		h = &hash{scheme: SCRAM}
		if h.iterations, err = number(i, "iterations", minIterations, maxIterations); err != nil {
			break
		}
		if err = h.sums(part[3], part[4], 8, sha256.Size); err == nil {
			h.serverKey, err = b64(part[5], sha256.Size, sha256.Size)
		}
	default:
		return nil, errors.New("an unknown kind of hash: $6$, $7$, $argon2id$ and $scram-sha-256$ are known")
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

// sums reads salt and hash. A size of 0 is that of argon2id: 16 to 64 bytes.
func (h *hash) sums(salt, sum string, leastSalt, size int) (err error) {
	if h.salt, err = b64(salt, leastSalt, 64); err != nil {
		return err
	}
	least, most := size, size
	if size == 0 {
		least, most = 16, 64
	}
	h.sum, err = b64(sum, least, most)
	return err
}

// argon2 reads version and parameters of a PHC string.
func (h *hash) argon2(version, params string) error {
	if version != "v="+strconv.Itoa(argon2.Version) {
		return errors.New("argon2id of another version than 19")
	}
	p := strings.Split(params, ",")
	if len(p) != 3 || !strings.HasPrefix(p[0], "m=") || !strings.HasPrefix(p[1], "t=") || !strings.HasPrefix(p[2], "p=") {
		return errors.New("argon2id wants m=…,t=…,p=…")
	}
	threads, err := number(p[2][2:], "p", 1, maxThreads)
	if err != nil {
		return err
	}
	h.threads = uint8(threads)
	if h.memory, err = number(p[0][2:], "m", 8*threads, maxMemory); err != nil {
		return err
	}
	h.iterations, err = number(p[1][2:], "t", 1, maxPasses)
	return err
}

// String is the hash as it is in a file.
func (h *hash) String() string {
	e := base64.StdEncoding.EncodeToString
	raw := base64.RawStdEncoding.EncodeToString
	switch h.scheme {
	case SHA512:
		return "$6$" + e(h.salt) + "$" + e(h.sum)
	case PBKDF2:
		return fmt.Sprintf("$7$%d$%s$%s", h.iterations, e(h.salt), e(h.sum))
	case SCRAM:
		return fmt.Sprintf("$scram-sha-256$i=%d$%s$%s$%s", h.iterations, raw(h.salt), raw(h.sum), raw(h.serverKey))
	}
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.iterations, h.threads, raw(h.salt), raw(h.sum))
}

// matches does the work of the scheme and compares in constant time.
func (h *hash) matches(password []byte) bool {
	var sum []byte
	switch h.scheme {
	case SHA512:
		d := sha512.New()
		d.Write(password)
		d.Write(h.salt)
		sum = d.Sum(nil)
	case PBKDF2:
		sum = derive(sha512.New, password, h.salt, h.iterations, sha512.Size)
	case SCRAM:
		sum, _ = scramKeys(password, h.salt, h.iterations)
	default:
		sum = argon2.IDKey(password, h.salt, h.iterations, h.memory, h.threads, uint32(len(h.sum)))
	}
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}

// newHash makes a hash of a password with a salt of its own.
func newHash(password []byte, s Scheme, c Cost) (*hash, error) {
	c = c.effective()
	salt := make([]byte, 16)
	rand.Read(salt)
	switch s {
	case Argon2id:
		sum := argon2.IDKey(password, salt, c.Passes, c.Memory, 1, 32)
		return &hash{scheme: s, iterations: c.Passes, memory: c.Memory, threads: 1, salt: salt, sum: sum}, nil
	case SCRAM:
		stored, server := scramKeys(password, salt, c.Iterations)
		return &hash{scheme: s, iterations: c.Iterations, salt: salt, sum: stored, serverKey: server}, nil
	}
	return nil, fmt.Errorf("make hash: %q is not written; argon2id and scram-sha-256 are", s)
}

// scramKeys are StoredKey and ServerKey of RFC 5802 section 3.
func scramKeys(password, salt []byte, iterations uint32) (stored, server []byte) {
	salted := derive(sha256.New, prepare(password), salt, iterations, sha256.Size)
	client := mac(salted, "Client Key")
	sum := sha256.Sum256(client)
	return sum[:], mac(salted, "Server Key")
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// derive is PBKDF2.
func derive[H gohash.Hash](h func() H, password, salt []byte, iterations uint32, size int) []byte {
	key, err := pbkdf2.Key(h, string(password), salt, int(iterations), size)
	if err != nil {
		return make([]byte, size) // refused by the FIPS module: matches nothing
	}
	return key
}
