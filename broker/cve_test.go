package broker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store/memory"
)

// These are the ways round the access control of other brokers that are not a matter of the policy's language. Each is named
// by its number.

// converse holds a conversation with a broker whose policy it changes.
func converse(t *testing.T, script string) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cve.txt"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.RunScripts(t, dir, func(t testing.TB) testkit.Backend { return &scriptBackend{t: t} })
}

// Mosquitto delivered retained messages to who could not read them any more, and stored those of who could not write. What
// was retained while it was allowed stays: it is for who may receive it.
func TestCVE_2018_12546(t *testing.T) {
	converse(t, `
== a reader whose access was revoked
server authorize=1
p> CONNECT v=5 id=p clean
p< CONNACK
p> PUBLISH t q=1 id=1 retain payload=secret
p< PUBACK id=1
a> CONNECT v=5 id=a clean
a< CONNACK
server deny receive=t publish=t
server reauthorize
a> SUBSCRIBE id=1 # q=1
a< SUBACK codes=1
a< -
p> PUBLISH t q=1 id=2 retain payload=again
p< PUBACK id=2 code=NotAuthorized
server deny
server reauthorize
a> SUBSCRIBE id=2 # q=1
a< SUBACK codes=1
a< PUBLISH t payload=secret retain
`)
}

