package door

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// client is as much of MQTT 3.1.1 as the tests need.
type client struct {
	net.Conn
	in *bufio.Reader
}

// connectPacket is a CONNECT with a clean session.
func connectPacket(id string) []byte {
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0}, byte(len(id)>>8), byte(len(id)))
	body = append(body, id...)
	return append([]byte{0x10, byte(len(body))}, body...)
}

// connect sends a CONNECT and wants it accepted.
func connect(nc net.Conn, id string) (*client, error) {
	nc.SetDeadline(time.Now().Add(*patience))
	if _, err := nc.Write(connectPacket(id)); err != nil {
		return nil, err
	}
	c := &client{nc, bufio.NewReader(nc)}
	ack := make([]byte, 4)
	if _, err := io.ReadFull(c.in, ack); err != nil {
		return nil, err
	}
	if ack[0] != 0x20 || ack[3] != 0 {
		return nil, fmt.Errorf("CONNACK % x", ack)
	}
	nc.SetDeadline(time.Time{})
	return c, nil
}

// publish sends with QoS 1 and waits for the PUBACK.
func (c *client) publish(topic string, number uint16, payload string) error {
	body := append([]byte{byte(len(topic) >> 8), byte(len(topic))}, topic...)
	body = binary.BigEndian.AppendUint16(body, number)
	body = append(body, payload...)
	c.SetDeadline(time.Now().Add(*patience))
	if _, err := c.Write(append([]byte{0x32, byte(len(body))}, body...)); err != nil {
		return err
	}
	ack := make([]byte, 4)
	if _, err := io.ReadFull(c.in, ack); err != nil {
		return err
	}
	if ack[0] != 0x40 || binary.BigEndian.Uint16(ack[2:]) != number {
		return fmt.Errorf("PUBACK % x", ack)
	}
	return nil
}

// isOut tells whether the broker ends a connection, within the patience, before it says anything.
func isOut(t *testing.T, nc net.Conn) bool {
	t.Helper()
	nc.SetReadDeadline(time.Now().Add(*patience))
	n, err := nc.Read(make([]byte, 1))
	if err, ok := err.(net.Error); ok && err.Timeout() {
		return false
	}
	return n == 0
}
