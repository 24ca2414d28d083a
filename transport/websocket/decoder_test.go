package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// frame builds a client's frame in the shortest form.
func frame(b0 byte, payload []byte) []byte {
	key := []byte{0x37, 0xfa, 0x21, 0x3d}
	f := AppendHeader(nil, 0, len(payload))
	f[0] = b0
	f[1] |= 0x80
	f = append(f, key...)
	for i, b := range payload {
		f = append(f, b^key[i%4])
	}
	return f
}

const (
	fin  = 0x80
	text = fin | byte(OpText)
	bin  = fin | byte(OpBinary)
	cont = fin | byte(OpContinuation)
	ping = fin | byte(OpPing)
	pong = fin | byte(OpPong)
	bye  = fin | byte(OpClose)
)

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// result is all that came out of a stream.
type result struct {
	Data    string
	Control []string // pings and the close, in order, with the length of Data before them
	Err     uint16
}

func (r *result) control(kind Event, at int, data []byte) {
	r.Control = append(r.Control, fmt.Sprintf("%d at %d: %x", kind, at, data))
}

// decode feeds a copy of the stream, cut by next.
func decode(d *Decoder, stream []byte, next func(left int) int) (r result) {
	var all []byte
	defer func() { r.Data = string(all) }()
	stream = bytes.Clone(stream)
	for len(stream) > 0 {
		n := next(len(stream))
		// Own memory, so that nothing before or behind can be looked at.
		p := bytes.Clone(stream[:n:n])
		stream = stream[n:]
		for len(p) > 0 {
			var ev Event
			var data []byte
			var err error
			ev, data, p, err = d.Next(p)
			var ce *CloseError
			if errors.As(err, &ce) {
				r.Err = ce.Code
				return r
			}
			switch ev {
			case Data:
				all = append(all, data...)
			case Ping, Close:
				r.control(ev, len(all), data)
			}
		}
	}
	return r
}

func whole(left int) int { return left }

// naive decodes by the standard, the whole stream before its eyes.
func naive(s []byte, client bool) (r result) {
	message := false
	for {
		if len(s) < 2 {
			return r
		}
		op, final := s[0]&15, s[0]&fin != 0
		control := op >= 8
		long := s[1] & 127
		switch {
		case s[0]&0x70 != 0,
			op > 2 && op < 8, op > 10,
			control && (!final || long > 125),
			op == 0 && !message, op == 2 && message:
			r.Err = 1002
			return r
		case op == 1:
			r.Err = 1003
			return r
		case (s[1]&0x80 != 0) == client:
			r.Err = 1002
			return r
		}
		h, n := 2, uint64(long)
		switch long {
		case 126:
			h = 4
		case 127:
			h = 10
		}
		key := make([]byte, 4)
		body := h
		if !client {
			body += 4
		}
		if len(s) < body {
			return r
		}
		if h > 2 {
			n = 0
			for _, b := range s[2:h] {
				n = n<<8 | uint64(b)
			}
		}
		if h == 4 && n < 126 || h == 10 && (n < 65536 || n >= 1<<63) {
			r.Err = 1002
			return r
		}
		copy(key, s[h:body])
		s = s[body:]
		have := s
		if uint64(len(have)) > n {
			have = have[:n]
		}
		s = s[len(have):]
		plain := make([]byte, len(have))
		for i := range have {
			plain[i] = have[i] ^ key[i%4]
		}
		if !control {
			message = !final
			r.Data += string(plain)
		}
		if uint64(len(have)) < n {
			return r
		}
		switch op {
		case 9:
			r.control(Ping, len(r.Data), plain)
		case 8:
			if len(plain) > 0 {
				var code int
				if len(plain) > 1 {
					code = int(binary.BigEndian.Uint16(plain))
				}
				if !slices.Contains([]int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}, code) && (code < 3000 || code > 4999) {
					r.Err = 1002
					return r
				}
				if !utf8.Valid(plain[2:]) {
					r.Err = 1007
					return r
				}
			}
			r.control(Close, len(r.Data), plain)
			return r
		}
	}
}

