// Package enroll lets devices get their certificates over MQTT: with a claim at first, with the certificate they have when
// it is to be renewed, or with one that their maker gave them.
package enroll

import (
	"crypto/x509"

	"github.com/sealmq/sealmq/mqtt"
)

// Request is a publication to a topic that Service.Owns.
type Request struct {
	Topic   string
	Payload []byte
	Props   *mqtt.Properties // response topic, correlation data, content type; may be empty, never nil

	ClientID string
	Addr     string            // peer, host:port
	Kind     string            // of the principal: "device", "operator", "claim", ""
	Name     string            // of the principal; the claim's of one that has shown a claim certificate
	Serial   string            // of its certificate, hex
	Expired  bool              // that certificate has ended
	Cert     *x509.Certificate // nil unless it is needed and known

	// Reply sends a message to this client alone, if it is still connected and subscribed to the topic, and reports
	// whether it was. It may be called from any goroutine, and more than once.
	Reply func(topic string, payload []byte, props *mqtt.Properties) bool
	// Close ends the client's connection.
	Close func(code mqtt.ReasonCode, text string)
}
