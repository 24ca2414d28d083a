package bench

import (
	"bytes"
	"testing"

	"github.com/sealmq/sealmq/mqtt"
)

// What a pattern writes is a packet as package mqtt reads it, and parseReceived finds in it what went in.
func TestPattern(t *testing.T) {
	for _, version := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		for qos := range uint8(3) {
			for _, size := range []int{minPayload, 64, 200, 20_000} {
				cfg := Config{Version: version, QoS: qos, Payload: size}
				if version == mqtt.V5 {
					cfg.UserProperties = []string{"unit", "kelvin", "site", "north"}
				}
				pat := newPattern(&cfg, "a/b")
				b := pat.append([]byte("before"), 0x1234, 1<<40, 7, 99)[6:]
				h, err := mqtt.ParseHeader(b)
				if err != nil || h.Size+h.Length != len(b) {
					t.Fatalf("v%d qos %d size %d: header %+v of %d bytes: %v", version, qos, size, h, len(b), err)
				}
				var p mqtt.Publish
				if err := p.Parse(version, h.Flags, b[h.Size:]); err != nil {
					t.Fatal(err)
				}
				if string(p.Topic) != "a/b" || p.QoS != qos || len(p.Payload) != size || len(p.Props.User) != len(cfg.UserProperties)/2 {
					t.Errorf("v%d: %+v", version, p)
				}
				if qos > 0 && p.PacketID != 0x1234 {
					t.Errorf("packet identifier %#x", p.PacketID)
				}
				m, ok := parseReceived(version, qos, b[h.Size:])
				if !ok || m.at != 1<<40 || m.publisher != 7 || m.number != 99 || (qos > 0) != bytes.Equal(m.id, []byte{0x12, 0x34}) {
					t.Errorf("v%d qos %d: received %+v %v", version, qos, m, ok)
				}
			}
		}
	}
}

func FuzzParseReceived(f *testing.F) {
	cfg := Config{Version: mqtt.V5, QoS: 1, Payload: 20}
	pat := newPattern(&cfg, "t")
	f.Add(uint8(5), uint8(1), pat.packet[2:])
	f.Add(uint8(4), uint8(0), []byte{0xFF, 0xFF})
	f.Add(uint8(5), uint8(0), []byte{0, 0, 0x80})
	f.Fuzz(func(t *testing.T, version, qos uint8, body []byte) {
		parseReceived(mqtt.Version(version), qos, body)
	})
}

func TestAck(t *testing.T) {
	for _, kind := range []mqtt.Type{mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP} {
		want := (&mqtt.Ack{Type: kind, PacketID: 0x0102}).Append(nil, mqtt.V5)
		if got := appendAck(nil, kind, []byte{1, 2}); !bytes.Equal(got, want) {
			t.Errorf("%v: % x, want % x", kind, got, want)
		}
	}
}

// No message costs an allocation.
func TestMessageAllocations(t *testing.T) {
	cfg := Config{Version: mqtt.V5, QoS: 1, Payload: 64}
	pat := newPattern(&cfg, "bench/x/p/1")
	buf := make([]byte, 0, 4096)
	r := recorder{to: &Histogram{}}
	n := testing.AllocsPerRun(100, func() {
		buf = pat.append(buf[:0], 1, 2, 3, 4)
		h, _ := mqtt.ParseHeader(buf)
		m, _ := parseReceived(mqtt.V5, 1, buf[h.Size:])
		r.add(m.at)
		buf = appendAck(buf[:0], mqtt.PUBACK, m.id)
	})
	if n != 0 {
		t.Errorf("%v allocations a message", n)
	}
}

func BenchmarkMessage(b *testing.B) {
	cfg := Config{Version: mqtt.V311, Payload: 64}
	pat := newPattern(&cfg, "bench/x/p/1")
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for i := range b.N {
		buf = pat.append(buf[:0], 1, int64(i), 3, 4)
		h, _ := mqtt.ParseHeader(buf)
		parseReceived(mqtt.V311, 0, buf[h.Size:])
	}
}
