package enroll

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
)

// answering tells those who wait what has become of their ops.
type answering struct{}

func (answering) Session(*store.Session, []store.Subscription, []uint16, store.QueueState) {}
func (answering) Retained(*store.Message)                                                  {}
func (answering) Committed(ops []*store.Op, err error) {
	for _, op := range ops {
		if c, ok := op.Wait.(chan error); ok {
			c <- err
		}
	}
}

// fickle is a store that can be made to refuse records with a prefix.
type fickle struct {
	registry.Store
	refuse atomic.Pointer[func(key string) error]
}

func (f *fickle) Submit(ops ...*store.Op) {
	for _, op := range ops {
		if fn := f.refuse.Load(); fn != nil {
			if err := (*fn)(op.Record.Key); err != nil {
				if c, ok := op.Wait.(chan error); ok {
					c <- err
				}
				continue
			}
		}
		f.Store.Submit(op)
	}
}

type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// bench is a service under test with what is around it.
type bench struct {
	*Service
	t     testing.TB
	store *fickle
	reg   *registry.Registry
	id    *identity.Service
	clock *clock
	log   *lockedBuffer
	ctx   context.Context
	opt   Options
}

func newBench(t testing.TB, cfg Config) *bench {
	t.Helper()
	b := &bench{t: t, store: &fickle{}, clock: &clock{}, log: &lockedBuffer{}, ctx: registry.As(context.Background(), "alice")}
	b.clock.at.Store(time.Now().UnixNano())
	mem := memory.New()
	if _, err := mem.Load(answering{}); err != nil {
		t.Fatal(err)
	}
	b.store.Store = mem
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	dir := t.TempDir()
	var err error
	b.reg, err = registry.Open(b.store, registry.Options{Now: b.clock.now})
	b.must(err)
	t.Cleanup(b.reg.Close)
	pc := pki.Config{Now: b.clock.now, Holder: func(k pki.SPKI) (string, error) {
		id, _ := b.reg.Holder(k)
		if id == "" {
			return "", nil
		}
		kind, name := registry.Split(id)
		return "urn:mqtts:default:" + string(kind) + ":" + name, nil
	}}
	folder, _, err := pki.InitFolder(dir, pc)
	b.must(err)
	b.reg.SetIssuers(folder.CA().DeviceCAs()...)
	b.id, err = identity.New(identity.Options{Folder: folder, PKI: pc, Registry: b.reg, Now: b.clock.now})
	b.must(err)
	b.opt = Options{Config: cfg, Identity: b.id, Registry: b.reg, Store: b.store, Log: log, Now: b.clock.now}
	b.reopen()
	return b
}

func (b *bench) reopen() {
	b.t.Helper()
	if b.Service != nil {
		b.Close()
	}
	var err error
	b.Service, err = New(b.opt)
	b.must(err)
	b.t.Cleanup(b.Close)
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// key is a device's key with CSRs for it.
type key struct{ *ecdsa.PrivateKey }

func newKey(t testing.TB) key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key{k}
}

func (k key) csr(t testing.TB) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (k key) pem(t testing.TB) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: k.csr(t)}))
}

func (k key) base64(t testing.TB) string { return base64.StdEncoding.EncodeToString(k.csr(t)) }

// got is an answer.
type got struct {
	topic string
	raw   []byte
	props mqtt.Properties

	Status, Code, Reason, Fix, Device, Certificate, CA, Serial string
	RetryAfter                                                 int       `json:"retry_after"`
	NotAfter                                                   time.Time `json:"not_after"`
	RenewAt                                                    time.Time `json:"renew_at"`

	ThingName                 string
	CertificatePem            string
	CertificateID             string `json:"certificateId"`
	CertificateOwnershipToken string
	StatusCode                int
	ErrorCode, ErrorMessage   string
	DeviceConfiguration       map[string]string
}

// client is who asks.
type client struct {
	id, addr, kind, name, serial string
	cert                         *x509.Certificate
	expired                      bool
	respond, data                string
	ended                        *bool // Close was called
}

// ask sends a request and waits for its answer.
func (b *bench) ask(c client, topic string, payload any) got {
	b.t.Helper()
	text, ok := payload.(string)
	if !ok {
		j, err := json.Marshal(payload)
		b.must(err)
		text = string(j)
	}
	if c.addr == "" {
		c.addr = "192.0.2.7:4711"
	}
	answer := make(chan got, 4)
	r := &Request{Topic: topic, Payload: []byte(text), Props: new(mqtt.Properties), ClientID: c.id, Addr: c.addr, Kind: c.kind, Name: c.name,
		Serial: c.serial, Expired: c.expired,
		Reply: func(topic string, payload []byte, props *mqtt.Properties) bool {
			answer <- got{topic: topic, raw: payload, props: *props}
			return true
		},
		Close: func(mqtt.ReasonCode, string) {
			answer <- got{Status: "closed"}
		}}
	if c.cert != nil {
		r.Key = sha256.Sum256(c.cert.RawSubjectPublicKeyInfo)
		if id, _, err := b.Factory(c.cert); err == nil { // as the program admits it
			r.Kind, r.Name = "device", id
		}
	}
	if c.respond != "" {
		r.Props.ResponseTopic = []byte(c.respond)
		r.Props.Set(mqtt.PropResponseTopic)
	}
	if c.data != "" {
		r.Props.CorrelationData = []byte(c.data)
		r.Props.Set(mqtt.PropCorrelationData)
	}
	if !b.Owns([]byte(topic)) {
		b.t.Fatalf("topic %q is not owned", topic)
	}
	b.Serve(r)
	g := <-answer
	if c.ended != nil {
		*c.ended = (<-answer).Status == "closed"
	}
	if len(g.raw) > 0 && g.raw[0] == '{' {
		if err := json.Unmarshal(g.raw, &g); err != nil {
			b.t.Fatalf("answer %q: %v", g.raw, err)
		}
	}
	return g
}

// enrol asks for a certificate with a token, "" for the client's claim certificate.
func (b *bench) enrol(c client, k key, token string) got {
	b.t.Helper()
	return b.ask(c, "$pki/enroll/"+c.id+"/request", map[string]any{"csr": k.base64(b.t), "token": token})
}

// wants fails the test if an answer is another.
func (b *bench) wants(g got, status string, code Code) got {
	b.t.Helper()
	if g.Status != status || g.Code != string(code) {
		b.t.Fatalf("answer %s, want %s %s\n%s", g.raw, status, code, b.log)
	}
	if status == "rejected" && (g.Reason == "" || g.Fix == "") {
		b.t.Fatalf("rejection without reason or fix: %s", g.raw)
	}
	return g
}

func (b *bench) token(c Claim) (string, Claim) {
	b.t.Helper()
	token, made, err := b.Create(b.ctx, c)
	b.must(err)
	return token, made
}

// claimant makes a claim with a certificate, and returns a client with it.
func (b *bench) claimant(c Claim, id string) (client, Claim) {
	b.t.Helper()
	out, made, err := b.CreateCertificate(b.ctx, c, newKey(b.t).csr(b.t))
	b.must(err)
	return client{id: id, kind: "claim", name: made.ID, serial: serialOf(out), cert: out.Leaf}, made
}

func (b *bench) state(id string) registry.State {
	d, _ := b.reg.Get(id)
	return d.State
}

func parsePEM(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM in %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
