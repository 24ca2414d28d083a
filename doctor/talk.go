package doctor

import (
	"errors"
	"fmt"
	"net"

	"github.com/sealmq/sealmq/mqtt"
)

// maxPacket is the largest packet that is accepted, in bytes; a version 5
// broker is told.
const maxPacket = 256 << 10

// talk is one MQTT conversation: one packet out, one in. It starts no goroutine.
type talk struct {
	conn net.Conn
	v    mqtt.Version
	buf  []byte
	got  []byte // the first bytes that came
	// renew gives the next exchange as long as the ones before; optional.
	renew func()
}

// send writes one packet.
func (t *talk) send(packet []byte) error {
	if t.renew != nil {
		t.renew()
	}
	_, err := t.conn.Write(packet)
	return err
}

// notMQTT is an answer that cannot be parsed.
type notMQTT struct{ err error }

func (e *notMQTT) Error() string { return "what came is not MQTT: " + e.err.Error() }
func (e *notMQTT) Unwrap() error { return e.err }

// receive reads a packet; body is valid until the next call.
func (t *talk) receive() (h mqtt.Header, body []byte, err error) {
	for {
		h, err = mqtt.ParseHeader(t.buf)
		switch {
		case err == nil && h.Size+h.Length > maxPacket:
			return h, nil, &notMQTT{fmt.Errorf("a packet of %d bytes", h.Size+h.Length)}
		case err == nil && len(t.buf) >= h.Size+h.Length:
			body = t.buf[h.Size : h.Size+h.Length]
			t.buf = t.buf[h.Size+h.Length:]
			return h, body, nil
		case err != nil && !errors.Is(err, mqtt.ErrIncomplete):
			return h, nil, &notMQTT{err}
		}
		part := make([]byte, 4<<10)
		n, err := t.conn.Read(part)
		t.buf = append(t.buf, part[:n]...)
		if k := min(n, 64-len(t.got)); k > 0 {
			t.got = append(t.got, part[:k]...)
		}
		if n == 0 && err != nil {
			return h, nil, err
		}
	}
}

// refusal is the broker's no.
type refusal struct {
	packet    mqtt.Type // CONNACK or DISCONNECT
	code      mqtt.ReasonCode
	reason    string // its words, possibly empty
	reference string // another broker
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%v with %v", r.packet, r.code)
}

// next is receive, with the broker's DISCONNECT as an error.
func (t *talk) next() (mqtt.Header, []byte, error) {
	h, body, err := t.receive()
	if err == nil && h.Type == mqtt.DISCONNECT && t.v == mqtt.V5 {
		var p mqtt.Disconnect
		if err := p.Parse(t.v, h.Flags, body); err != nil {
			return h, nil, &notMQTT{err}
		}
		return h, nil, &refusal{h.Type, p.Code, string(p.Props.ReasonString), string(p.Props.ServerReference)}
	}
	return h, body, err
}

// connect sends p and waits for CONNACK.
func (t *talk) connect(p *mqtt.Connect) (*mqtt.Connack, error) {
	if err := t.send(p.Append(nil, t.v)); err != nil {
		// What the broker said before it closed is worth more.
		if _, _, e := t.receive(); e != nil && remoteAlert(e) >= 0 {
			err = e
		}
		return nil, err
	}
	h, body, err := t.next()
	if err != nil {
		return nil, err
	}
	if h.Type != mqtt.CONNACK {
		return nil, &notMQTT{fmt.Errorf("%v in answer to CONNECT", h.Type)}
	}
	var ack mqtt.Connack
	if err := ack.Parse(t.v, h.Flags, body); err != nil {
		if t.v == mqtt.V5 && len(body) >= 2 && mqtt.ReasonCode(body[1]).IsError() {
			// A code that does not belong into CONNACK, or broken properties: still a no.
			return nil, &refusal{packet: mqtt.CONNACK, code: mqtt.ReasonCode(body[1])}
		}
		return nil, &notMQTT{err}
	}
	if ack.Code.IsError() {
		return nil, &refusal{mqtt.CONNACK, ack.Code, string(ack.Props.ReasonString), string(ack.Props.ServerReference)}
	}
	return &ack, nil
}

// ping sends PINGREQ and waits for its answer.
func (t *talk) ping() error {
	if err := t.send(mqtt.AppendPingreq(nil)); err != nil {
		return err
	}
	for {
		h, _, err := t.next()
		if err != nil || h.Type == mqtt.PINGRESP {
			return err
		}
	}
}

// subscribe returns the broker's code for the filter.
func (t *talk) subscribe(filter string, qos uint8) (mqtt.ReasonCode, error) {
	p := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{{Filter: []byte(filter), QoS: qos}}}
	if err := t.send(p.Append(nil, t.v)); err != nil {
		return 0, err
	}
	for {
		h, body, err := t.next()
		if err != nil {
			return 0, err
		}
		if h.Type != mqtt.SUBACK {
			continue
		}
		var ack mqtt.Suback
		if err := ack.Parse(t.v, h.Flags, body); err != nil || len(ack.Codes) != 1 {
			return 0, &notMQTT{errors.Join(errors.New("SUBACK"), err)}
		}
		return ack.Codes[0], nil
	}
}

// echo publishes and waits until the message has come back and, unless qos is
// 0, was acknowledged. Messages of others are left unacknowledged.
func (t *talk) echo(topic string, payload []byte, qos uint8) (mqtt.ReasonCode, error) {
	p := mqtt.Publish{QoS: qos, Topic: []byte(topic), Payload: payload}
	if qos > 0 {
		p.PacketID = 2
	}
	if err := t.send(p.Append(nil, t.v)); err != nil {
		return 0, err
	}
	acked, back := qos == 0, false
	for !acked || !back {
		h, body, err := t.next()
		if err != nil {
			return 0, err
		}
		switch h.Type {
		case mqtt.PUBACK:
			ack := mqtt.Ack{Type: h.Type}
			if err := ack.Parse(t.v, h.Flags, body); err != nil {
				return 0, &notMQTT{err}
			}
			if ack.Code.IsError() {
				return ack.Code, nil
			}
			acked = acked || ack.PacketID == p.PacketID
		case mqtt.PUBLISH:
			var m mqtt.Publish
			if err := m.Parse(t.v, h.Flags, body); err != nil {
				return 0, &notMQTT{err}
			}
			if string(m.Payload) != string(payload) || string(m.Topic) != topic {
				continue
			}
			back = true
			if m.QoS == 1 {
				ack := mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID}
				if err := t.send(ack.Append(nil, t.v)); err != nil {
					return 0, err
				}
			}
		}
	}
	return mqtt.Success, nil
}
