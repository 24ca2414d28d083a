package threats

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/sealmq/sealmq/mqtt"
)

// The broker asks no server that a client names: not those in certificates, for
// revocation lists, OCSP or issuers, and none in what clients send.
func TestNobodySendsUsElsewhere(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer inside.Close()
	b := startBroker(t, jsonLog+mutualTLS)
	who := b.device(t, "pump-1", func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{inside.URL + "/list.crl"}
		c.OCSPServer = []string{inside.URL + "/ocsp"}
		c.IssuingCertificateURL = []string{inside.URL + "/issuer.crt"}
	})
	p := hello("pump-1")
	p.HasUsername, p.Username = true, []byte(inside.URL)
	c := b.connect(t, "tls", who, p)
	m := mqtt.Publish{Topic: []byte("pump-1/x"), QoS: 1, PacketID: 1, Payload: []byte(inside.URL)}
	m.Props.ResponseTopic, m.Props.ContentType = []byte(inside.URL), []byte(inside.URL)
	m.Props.Set(mqtt.PropResponseTopic, mqtt.PropContentType)
	c.send(m.Append(nil, mqtt.V5))
	c.await(mqtt.PUBACK)
	c.disconnect()
	b.stop(t)
	if n := asked.Load(); n > 0 {
		t.Errorf("%d requests came to an address that a client has named", n)
	}
}