// Mosquitto forgot the policy of the listener that has no name.
func TestCVE_2018_20145(t *testing.T) {
	b, err := broker.New(broker.Config{SysInterval: -1}, broker.Options{
		Store: memory.New(), Auth: everyone{},
		Authorize: func(string, *auth.Peer, *auth.Principal) (auth.Policy, error) {
			return &denials{publish: []string{"#"}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(context.Background())
	for _, listener := range []string{"", "tls", "127.0.0.1:1883"} {
		server, end := testkit.Pipe(0)
		defer end.Close()
		link := testkit.NewLink(server)
		c := b.NewConn(link, auth.Peer{Listener: listener}, broker.Limits{})
		go func() {
			end.Write((&mqtt.Connect{Version: mqtt.V5, ClientID: []byte("a"), HasWill: true, Will: mqtt.Will{Topic: []byte("t")}}).Append(nil, mqtt.V5))
		}()
		var e *mqtt.Error
		if err := c.Open(server); !errors.As(err, &e) || e.Code != mqtt.NotAuthorized {
			t.Errorf("listener %q: %v", listener, err)
		}
	}
}

type everyone struct{}

func (everyone) Authenticate(_ context.Context, c *auth.Credentials) (*auth.Principal, error) {
	return &auth.Principal{Name: c.ClientID, Method: "anonymous"}, nil
}

// Mosquitto kept a subscription after its client had lost the access, for a durable client that came back.
func TestCVE_2021_34434(t *testing.T) {
	converse(t, `
== a durable client whose access is revoked while it is away
# versions: 4 5
server authorize=1
v4: a> CONNECT v=4 id=a
v5: a> CONNECT v=5 id=a session_expiry=1000
a< CONNACK
a> SUBSCRIBE id=1 t q=2
a< SUBACK
a close
server deny subscribe=t
v4: a> CONNECT v=4 id=a
v5: a> CONNECT v=5 id=a session_expiry=1000
a< CONNACK sp=1
p> CONNECT v=5 id=p clean
p< CONNACK
p> PUBLISH t q=2 id=1 payload=x
p< PUBREC id=1 code=NoMatchingSubscribers
a< -
== a client whose access is revoked while it is connected
server authorize=1
a> CONNECT v=5 id=a clean
a< CONNACK
a> SUBSCRIBE id=1 t q=0 $share/g/t q=0
a< SUBACK
server deny subscribe=t
server reauthorize
p> CONNECT v=5 id=p clean
p< CONNACK
p> PUBLISH t q=1 id=1 payload=x
p< PUBACK id=1 code=NoMatchingSubscribers
a< -
`)
}

// Mosquitto before 2.0.12 did not ask about QoS 2 messages under way when a client came back.
func TestMosquitto_2_0_12_QoS2(t *testing.T) {
	converse(t, `
== a QoS 2 message under way to who may not receive it any more
# versions: 4 5
server authorize=1
v4: a> CONNECT v=4 id=a
v5: a> CONNECT v=5 id=a session_expiry=1000
a< CONNACK
a> SUBSCRIBE id=1 # q=2
a< SUBACK
p> CONNECT v=5 id=p clean
p< CONNACK
p> PUBLISH t q=2 id=1 payload=x
p< PUBREC id=1 code=0
a< PUBLISH t id=$1
a close
server deny receive=t
v4: a> CONNECT v=4 id=a
v5: a> CONNECT v=5 id=a session_expiry=1000
a< CONNACK sp=1
a< PUBREL id=$1
a> PUBCOMP id=$1
a< -
`)
}

// Mosquitto before 2.0.16 published wills to its control topics.
func TestMosquitto_2_0_16_Will(t *testing.T) {
	converse(t, `
== a will to a topic that only the broker publishes to
# versions: 3 4 5
a> CONNECT v=${v} id=a clean will=$CONTROL/dynamic-security/v1 will_payload=x
v5: a< CONNACK code=NotAuthorized
v34: a< CONNACK code=5
a< EOF
`)
}

// The NATS server did not ask about denials when it sent retained messages, and QoS 1 and 2 messages again.
func TestGHSA_7qmq_8cc4_hxwg(t *testing.T) {
	converse(t, `
== a denial below a broad permission
# versions: 4 5
server authorize=1
server deny receive=a/secret
p> CONNECT v=5 id=p clean
p< CONNACK
p> PUBLISH a/secret q=2 id=1 retain payload=x
p< PUBREC id=1
p> PUBREL id=1
p< PUBCOMP id=1
v4: a> CONNECT v=4 id=a
v5: a> CONNECT v=5 id=a session_expiry=1000
a< CONNACK
a> SUBSCRIBE id=1 a/# q=2
a< SUBACK codes=2
server deny
server reauthorize
p> PUBLISH a/secret q=1 id=2 payload=y
p< PUBACK id=2 code=0
a< PUBLISH a/secret payload=y
a close
p> PUBLISH a/secret q=1 id=2 payload=z
p< PUBACK id=2 code=0
server deny receive=a/secret
v4: a> CONNECT v=4 id=a
v5: a> CONNECT v=5 id=a session_expiry=1000
a< CONNACK sp=1
a< -
`)
}

// The NATS server had topics of its own that no permission covered.
func TestCVE_2026_33217(t *testing.T) {
	converse(t, `
== topics of the broker's own
server authorize=1 service=1 sys_interval=10s
server deny subscribe=$SYS/# subscribe=$pki/# publish=$pki/#
a> CONNECT v=5 id=a clean
a< CONNACK
a> SUBSCRIBE id=1 $SYS/# q=0 $pki/# q=0 $share/g/$SYS/# q=0 # q=0
a< SUBACK codes=NotAuthorized,NotAuthorized,NotAuthorized,0
a> PUBLISH $pki/renew/request q=1 id=1 payload=x
a< PUBACK id=1 code=NotAuthorized
a> PUBLISH $SYS/x q=1 id=1 payload=x
a< PUBACK id=1 code=NotAuthorized
sleep 30s
a< -
`)
}

// The NATS server let a queue subscription receive what was denied to plain ones.
func TestGHSA_jx8g_9g95_6322(t *testing.T) {
	converse(t, `
== a shared subscription to what is denied
server authorize=1
server deny subscribe=secret/# receive=secret/#
a> CONNECT v=5 id=a clean
a< CONNACK
a> SUBSCRIBE id=1 secret/x q=1 $share/g/secret/x q=1 $share/g/secret/# q=1 $share/g/# q=1
a< SUBACK codes=NotAuthorized,NotAuthorized,NotAuthorized,1
p> CONNECT v=5 id=p clean
p< CONNACK
p> PUBLISH secret/x q=1 id=1 payload=x
p< PUBACK id=1 code=NoMatchingSubscribers
p> PUBLISH open q=1 id=1 payload=x
p< PUBACK id=1 code=0
a< PUBLISH open
a< -
`)
}
