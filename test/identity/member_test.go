package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

// member is a device of a fleet that does what its firmware should: it keeps a
// durable session, sends and receives, stores the roots that it is told, says
// which it has, and renews its certificate when it is asked to.
type member struct {
	t       *testing.T
	b       *broker
	id      string
	next    string      // whom it sends to
	silent  atomic.Bool // about the roots that it has
	session client.Session
	answers chan []byte // to requests for a certificate

	mu    sync.RWMutex // held to change what follows, and shared to publish
	c     *client.Client
	pair  tls.Certificate
	roots []byte // PEM

	leaving atomic.Bool // its connection, by itself

	acked, got sync.Map // texts of messages
	sent       atomic.Int64
	lost       atomic.Int64 // connections that it did not end itself
}

func (m *member) connect(ctx context.Context) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(m.roots)
	d := client.Dialer{Address: m.b.tls.String(), TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{m.pair}, ServerName: "localhost"}}
	c, err := client.Connect(ctx, client.Config{
		Dial: d.Dial, ClientID: m.id, SessionExpiry: 3600, Session: &m.session, AckTimeout: *patience,
		OnMessage: m.receive,
		OnDisconnect: func(err error) {
			if !m.leaving.Load() {
				m.lost.Add(1)
				m.t.Errorf("%s lost its connection: %v", m.id, err)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("connect %s: %w", m.id, err)
	}
	m.c = c
	if c.Server().SessionPresent {
		return nil
	}
	_, err = c.Subscribe(ctx, client.Subscription{Filter: "to/" + m.id, QoS: 1}, client.Subscription{Filter: "$pki/cacerts", QoS: 1},
		client.Subscription{Filter: "$pki/renew/+", QoS: 1})
	return err
}

func (m *member) receive(msg *client.Message) {
	switch {
	case msg.Topic == "$pki/cacerts":
		go m.trust(msg.Payload)
	case strings.HasPrefix(msg.Topic, "$pki/renew/"):
		if msg.Topic != "$pki/renew/advice" {
			m.answers <- msg.Payload
		}
	default:
		m.got.Store(string(msg.Payload), true)
	}
}

// trust stores roots, and says so.
func (m *member) trust(roots []byte) {
	m.mu.Lock()
	m.roots = roots
	m.mu.Unlock()
	m.tellRoots()
}

func (m *member) tellRoots() {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.silent.Load() {
		return
	}
	var seen struct {
		Roots []string `json:"roots"`
	}
	for block, rest := pem.Decode(m.roots); block != nil; block, rest = pem.Decode(rest) {
		sum := sha256.Sum256(block.Bytes)
		seen.Roots = append(seen.Roots, hex.EncodeToString(sum[:]))
	}
	text, err := json.Marshal(seen)
	if err == nil {
		err = m.c.PublishAsync(m.t.Context(), &client.Message{Topic: "$pki/cacerts/seen", Payload: text, QoS: 1}, nil)
	}
	if err != nil {
		m.t.Errorf("%s tells its roots: %v", m.id, err)
	}
}

// send publishes until ctx ends. What is acknowledged has to arrive.
func (m *member) send(ctx context.Context, every time.Duration) {
	for tick := time.NewTicker(every); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		text := fmt.Sprintf("%s %d", m.id, m.sent.Add(1))
		m.mu.RLock()
		err := m.c.PublishAsync(m.t.Context(), &client.Message{Topic: "to/" + m.next, Payload: []byte(text), QoS: 1}, func(code mqtt.ReasonCode, err error) {
			if err == nil {
				m.acked.Store(text, true)
			} else {
				m.t.Errorf("%s: message %q: %v", m.id, text, err)
			}
		})
		m.mu.RUnlock()
		if err != nil {
			m.t.Errorf("%s: message %q: %v", m.id, text, err)
			return
		}
	}
}

// renew gets a certificate for a new key, and comes back with it.
func (m *member) renew() error {
	ctx, cancel := context.WithTimeout(m.t.Context(), *patience)
	defer cancel()
	key := newKey(m.t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return err
	}
	text, err := json.Marshal(map[string][]byte{"csr": der})
	if err != nil {
		return err
	}
	m.mu.RLock()
	_, err = m.c.Publish(ctx, &client.Message{Topic: "$pki/renew/request", Payload: text, QoS: 1})
	m.mu.RUnlock()
	if err != nil {
		return fmt.Errorf("%s asks for a certificate: %w", m.id, err)
	}
	var r reply
	select {
	case text := <-m.answers:
		if err := json.Unmarshal(text, &r); err != nil || r.Status != "accepted" {
			return fmt.Errorf("%s is answered %q, %v", m.id, text, err)
		}
	case <-ctx.Done():
		return fmt.Errorf("%s gets no certificate: %w", m.id, ctx.Err())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaving.Store(true)
	if err := m.c.Disconnect(mqtt.Success); err != nil {
		return fmt.Errorf("%s disconnects: %w", m.id, err)
	}
	m.c.Wait()
	var chain [][]byte
	for block, rest := pem.Decode([]byte(r.Certificate)); block != nil; block, rest = pem.Decode(rest) {
		chain = append(chain, block.Bytes)
	}
	m.pair = tls.Certificate{Certificate: chain, PrivateKey: key}
	m.leaving.Store(false)
	return m.connect(ctx)
}

// leave ends the connection for good.
func (m *member) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leaving.Swap(true); m.c != nil {
		m.c.Disconnect(mqtt.Success)
		m.c.Wait()
	}
}