// streams are whole conversations of clients.
var streams = []struct {
	name   string
	stream []byte
	want   result
}{
	// RFC 6455, 5.7, with the opcode of binary messages.
	{"one masked frame", []byte{0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}, result{Data: "Hello"}},
	{"masked ping", []byte{0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}, result{Control: []string{"2 at 0: 48656c6c6f"}}},
	{"masked pong", []byte{0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}, result{}},
	{"256 bytes", frame(bin, bytes.Repeat([]byte("0123456789abcdef"), 16)), result{Data: strings.Repeat("0123456789abcdef", 16)}},
	{"64 KiB", frame(bin, bytes.Repeat([]byte("x"), 65536)), result{Data: strings.Repeat("x", 65536)}},
	{"fragments", join(frame(byte(OpBinary), []byte("Hel")), frame(cont, []byte("lo"))), result{Data: "Hello"}},

	{"ping within a message", join(frame(byte(OpBinary), []byte("Hel")), frame(ping, []byte("p")), frame(0, nil), frame(pong, nil), frame(cont, []byte("lo")), frame(bin, []byte("!"))),
		result{Data: "Hello!", Control: []string{"2 at 3: 70"}}},
	{"empty frames", join(frame(bin, nil), frame(byte(OpBinary), nil), frame(0, nil), frame(cont, nil), frame(ping, nil), frame(bin, []byte("x"))),
		result{Data: "x", Control: []string{"2 at 0: "}}},
	{"longest ping", frame(ping, bytes.Repeat([]byte{7}, 125)), result{Control: []string{"2 at 0: " + strings.Repeat("07", 125)}}},
	{"close", join(frame(bin, []byte("x")), frame(bye, []byte("\x03\xe8bye")), frame(text, []byte("ignored"))), result{Data: "x", Control: []string{"3 at 1: 03e8627965"}}},
	{"close without code", join(frame(bye, nil), []byte{0xff, 0xff}), result{Control: []string{"3 at 0: "}}},
	{"close of an application", frame(bye, []byte{0x0f, 0xa0}), result{Control: []string{"3 at 0: 0fa0"}}},

	{"text", frame(text, []byte("x")), result{Err: 1003}},
	{"text in fragments", frame(byte(OpText), []byte("x")), result{Err: 1003}},
	{"empty text after data", join(frame(bin, []byte("ok")), frame(text, nil)), result{Data: "ok", Err: 1003}},
	{"unmasked", []byte{0x82, 0x05, 'H', 'e', 'l', 'l', 'o'}, result{Err: 1002}},
	{"unmasked ping", []byte{0x89, 0x00}, result{Err: 1002}},
	{"reserved bit 1", frame(bin|0x40, []byte("x")), result{Err: 1002}},
	{"reserved bit 2", frame(bin|0x20, []byte("x")), result{Err: 1002}},
	{"reserved bit 3", frame(ping|0x10, nil), result{Err: 1002}},
	{"opcode 3", frame(fin|3, nil), result{Err: 1002}},
	{"opcode 7", frame(fin|7, nil), result{Err: 1002}},
	{"opcode 11", frame(fin|11, nil), result{Err: 1002}},
	{"opcode 15", frame(fin|15, nil), result{Err: 1002}},
	{"control of 126 bytes", frame(ping, make([]byte, 126)), result{Err: 1002}},
	{"control with a long length", []byte{ping, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0}, result{Err: 1002}},
	{"control in fragments", frame(byte(OpPing), []byte("x")), result{Err: 1002}},
	{"close in fragments", frame(byte(OpClose), nil), result{Err: 1002}},
	{"continuation of nothing", frame(cont, []byte("x")), result{Err: 1002}},
	{"continuation of a whole message", join(frame(bin, nil), frame(cont, nil)), result{Err: 1002}},
	{"message within a message", join(frame(byte(OpBinary), []byte("x")), frame(bin, []byte("y"))), result{Data: "x", Err: 1002}},
	{"16 bits for 125", []byte{bin, 0xfe, 0, 125, 0, 0, 0, 0, 0}, result{Err: 1002}},
	{"64 bits for 65535", []byte{bin, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}, result{Err: 1002}},
	{"2^63 bytes", []byte{bin, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, result{Err: 1002}},
	{"2^64 - 1 bytes", []byte{bin, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, result{Err: 1002}},
	{"2^63 - 1 bytes begin", []byte{bin, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 'x'}, result{Data: "x"}},
	{"half a close code", frame(bye, []byte{3}), result{Err: 1002}},
	{"close code 999", frame(bye, []byte{0x03, 0xe7}), result{Err: 1002}},
	{"close code 1005", frame(bye, []byte{0x03, 0xed}), result{Err: 1002}},
	{"close code 1006", frame(bye, []byte{0x03, 0xee}), result{Err: 1002}},
	{"close code 1015", frame(bye, []byte{0x03, 0xf7}), result{Err: 1002}},
	{"close code 5000", frame(bye, []byte{0x13, 0x88}), result{Err: 1002}},
	{"close reason not UTF-8", frame(bye, []byte{0x03, 0xe8, 0xff}), result{Err: 1007}},
}

// The boundaries of frames and of reads mean nothing: whatever the cut, the
// same comes out.
func TestDecoder(t *testing.T) {
	for _, c := range streams {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, naive(c.stream, false)); diff != "" {
				t.Errorf("the model of this test is wrong: %s", diff)
			}
			check := func(how string, next func(int) int) {
				t.Helper()
				if diff := cmp.Diff(c.want, decode(new(Decoder), c.stream, next)); diff != "" {
					t.Errorf("%s: %s", how, diff)
				}
			}
			check("whole", whole)
			check("bytewise", func(int) int { return 1 })
			if len(c.stream) > 1000 {
				return
			}
			for i := 1; i < len(c.stream); i++ {
				first := true
				check(fmt.Sprintf("cut at %d", i), func(left int) int {
					if first {
						first = false
						return i
					}
					return left
				})
			}
		})
	}
}

