package scram

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/mqtt"
)

// least is the smallest cost that files take.
var least = password.Cost{Iterations: 4096, Memory: 64, Passes: 1}

func users(t testing.TB) *password.File {
	f := password.New()
	for _, u := range []struct {
		name, password string
		scheme         password.Scheme
	}{{"alice", "wonder land", password.SCRAM}, {"a,b=c", "x", password.SCRAM}, {"bob", "hash", password.Argon2id}, {"jürgen", "Ⅸ\u00a0ü", password.SCRAM}} {
		if err := f.Set(u.name, u.password, u.scheme, least); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func authenticator(t testing.TB) *Authenticator {
	f := users(t)
	return New(Options{Users: func() *password.File { return f }, Secret: []byte("always the same")})
}

// The exchange of RFC 7677 section 3, byte for byte.
func TestExampleOfTheRFC(t *testing.T) {
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	salted, _ := pbkdf2.Key(sha256.New, "pencil", salt, 4096, 32)
	stored := sha256.Sum256(sign(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	f, err := password.Parse("f", []byte("user:$scram-sha-256$i=4096$"+b64(salt)+"$"+b64(stored[:])+"$"+b64(sign(salted, "Server Key"))))
	if err != nil {
		t.Fatal(err)
	}
	a := New(Options{Users: func() *password.File { return f }})
	a.nonce = func() string { return "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0" }
	x := a.Exchange(Method, nil)
	reply, p, err := x.Next(t.Context(), []byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"))
	want := "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	if err != nil || p != nil || string(reply) != want {
		t.Fatalf("server-first %q, %v, %v", reply, p, err)
	}
	final := "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	reply, p, err = x.Next(t.Context(), []byte(final))
	if err != nil || string(reply) != "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" || p.Name != "user" || p.Method != "password" {
		t.Fatalf("server-final %q, %+v, %v", reply, p, err)
	}
	if _, p, err := x.Next(t.Context(), []byte(final)); p != nil || err == nil {
		t.Error("an exchange goes on after its end")
	}
}

// client does an exchange as a client; it returns the first reply and the outcome.
func client(t testing.TB, a *Authenticator, header, user, pass string) (first string, p *auth.Principal, err error) {
	x := a.Exchange(Method, nil)
	bare := "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user) + ",r=abc"
	reply, _, err := x.Next(t.Context(), []byte(header+bare))
	if err != nil {
		return "", nil, err
	}
	first = string(reply)
	part := strings.Split(first, ",")
	if len(part) != 3 || !strings.HasPrefix(part[0], "r=abc") || len(part[0]) < len("r=abc")+16 {
		t.Fatalf("server-first %q", first)
	}
	salt, _ := base64.StdEncoding.DecodeString(part[1][2:])
	i, _ := strconv.Atoi(part[2][2:])
	salted, _ := pbkdf2.Key(sha256.New, pass, salt, i, 32)
	key := sign(salted, "Client Key")
	stored := sha256.Sum256(key)
	without := "c=" + base64.StdEncoding.EncodeToString([]byte(header)) + "," + part[0]
	signed := bare + "," + first + "," + without
	subtle.XORBytes(key, key, sign(stored[:], signed))
	reply, p, err = x.Next(t.Context(), []byte(without+",p="+base64.StdEncoding.EncodeToString(key)))
	if err == nil && string(reply) != "v="+base64.StdEncoding.EncodeToString(sign(sign(salted, "Server Key"), signed)) {
		t.Errorf("the server's signature is wrong: %q", reply)
	}
	return first, p, err
}

// Who gets in, as whom, and that the same is said to all who do not.
func TestExchanges(t *testing.T) {
	a := authenticator(t)
	for _, test := range []struct{ header, user, pass, want string }{
		{"n,,", "alice", "wonder land", "alice"},
		{"y,,", "alice", "wonder land", "alice"},
		{"n,a=alice,", "alice", "wonder land", "alice"},
		{"n,,", "a,b=c", "x", "a,b=c"},
		{"n,,", "jürgen", "IX ü", "jürgen"}, // as clients prepare it
		{"n,,", "alice", "wonderland", ""},
		{"n,,", "alice", "", ""},
		{"n,,", "bob", "hash", ""}, // has no SCRAM line
		{"n,,", "nobody", "x", ""},
	} {
		_, p, err := client(t, a, test.header, test.user, test.pass)
		if test.want != "" {
			if err != nil || p.Name != test.want {
				t.Errorf("%s %s: %+v, %v", test.header, test.user, p, err)
			}
			continue
		}
		var no *auth.Refusal
		if p != nil || !errors.As(err, &no) || no.Code != mqtt.NotAuthorized || no.Text != "the user name or the password is wrong" {
			t.Errorf("%s %s: %+v, %v", test.header, test.user, p, err)
		}
	}
}

// An unknown user has a salt like everybody, and always the same one.
func TestUnknownUsersLookKnown(t *testing.T) {
	cut := func(first string) string { return first[strings.Index(first, ",s="):] }
	one, _, _ := client(t, authenticator(t), "n,,", "nobody", "x")
	two, _, _ := client(t, authenticator(t), "n,,", "nobody", "y")
	other, _, _ := client(t, authenticator(t), "n,,", "nobody else", "x")
	if cut(one) != cut(two) || cut(one) == cut(other) || !strings.HasSuffix(one, ",i=4096") {
		t.Errorf("%q, %q, %q", one, two, other)
	}
	known, _, _ := client(t, authenticator(t), "n,,", "alice", "x")
	if len(cut(known)) != len(cut(one)) {
		t.Errorf("known %q, unknown %q", known, one)
	}
}

// Messages that are not those of the RFC.
func TestMalformed(t *testing.T) {
	a := authenticator(t)
	for _, first := range []string{"", "n", "n,", "n,,", "n,,n=alice", "n,,r=x,n=alice", "n,,n=,r=x", "n,,n=alice,r=", "n,,n=alice,r=a b",
		"n,,n=alice,r=" + strings.Repeat("x", 300), "n,,n=alice,r=x,e=1", "n,,m=x,n=alice,r=x", "p=tls-unique,,n=alice,r=x",
		"x,,n=alice,r=x", "n,a=bob,n=alice,r=x", "n,a=,n=alice,r=x", "n,b=alice,n=alice,r=x", "n,,n=al=ice,r=x", "n,,n=alice=2,r=x",
		"n,,n=alice,r=\x00", "n,,n=\xff,r=x", strings.Repeat("n", 2000)} {
		if reply, p, err := a.Exchange(Method, nil).Next(t.Context(), []byte(first)); err == nil || p != nil || reply != nil {
			t.Errorf("%q: %q, %v", first, reply, p)
		}
	}
	a.nonce = func() string { return "server" }
	p := ",p=" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, final := range []string{"", "c=biws,r=xserver", "c=biws,r=x" + p, "c=eSws,r=xserver" + p, "c=biws,r=xserver,x=1" + p,
		"r=xserver,c=biws" + p, "c=biws,r=xserver,p=", "c=biws,r=xserver,p=AAAA", "c=biws,r=xserver" + p + "\n", "c=biws,r=xserver" + p + ",p=AAAA"} {
		x := a.Exchange(Method, nil)
		if _, _, err := x.Next(t.Context(), []byte("n,,n=alice,r=x")); err != nil {
			t.Fatal(err)
		}
		if reply, p, err := x.Next(t.Context(), []byte(final)); err == nil || p != nil || reply != nil {
			t.Errorf("%q: %q, %v", final, reply, p)
		}
	}
	if a.Exchange("SCRAM-SHA-1", nil) != nil || a.Exchange("", nil) != nil {
		t.Error("other methods are known")
	}
	if _, err := a.Authenticate(t.Context(), &auth.Credentials{}); !errors.Is(err, auth.ErrUndecided) {
		t.Errorf("without a method: %v", err)
	}
}

// No messages get in without a password, nor panic.
func FuzzExchange(f *testing.F) {
	f.Add([]byte("n,,n=alice,r=x"), []byte("c=biws,r=xserver,p=AAAA"))
	f.Add([]byte("y,a=alice,n=alice,r=x"), []byte("c=eSxhPWFsaWNlLA==,r=xserver,p="+base64.StdEncoding.EncodeToString(make([]byte, 32))))
	a := authenticator(f)
	a.nonce = func() string { return "server" }
	f.Fuzz(func(t *testing.T, first, final []byte) {
		x := a.Exchange(Method, nil)
		if _, p, err := x.Next(t.Context(), first); p != nil {
			t.Fatal("in after one message")
		} else if err != nil {
			return
		}
		if _, p, err := x.Next(t.Context(), final); p != nil || err == nil {
			t.Fatalf("in as %+v", p)
		}
	})
}
