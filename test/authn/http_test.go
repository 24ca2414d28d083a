package authn

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

// A web service decides, or leaves it to the next; when it is down nobody gets in by the next.
func TestHTTP(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	var asked atomic.Int32
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var q map[string]any
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Header.Get("Authorization") != "Bearer token-8899" || r.Method != http.MethodPost ||
			q["peerhost"] != "127.0.0.1" || q["listener"] != "tls" || q["transport"] != "tls" || q["proto_ver"] != 5.0 {
			t.Errorf("asked %s %v: %v", r.Method, q, err)
		}
		switch {
		case down.Load():
			w.WriteHeader(http.StatusInternalServerError)
		case q["username"] == "alice" && q["password"] == "wonderland-1":
			fmt.Fprint(w, `{"result": "allow", "groups": ["ops"]}`)
		case q["username"] == "bob":
			fmt.Fprint(w, `{"result": "ignore"}`)
		default:
			fmt.Fprint(w, `{"result": "deny"}`)
		}
	}))
	defer s.Close()
	b := prepare(t, fmt.Sprintf(`
[auth.http]
url = "%s/mqtt"
ca_file = "service-ca.pem"
token_file = "token"
allow_private = true
timeout = "1m"
keep_allowed = "10m"
[auth.password]
file = "passwords"
[[listener]]
name = "tls"
address = "127.0.0.1:0"
client_certificates = "none"
auth = ["http", "password"]
`, s.URL))
	b.write(t, "service-ca.pem", certificateOf(s))
	b.write(t, "token", "token-8899\n")
	b.users(t, password.Argon2id, "bob", "builder-4711", "carol", "singing-1")
	b.secrets = append(b.secrets, "token-8899", "wonderland-1")
	b.start(t)

	again := user("alice", "wonderland-1")
	b.connect(t, again)
	b.awaitLog(t, 0, `"msg":"authenticated"`, `"by":"http"`, `"principal":"alice"`)
	b.connect(t, user("bob", "builder-4711"))
	b.refused(t, user("carol", "singing-1"), mqtt.BadUserNameOrPassword, "wrong") // the service has decided
	b.refused(t, user("alice", "wonderland-2"), mqtt.BadUserNameOrPassword, "wrong")
	down.Store(true)
	b.refused(t, client.Config{ClientID: "bob2", Username: "bob", Password: []byte("builder-4711")}, mqtt.ServerUnavailable, "")
	n := asked.Load()
	b.connect(t, again)
	if asked.Load() != n {
		t.Error("asked again about a client that it has just allowed")
	}
	b.meant = append(b.meant, "status 500")
}
