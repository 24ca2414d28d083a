package authn

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

// proving is a client of RFC 5802. salts, if not nil, gets the salt that the server has told.
func proving(name, pass string, salts *[]string) client.Config {
	return client.Config{ClientID: name, CleanStart: true, AuthMethod: "SCRAM-SHA-256", AuthData: []byte("n,,n=" + name + ",r=abc"),
		OnAuth: func(challenge []byte) ([]byte, error) {
			part := strings.Split(string(challenge), ",")
			if len(part) != 3 {
				return nil, errors.New("no server-first-message")
			}
			if salts != nil {
				*salts = append(*salts, part[1])
			}
			salt, err := base64.StdEncoding.DecodeString(part[1][2:])
			if err != nil {
				return nil, err
			}
			i, err := strconv.Atoi(part[2][2:])
			if err != nil {
				return nil, err
			}
			salted, err := pbkdf2.Key(sha256.New, pass, salt, i, 32)
			if err != nil {
				return nil, err
			}
			key := mac(salted, "Client Key")
			stored := sha256.Sum256(key)
			without := "c=biws," + part[0]
			subtle.XORBytes(key, key, mac(stored[:], "n="+name+",r=abc,"+string(challenge)+","+without))
			return []byte(without + ",p=" + base64.StdEncoding.EncodeToString(key)), nil
		}}
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// SCRAM, again on the same connection, by password as the same user, and never for those without such a line.
func TestSCRAM(t *testing.T) {
	t.Parallel()
	b := prepare(t, byPassword)
	b.users(t, password.SCRAM, "alice", "wonderland-1")
	b.start(t)
	alice := b.connect(t, proving("alice", "wonderland-1", nil))
	if !strings.HasPrefix(string(alice.Server().AuthData), "v=") {
		t.Errorf("CONNACK carries %q, not the server's signature", alice.Server().AuthData)
	}
	for range 2 {
		if err := alice.Reauthenticate(t.Context(), []byte("n,,n=alice,r=abc")); err != nil {
			t.Errorf("again: %v", err)
		}
	}
	b.refused(t, proving("alice", "wonderland-2", nil), mqtt.NotAuthorized, "wrong")
	b.refused(t, client.Config{ClientID: "c", AuthMethod: "GS2-KRB5"}, mqtt.BadAuthenticationMethod, "")
	plain := proving("alice", "wonderland-1", nil)
	plain.Dial = b.dial(t, "plain")
	b.refused(t, plain, mqtt.BadAuthenticationMethod, "on a listener without TLS: use mqtts://")
	if alice.Err() != nil {
		t.Fatalf("others have ended the connection: %v", alice.Err())
	}
	b.connect(t, user("alice", "wonderland-1")) // the same user, so that it may take over
	ended(t, alice)
}

// Who is not in the file gets the same salt each time, after a restart too: else it would tell who is unknown.
func TestSCRAMUnknownAfterRestart(t *testing.T) {
	t.Parallel()
	b := prepare(t, byPassword)
	b.users(t, password.SCRAM, "alice", "wonderland-1")
	b.start(t)
	var salts []string
	b.refused(t, proving("nobody", "x", &salts), mqtt.NotAuthorized, "wrong")
	b.stop(t)
	b.launch(t)
	b.refused(t, proving("nobody", "x", &salts), mqtt.NotAuthorized, "wrong")
	if len(salts) != 2 || salts[0] != salts[1] {
		t.Errorf("salts %q", salts)
	}
}
