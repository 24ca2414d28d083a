// Package scram is SCRAM-SHA-256 (RFC 5802, RFC 7677) as an MQTT 5 authentication method: the client proves that it knows
// its password and the server that it knows the client, and neither sends a password. The server keeps no password and
// does no costly work.
//
// The users are those of a password file with $scram-sha-256$ lines. Who is not there is answered like everybody else, with
// a salt that is made up and always the same. Channel binding is not offered: TLS and the certificate of the server prove
// whom the client talks to. The package starts no goroutine.
package scram

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/mqtt"
)

// Method is the name of the authentication method in CONNECT and AUTH.
const Method = "SCRAM-SHA-256"

const (
	maxMessage = 1024 // bytes of a message of a client
	maxNonce   = 256  // bytes
)

// Options are the parts of an Authenticator.
type Options struct {
	// Users returns the password file in use. Required.
	Users func() *password.File
	// Secret makes up the salts of unknown users: 32 random bytes that stay the same, or the salts would change with each
	// start and tell who is unknown. nil: those of this process.
	Secret []byte
}

// Authenticator does exchanges. Principals have the method "password", since they are the users of the same file.
type Authenticator struct {
	users  func() *password.File
	secret []byte
	nonce  func() string
}

// New makes an Authenticator.
func New(o Options) *Authenticator {
	if len(o.Secret) == 0 {
		o.Secret = make([]byte, 32)
		rand.Read(o.Secret)
	}
	return &Authenticator{users: o.Users, secret: bytes.Clone(o.Secret), nonce: rand.Text}
}

// Authenticate implements auth.Authenticator: without the method there is nothing to decide.
func (a *Authenticator) Authenticate(context.Context, *auth.Credentials) (*auth.Principal, error) {
	return nil, auth.ErrUndecided
}

// Exchange implements auth.Enhanced.
func (a *Authenticator) Exchange(method string, _ *auth.Credentials) auth.Exchange {
	if method != Method {
		return nil
	}
	return &exchange{a: a}
}

// exchange is client-first → server-first → client-final → server-final.
type exchange struct {
	a        *Authenticator
	user     string
	verifier password.Verifier
	known    bool
	header   string // the GS2 header, which client-final repeats
	nonce    string // of both
	messages string // client-first-bare "," server-first
	over     bool
}

// User is the user that the client says it is; empty before it has.
func (x *exchange) User() string { return x.user }

// Next implements auth.Exchange.
func (x *exchange) Next(_ context.Context, data []byte) ([]byte, *auth.Principal, error) {
	switch {
	case x.over || len(data) > maxMessage || !utf8.Valid(data):
		return nil, nil, malformed("the message is not one of SCRAM")
	case x.nonce == "":
		reply, err := x.first(string(data))
		return reply, nil, err
	}
	x.over = true
	return x.final(string(data))
}

func malformed(text string) error {
	return &auth.Refusal{Code: mqtt.NotAuthorized, Text: "SCRAM-SHA-256: " + text}
}

// first answers the client-first-message.
func (x *exchange) first(msg string) ([]byte, error) {
	flag, rest, _ := strings.Cut(msg, ",")
	authzid, bare, ok := strings.Cut(rest, ",")
	switch {
	case !ok:
		return nil, malformed("client-first-message: want n,,n=USER,r=NONCE")
	case strings.HasPrefix(flag, "p="):
		return nil, malformed("channel binding is not offered: use n,,")
	case flag != "n" && flag != "y":
		return nil, malformed("client-first-message begins with n, or y,")
	}
	name, nonce, ok := strings.Cut(bare, ",")
	if strings.HasPrefix(name, "m=") {
		return nil, malformed("extensions are not known")
	}
	user, good := attribute(name, "n=")
	r, goodNonce := attribute(nonce, "r=")
	if !ok || !good || !goodNonce || !printable(r) {
		return nil, malformed("client-first-message: want n,,n=USER,r=NONCE")
	}
	if user, good = unescape(user); !good {
		return nil, malformed("the user name is not written as RFC 5802 says")
	}
	if authzid != "" {
		as, good := attribute(authzid, "a=")
		if as, ok = unescape(as); !good || !ok || as != user {
			return nil, malformed("nobody may act as another user here")
		}
	}
	x.user, x.header = user, msg[:len(msg)-len(bare)]
	file := x.a.users()
	if x.verifier, x.known = file.Verifier(user); !x.known {
		x.verifier = x.a.madeUp(user, file.Iterations())
	}
	x.nonce = r + x.a.nonce()
	reply := "r=" + x.nonce + ",s=" + base64.StdEncoding.EncodeToString(x.verifier.Salt) + ",i=" + strconv.Itoa(int(x.verifier.Iterations))
	x.messages = bare + "," + reply
	return []byte(reply), nil
}

// madeUp is what an unknown user is checked against.
func (a *Authenticator) madeUp(user string, iterations uint32) password.Verifier {
	return password.Verifier{
		Iterations: iterations,
		Salt:       sign(a.secret, "salt "+user)[:16],
		StoredKey:  sign(a.secret, "stored "+user),
		ServerKey:  sign(a.secret, "server "+user),
	}
}

// final checks the client-final-message and answers with the server's signature.
func (x *exchange) final(msg string) ([]byte, *auth.Principal, error) {
	at := strings.LastIndex(msg, ",p=")
	if at < 0 {
		return nil, nil, malformed("client-final-message: want c=…,r=NONCE,p=PROOF")
	}
	without := msg[:at]
	if without != "c="+base64.StdEncoding.EncodeToString([]byte(x.header))+",r="+x.nonce {
		return nil, nil, malformed("channel binding or nonce is not that of this exchange")
	}
	proof, err := base64.StdEncoding.Strict().DecodeString(msg[at+len(",p="):])
	if err != nil || len(proof) != sha256.Size {
		return nil, nil, malformed("the proof is not 32 bytes in base64")
	}
	signed := x.messages + "," + without
	key := sign(x.verifier.StoredKey, signed)
	subtle.XORBytes(key, key, proof)
	stored := sha256.Sum256(key)
	right := subtle.ConstantTimeCompare(stored[:], x.verifier.StoredKey) == 1
	signature := sign(x.verifier.ServerKey, signed)
	if !right || !x.known {
		return nil, nil, &auth.Refusal{Code: mqtt.NotAuthorized, Text: "the user name or the password is wrong"}
	}
	reply := "v=" + base64.StdEncoding.EncodeToString(signature)
	return []byte(reply), &auth.Principal{Name: x.user, Method: "password"}, nil
}

// attribute cuts off the name of an attribute; its value is not empty and has no comma.
func attribute(s, name string) (string, bool) {
	v, ok := strings.CutPrefix(s, name)
	return v, ok && v != "" && !strings.Contains(v, ",")
}

// printable reports whether a nonce is as RFC 5802 section 7 wants it.
func printable(nonce string) bool {
	for i := range len(nonce) {
		if nonce[i] <= ' ' || nonce[i] > '~' {
			return false
		}
	}
	return len(nonce) <= maxNonce
}

// unescape reads a saslname: "=2C" is a comma and "=3D" an equals sign.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for {
		plain, rest, found := strings.Cut(s, "=")
		b.WriteString(plain)
		switch {
		case !found:
			return b.String(), true
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = rest[2:]
	}
}

func sign(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