func TestDecoderErrorSticks(t *testing.T) {
	var d Decoder
	_, _, _, err := d.Next(frame(text, []byte("x")))
	_, _, rest, again := d.Next(frame(bin, []byte("x")))
	if err == nil || again != err || rest != nil {
		t.Errorf("errors %v, then %v with %d bytes", err, again, len(rest))
	}
	if _, _, _, err := d.Next(nil); err == nil {
		t.Error("no error for no bytes")
	}
}

// Everything that a client may frame comes out as it went in.
func TestDecoderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want result
		var stream []byte
		message := false
		for range rapid.IntRange(0, 12).Draw(t, "frames") {
			size := rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(120, 130), rapid.IntRange(65530, 65540)).Draw(t, "size")
			payload := make([]byte, size)
			for i := range payload {
				payload[i] = byte(i * 7)
			}
			switch kind := rapid.IntRange(0, 3).Draw(t, "kind"); kind {
			case 0:
				payload = payload[:min(size, 125)]
				stream = append(stream, frame(ping, payload)...)
				want.control(Ping, len(want.Data), payload)
			case 1:
				stream = append(stream, frame(pong, payload[:min(size, 125)])...)
			default:
				b0 := byte(OpBinary)
				if message {
					b0 = byte(OpContinuation)
				}
				if message = kind == 3; !message {
					b0 |= fin
				}
				stream = append(stream, frame(b0, payload)...)
				want.Data += string(payload)
			}
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		most := rapid.SampledFrom([]int{1, 3, 20, 1000, 100000}).Draw(t, "most")
		got := decode(new(Decoder), stream, func(left int) int { return min(left, 1+rng.IntN(most)) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestDecoderAllocates(t *testing.T) {
	stream := join(
		frame(bin, make([]byte, 300)), frame(byte(OpBinary), []byte("ab")), frame(ping, []byte("ping")),
		frame(cont, nil), frame(pong, nil), frame(ping, make([]byte, 125)))
	var d Decoder
	out, scratch := make([]byte, 0, 256), make([]byte, len(stream))
	for _, size := range []int{1, 7, 100, len(stream)} {
		allocs := testing.AllocsPerRun(100, func() {
			fresh := scratch[:copy(scratch, stream)]
			for len(fresh) > 0 {
				p := fresh[:min(size, len(fresh))]
				fresh = fresh[len(p):]
				for len(p) > 0 {
					var ev Event
					var data []byte
					var err error
					if ev, data, p, err = d.Next(p); err != nil {
						t.Fatal(err)
					}
					out = AppendAnswer(out[:0], ev, data)
				}
			}
		})
		if allocs != 0 {
			t.Errorf("pieces of %d bytes: %v allocations", size, allocs)
		}
	}
	if allocs := testing.AllocsPerRun(10, func() {
		var d Decoder
		f := [6]byte{text, 0x80}
		if _, _, _, err := d.Next(f[:]); err == nil {
			t.Fatal("no error")
		}
	}); allocs > 1 { // d itself may escape
		t.Errorf("a refusal: %v allocations", allocs)
	}
}

func TestMask(t *testing.T) {
	key := [4]byte{1, 2, 4, 0x80}
	for size := range 100 {
		for split := 0; split <= size; split++ {
			b := make([]byte, size)
			next := mask(b[:split], binary.LittleEndian.Uint32(key[:]))
			mask(b[split:], next)
			for i := range b {
				if b[i] != key[i%4] {
					t.Fatalf("%d bytes cut at %d: byte %d is %x", size, split, i, b[i])
				}
			}
		}
	}
}

// seeds are the streams and conversations of several kinds.
func seeds(f *testing.F) {
	for _, c := range streams {
		if len(c.stream) < 1000 {
			f.Add(c.stream, []byte{1, 0, 3}, false)
		}
	}
	f.Add([]byte{0x82, 0x05, 'H', 'e', 'l', 'l', 'o', 0x89, 0, 0x88, 2, 3, 0xe8}, []byte{2}, true)
	f.Add([]byte{0x82, 0x7e, 0x01, 0x00, 'H'}, []byte{3}, true)
}

// FuzzDecode compares every cut of every stream with the model.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, stream, cuts []byte, client bool) {
		i := 0
		next := func(left int) int {
			if len(cuts) == 0 {
				return left
			}
			i++
			return min(left, 1+int(cuts[i%len(cuts)]))
		}
		got := decode(&Decoder{client: client}, stream, next)
		if diff := cmp.Diff(naive(stream, client), got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, size := range []int{16, 128, 1024, 16384} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			one := frame(bin, make([]byte, size))
			stream := bytes.Repeat(one, max(1, 16384/len(one)))
			var d Decoder
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				// What is unmasked again is payload only.
				for p := stream; len(p) > 0; {
					_, _, p, _ = d.Next(p)
				}
			}
		})
	}
}
