package disk

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/store"
)

// samples are values of every kind.
func samples() map[byte][]byte {
	from := store.Publisher{ClientID: "client", Owner: math.MaxUint64}
	m := store.NewMessage("a/b", []byte("payload"), []byte{1, 2, 3})
	m.Expires, m.Seq, m.From, m.QoS, m.Retain = -5, math.MaxUint64, &from, 2, true
	p := &store.Placement{Bytes: math.MaxUint64, SubIDs: []uint32{1, 268435455}, Share: "$share/g/#", QoS: 1, Retain: true}
	return map[byte][]byte{
		kindSession: appendSession(nil, &store.Session{ClientID: "c", Name: "n", Method: "m", Kind: "k", Bound: true, Online: true, Expiry: math.MaxUint32,
			Sent: math.MaxUint64, WillAt: -1, ExpireAt: math.MaxInt64}),
		kindWill: appendWill(nil, &store.Will{Topic: []byte("w"), Payload: []byte("gone"), Props: []byte{9}, Expiry: math.MaxUint32,
			HasExpiry: true, Delay: math.MaxUint32, QoS: 2, Retain: true}),
		kindFilter:   appendSubscription(nil, &store.Subscription{QoS: 2, NoLocal: true, RetainAsPublished: true, Replay: true, ID: math.MaxUint32}),
		kindMessage:  appendMessage([]byte{layout}, m),
		kindQueue:    appendEntry(nil, p, m, 0),
		kindRecorded: appendEntry(nil, p, m, math.MaxUint64), // stands for an entry whose message is elsewhere
		kindMeta:     appendApplied(nil, applied{math.MaxUint64, math.MinInt64, math.MaxInt64}),
	}
}

// recode decodes a value and encodes what came out.
func recode(kind byte, v []byte) ([]byte, error) {
	switch kind {
	case kindSession:
		s, err := decodeSession(1, v)
		return appendSession(nil, s), err
	case kindWill:
		w, err := decodeWill(v)
		return appendWill(nil, w), err
	case kindFilter:
		s, err := decodeSubscription(nil, v)
		return appendSubscription(nil, &s), err
	case kindMessage, kindRetained:
		m, err := decodeMessage(v, nil)
		if err != nil {
			return nil, err
		}
		return appendMessage([]byte{layout}, m), nil
	case kindMeta:
		a, err := decodeApplied(v)
		return appendApplied(nil, a), err
	}
	e, err := decodeEntry(v, true)
	if err != nil {
		return nil, err
	}
	m := e.q.Message
	if m == nil {
		m = &store.Message{}
	}
	b := appendEntry(nil, &store.Placement{Bytes: e.q.Bytes, SubIDs: e.q.SubIDs, Share: e.q.Share, QoS: e.q.QoS, Retain: e.q.Retain}, m, e.number)
	if e.number != 0 || uint64(m.Size()) != e.size {
		return nil, nil // the size is not part of what is decoded
	}
	return b, nil
}

func TestCodec(t *testing.T) {
	for kind, v := range samples() {
		got, err := recode(kind, v)
		if err != nil || got != nil && !bytes.Equal(got, v) {
			t.Errorf("%s: %x became %x, %v", kindName(kind), v, got, err)
		}
		for i := range v {
			// The payload of a message ends where the value does.
			if _, err := recode(kind, v[:i]); err == nil && !(kind == kindMessage || kind == kindQueue) || err != nil && !errors.Is(err, errDamaged) {
				t.Errorf("%s cut after %d bytes: %v", kindName(kind), i, err)
			}
		}
		if _, err := recode(kind, append(bytes.Clone(v), 0)); err == nil && kind != kindMessage && kind != kindQueue {
			t.Errorf("%s with a byte more is taken", kindName(kind))
		}
		v[0]++
		if _, err := recode(kind, v); !errors.Is(err, errDamaged) {
			t.Errorf("%s of another layout: %v", kindName(kind), err)
		}
	}
}

// TestKeys: keys sort as sessions and positions do, and the end of a session is before the next.
func TestKeys(t *testing.T) {
	ids := []store.SessionID{0, 1, 255, 256, 1 << 40, math.MaxUint64 - 1, math.MaxUint64}
	var before []byte
	for _, id := range ids {
		for _, pos := range []uint64{0, 1, 255, 256, math.MaxUint64} {
			key := appendPos(nil, kindQueue, id, pos)
			if bytes.Compare(before, key) >= 0 {
				t.Errorf("session %d, position %d: %x is not after %x", id, pos, key, before)
			}
			if end := appendEnd(nil, kindQueue, id); bytes.Compare(key, end) >= 0 {
				t.Errorf("session %d, position %d is not before the end of the session, %x", id, pos, end)
			}
			gotID, gotPos, ok := keyPos(key)
			if !ok || gotID != id || gotPos != pos {
				t.Errorf("%x is session %d, position %d, %v", key, gotID, gotPos, ok)
			}
			before = key
		}
		before = appendEnd(nil, kindQueue, id)[:0]
		before = append(before, appendPos(nil, kindQueue, id, math.MaxUint64)...)
	}
	for n := range 17 {
		if _, _, ok := keyPos(make([]byte, n)); ok {
			t.Errorf("a key of %d bytes has a position", n)
		}
	}
}

// FuzzDecode: no value makes a decoder panic, and what is taken is the same after another round.
func FuzzDecode(f *testing.F) {
	for kind, v := range samples() {
		f.Add(kind, v)
	}
	f.Fuzz(func(t *testing.T, kind byte, v []byte) {
		a, err := recode(kind, v)
		if err != nil || a == nil {
			if err != nil && !errors.Is(err, errDamaged) {
				t.Fatal(err)
			}
			return
		}
		b, err := recode(kind, a)
		if err != nil {
			t.Fatalf("%x became %x: %v", v, a, err)
		}
		if d := cmp.Diff(a, b); d != "" {
			t.Fatal(d)
		}
	})
}
