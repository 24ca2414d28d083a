package websocket

import "encoding/binary"

// Event is what Decoder.Next found.
type Event uint8

const (
	None  Event = iota // all was taken and nothing is to be told
	Data               // bytes of the stream
	Ping               // to be answered
	Close              // to be answered; nothing follows
)

var (
	errUnmasked     = &CloseError{Code: CloseProtocol, Text: "frame of the client is not masked"}
	errMasked       = &CloseError{Code: CloseProtocol, Text: "frame of the server is masked"}
	errReservedBits = &CloseError{Code: CloseProtocol, Text: "reserved bits are set, though no extension was agreed on"}
	errOpcode       = &CloseError{Code: CloseProtocol, Text: "opcode is reserved"}
	errText         = &CloseError{Code: CloseUnsupported, Text: "text frame: MQTT is carried in binary frames"}
	errControlLong  = &CloseError{Code: CloseProtocol, Text: "control frame is longer than 125 bytes"}
	errControlCut   = &CloseError{Code: CloseProtocol, Text: "control frame is fragmented"}
	errContinuation = &CloseError{Code: CloseProtocol, Text: "continuation of no message"}
	errInterleaved  = &CloseError{Code: CloseProtocol, Text: "message begins within another"}
	errLengthForm   = &CloseError{Code: CloseProtocol, Text: "length is not in its shortest form"}
	errLengthRange  = &CloseError{Code: CloseProtocol, Text: "length is over 2^63"}
	errCloseLength  = &CloseError{Code: CloseProtocol, Text: "close frame has half a code"}
	errCloseCode    = &CloseError{Code: CloseProtocol, Text: "close frame has a code that is never sent"}
	errCloseReason  = &CloseError{Code: CloseInvalid, Text: "close frame has a reason that is not UTF-8"}
)

// Decoder takes the frames of one client apart. The zero value is ready; it
// allocates nothing and its size does not depend on what arrives.
type Decoder struct {
	left uint64      // bytes of the frame's payload to come
	key  uint32      // turned for the next of them
	err  *CloseError // sticks

	client  bool // reads a server's frames: they have no mask
	payload bool // the header is over
	op      Opcode
	message bool // a fragmented message goes on
	closed  bool // a close frame came

	n   uint8            // bytes in buf
	buf [MaxControl]byte // an unfinished header, or control payload
}

// Next takes the next event from p and returns what remains of p: call it
// with that until nothing remains. Data is unmasked in place: data is a part
// of p, or of the Decoder for a Ping or Close cut in two, and valid until the
// next call. Empty frames and pongs make no event. After a Close everything
// is discarded.
//
// An error is a *CloseError whose code is to be sent; it is returned again
// ever after.
func (d *Decoder) Next(p []byte) (ev Event, data, rest []byte, err error) {
	for d.err == nil && !d.closed {
		if !d.payload {
			if len(p) == 0 {
				return None, nil, nil, nil
			}
			n, cerr := d.header(p)
			if cerr != nil {
				d.err = cerr
				break
			}
			p = p[n:]
			if !d.payload {
				return None, nil, nil, nil
			}
		}
		if d.op >= OpClose {
			// left is MaxControl at most.
			if ev, data, p = d.control(p); ev != None {
				if ev == Close {
					if d.err = checkClose(data); d.err != nil {
						break
					}
					d.closed = true
				}
				return ev, data, p, nil
			}
			if d.payload {
				return None, nil, nil, nil
			}
			continue
		}
		if d.left == 0 {
			d.payload = false
			continue
		}
		if len(p) == 0 {
			return None, nil, nil, nil
		}
		n := len(p)
		if uint64(n) > d.left {
			n = int(d.left)
		}
		if !d.client {
			d.key = mask(p[:n], d.key)
		}
		d.left -= uint64(n)
		d.payload = d.left > 0
		return Data, p[:n], p[n:], nil
	}
	if d.err != nil {
		return None, nil, nil, d.err
	}
	return None, nil, nil, nil
}

// header takes a header, or the part of it in p that came, and returns how
// many bytes it took.
func (d *Decoder) header(p []byte) (int, *CloseError) {
	h, taken := p, 0
	if d.n > 0 || len(p) < MaxHeader {
		// Byte by byte up to where its length is known.
		for {
			need := 2
			if d.n >= 2 {
				if err := d.check(d.buf[0], d.buf[1]); err != nil {
					return 0, err
				}
				need = d.size(d.buf[1])
			}
			if int(d.n) >= need && d.n >= 2 {
				break
			}
			if taken == len(p) {
				return taken, nil
			}
			c := copy(d.buf[d.n:need], p[taken:])
			d.n += uint8(c)
			taken += c
		}
		h = d.buf[:d.n]
	} else {
		if err := d.check(h[0], h[1]); err != nil {
			return 0, err
		}
		taken = d.size(h[1])
		h = h[:taken]
	}
	at := 2
	switch n := h[1] & 0x7f; n {
	default:
		d.left = uint64(n)
	case 126:
		d.left = uint64(binary.BigEndian.Uint16(h[2:]))
		if d.left <= MaxControl {
			return 0, errLengthForm
		}
		at = 4
	case 127:
		d.left = binary.BigEndian.Uint64(h[2:])
		switch {
		case d.left <= 0xffff:
			return 0, errLengthForm
		case d.left > 1<<63-1:
			return 0, errLengthRange
		}
		at = 10
	}
	if !d.client {
		d.key = binary.LittleEndian.Uint32(h[at:])
	}
	d.op = Opcode(h[0] & 0x0f)
	if d.op < OpClose {
		d.message = h[0]&0x80 == 0
	}
	d.n = 0
	d.payload = true
	return taken, nil
}

// size returns the length of the header whose second byte is b.
func (d *Decoder) size(b byte) int {
	n := 2
	switch b & 0x7f {
	case 126:
		n = 4
	case 127:
		n = 10
	}
	if !d.client {
		n += 4
	}
	return n
}

// check judges a frame by the first two bytes.
func (d *Decoder) check(b0, b1 byte) *CloseError {
	if b0&0x70 != 0 {
		return errReservedBits
	}
	switch op := Opcode(b0 & 0x0f); op {
	case OpContinuation:
		if !d.message {
			return errContinuation
		}
	case OpText:
		return errText
	case OpBinary:
		if d.message {
			return errInterleaved
		}
	case OpClose, OpPing, OpPong:
		if b0&0x80 == 0 {
			return errControlCut
		}
		if b1&0x7f > MaxControl {
			return errControlLong
		}
	default:
		return errOpcode
	}
	switch masked := b1&0x80 != 0; {
	case d.client && masked:
		return errMasked
	case !d.client && !masked:
		return errUnmasked
	}
	return nil
}

// control takes the payload of a control frame from p.
func (d *Decoder) control(p []byte) (ev Event, data, rest []byte) {
	n := min(len(p), int(d.left))
	data, rest = p[:n], p[n:]
	if !d.client {
		d.key = mask(data, d.key)
	}
	d.left -= uint64(n)
	if d.n > 0 || d.left > 0 {
		copy(d.buf[d.n:], data)
		d.n += uint8(n)
		data = d.buf[:d.n]
	}
	if d.left > 0 {
		return None, nil, rest
	}
	d.n, d.payload = 0, false
	switch d.op {
	case OpPing:
		return Ping, data, rest
	case OpClose:
		return Close, data, rest
	}
	return None, nil, rest
}
