// Package websocket carries a byte stream in WebSocket binary messages
// [RFC 6455], as MQTT asks for it [MQTT-6.0.0-1]: the opening handshake on
// both sides, a frame decoder that may be fed any pieces of the stream, and
// the headers of frames to send.
//
// A server calls Upgrade on a blocking connection, then gives everything that
// arrives to a Decoder and puts AppendHeader before everything that it sends.
// Nothing of it waits, so the connection may be driven by readiness events.
// NewClient presents the other side as a net.Conn.
//
// Messages mean nothing here: their payloads form one stream, whatever their
// boundaries [MQTT-6.0.0-2]. Compression is never negotiated. The package
// starts no goroutine.
package websocket

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Sub-protocols [MQTT-6.0.0-3]. The second is that of MQTT 3.1.
const (
	Protocol    = "mqtt"
	ProtocolV31 = "mqttv3.1"
)

// Opcode says what a frame is [RFC 6455, 5.2].
type Opcode uint8

const (
	OpContinuation Opcode = 0
	OpText         Opcode = 1
	OpBinary       Opcode = 2
	OpClose        Opcode = 8
	OpPing         Opcode = 9
	OpPong         Opcode = 10
)

// Close codes [RFC 6455, 7.4.1].
const (
	CloseNormal      uint16 = 1000
	CloseGoingAway   uint16 = 1001
	CloseProtocol    uint16 = 1002
	CloseUnsupported uint16 = 1003 // a text frame: MQTT is binary
	CloseNoStatus    uint16 = 1005 // no code was given; never sent
	CloseInvalid     uint16 = 1007 // a close reason that is not UTF-8
	ClosePolicy      uint16 = 1008
)

// MaxHeader is the length of the longest header of a frame, in bytes. A
// server's own are at most 10 long, having no mask.
const MaxHeader = 14

// MaxControl is the longest payload of a control frame, in bytes.
const MaxControl = 125

// CloseError is a stream that ended with other than CloseNormal: what this
// side found wrong, or the peer's words.
type CloseError struct {
	Code uint16
	Text string
	Peer bool // the peer closed; otherwise the code is to be sent to it
}

func (e *CloseError) Error() string {
	if e.Peer {
		return fmt.Sprintf("websocket: closed by the peer with %d %q", e.Code, e.Text)
	}
	return "websocket: " + e.Text
}

// HeaderLen returns the length of a server's frame header, in bytes.
func HeaderLen(payload int) int {
	switch {
	case payload <= MaxControl:
		return 2
	case payload <= 0xffff:
		return 4
	}
	return 10
}

// AppendHeader appends the header of a server's frame, which is a whole
// message, with that many bytes of payload to follow.
func AppendHeader(dst []byte, op Opcode, payload int) []byte {
	dst = append(dst, 0x80|byte(op))
	switch {
	case payload <= MaxControl:
		return append(dst, byte(payload))
	case payload <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(payload))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(payload))
}

// AppendClose appends a server's close frame. The reason is cut, between
// characters, to what fits; CloseNoStatus appends the frame without code.
func AppendClose(dst []byte, code uint16, reason string) []byte {
	if code == CloseNoStatus {
		return AppendHeader(dst, OpClose, 0)
	}
	reason = fitReason(reason)
	dst = AppendHeader(dst, OpClose, 2+len(reason))
	return append(binary.BigEndian.AppendUint16(dst, code), reason...)
}

func fitReason(s string) string {
	if len(s) <= MaxControl-2 {
		return s
	}
	n := MaxControl - 2
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// AppendAnswer appends what a server answers to an event: the pong to a Ping,
// with its payload, the close frame with the same code to a Close, nothing to
// others.
func AppendAnswer(dst []byte, ev Event, data []byte) []byte {
	switch ev {
	case Ping:
		return append(AppendHeader(dst, OpPong, len(data)), data...)
	case Close:
		code, _ := ParseClose(data)
		return AppendClose(dst, code, "")
	}
	return dst
}

// ParseClose returns the code and the reason in the payload of a close frame,
// CloseNoStatus if it holds none.
func ParseClose(data []byte) (code uint16, reason []byte) {
	if len(data) < 2 {
		return CloseNoStatus, nil
	}
	return binary.BigEndian.Uint16(data), data[2:]
}

// checkClose returns what is wrong with the payload of a received close frame.
func checkClose(data []byte) *CloseError {
	if len(data) == 0 {
		return nil
	}
	code, reason := ParseClose(data)
	switch {
	case len(data) == 1:
		return errCloseLength
	case code >= 3000 && code <= 4999, code >= 1000 && code <= 1014 && (code < 1004 || code > 1006):
	default:
		return errCloseCode
	}
	if !utf8.Valid(reason) {
		return errCloseReason
	}
	return nil
}
