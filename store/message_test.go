package store

import (
	"bytes"
	"testing"
)

// A message owns its bytes, whatever their length, and a short one is a single allocation.
func TestNewMessage(t *testing.T) {
	for n := range 600 {
		payload, props := bytes.Repeat([]byte{1}, n), bytes.Repeat([]byte{2}, n%7)
		m := NewMessage("t", payload, props)
		clear(payload)
		if !bytes.Equal(m.Payload, bytes.Repeat([]byte{1}, n)) || len(m.Props) != n%7 || bytes.Count(m.Props, []byte{2}) != n%7 {
			t.Fatalf("%d bytes: %v %v", n, m.Payload, m.Props)
		}
		if cap(m.Payload) != len(m.Payload) {
			t.Fatalf("%d bytes: appending to the payload would write into the properties", n)
		}
		if want := int64(1 + n + n%7 + messageOverhead); m.Size() != want {
			t.Fatalf("size %d, want %d", m.Size(), want)
		}
	}
	var m *Message
	if got := testing.AllocsPerRun(100, func() { m = NewMessage("t", make([]byte, 64), nil) }); got > 2 {
		t.Errorf("%v allocations", got)
	}
	_ = m
}
