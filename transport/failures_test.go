package transport

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

func noted(fs *Failures, addr string, c Cause) (omitted int, log bool) {
	_, omitted, log = fs.Note(&HandshakeError{Cause: c, Addr: addr, Alert: -1, Err: errors.New("x")})
	return omitted, log
}

// A peer is logged once a minute for each cause; what was not is counted.
func TestFailuresLimitLogging(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	fs := NewFailures(func() time.Time { return now })
	fs.lines = 1
	for i, tt := range []struct {
		after   time.Duration
		addr    string
		cause   Cause
		log     bool
		omitted int
	}{
		{0, "10.0.0.7:1000", CauseRejectsCA, true, 0},
		{0, "10.0.0.7:1001", CauseRejectsCA, false, 0},
		{0, "10.0.0.7:1002", CauseName, true, 1},
		{0, "10.0.0.8:1000", CauseRejectsCA, true, 0},
		{0, "[::ffff:10.0.0.8]:1000", CauseRejectsCA, false, 0},
		{0, "[2001:db8:1:2::1]:1000", CauseRejectsCA, true, 1},
		{0, "[2001:db8:1:2:3::1]:1000", CauseRejectsCA, false, 0},
		{0, "[2001:db8:1:3::1]:1000", CauseRejectsCA, true, 1},
		{59 * time.Second, "10.0.0.7:1000", CauseRejectsCA, false, 0},
		{time.Second, "10.0.0.7:1000", CauseRejectsCA, true, 1},
		{-time.Hour, "10.0.0.7:1000", CauseRejectsCA, true, 0}, // the clock was set back
	} {
		now = now.Add(tt.after)
		if omitted, log := noted(fs, tt.addr, tt.cause); log != tt.log || omitted != tt.omitted {
			t.Errorf("%d: log %v, omitted %d", i, log, omitted)
		}
	}
	if n := fs.Counts(); n[CauseRejectsCA] != 10 || n[CauseName] != 1 {
		t.Errorf("%v", n)
	}
}

// Who tries a few times is logged each time, and whoever is behind the same
// address with another certificate is another.
func TestFailuresLogAFewTimes(t *testing.T) {
	fs := NewFailures(func() time.Time { return time.Unix(1_700_000_000, 0) })
	ca := newTestCA(t)
	for _, id := range []string{"pump-1", "pump-2"} {
		e := &HandshakeError{Cause: CauseClientExpired, Addr: "10.0.0.7:1", Certificate: ca.issue(t, id, 0).Leaf, Alert: -1, Err: errors.New("x")}
		for i := range maxLines + 3 {
			if _, _, log := fs.Note(e); log != (i < maxLines) {
				t.Errorf("%s: attempt %d: log %v", id, i, log)
			}
		}
	}
}

// Many peers at once are logged at a bounded rate, and remembered in bounded room.
func TestFailuresBounded(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	fs := NewFailures(func() time.Time { return now })
	logged := 0
	for i := range 3 * maxTalkers {
		if i%1000 == 999 {
			now = now.Add(time.Second)
		}
		if _, log := noted(fs, fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), Cause(fmt.Sprint("policy ", i))); log {
			logged++
		}
	}
	seconds := 3*maxTalkers/1000 + 1
	if logged != seconds*maxPerSecond {
		t.Errorf("%d lines in %d seconds", logged, seconds)
	}
	for range 2 * maxTalkers {
		now = now.Add(time.Second)
		noted(fs, "10.0.0.1:1", Cause(fmt.Sprint("policy ", now.Unix())))
	}
	if len(fs.quiet) > maxTalkers || len(fs.order) > maxTalkers || len(fs.counts) > maxCauses+1 || len(fs.ring) != failuresKept {
		t.Errorf("%d talkers, %d in order, %d causes, %d kept", len(fs.quiet), len(fs.order), len(fs.counts), len(fs.ring))
	}
	if len(fs.quiet) != len(fs.order) {
		t.Errorf("%d talkers, %d in order", len(fs.quiet), len(fs.order))
	}
}

func TestFailuresRecent(t *testing.T) {
	fs := NewFailures(nil)
	if got := fs.Recent(10); len(got) != 0 {
		t.Errorf("%v", got)
	}
	for i := range failuresKept + 5 {
		fs.Note(&HandshakeError{Cause: CauseName, Received: i, Alert: -1, Err: errors.New("x")})
	}
	got := fs.Recent(failuresKept + 100)
	if len(got) != failuresKept {
		t.Fatalf("%d", len(got))
	}
	for i, f := range got {
		if f.Received != failuresKept+4-i {
			t.Fatalf("%d: %d", i, f.Received)
		}
	}
	if len(fs.Recent(3)) != 3 || len(fs.Recent(-1)) != 0 {
		t.Error("not as many as asked for")
	}
}

func TestFailuresShared(t *testing.T) {
	fs := NewFailures(nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				noted(fs, fmt.Sprintf("10.0.%d.%d:1", i, j), CauseName)
				fs.Recent(2)
				fs.Counts()
			}
		})
	}
	wg.Wait()
	if n := fs.Counts()[CauseName]; n != 1600 {
		t.Error(n)
	}
}

// Whatever a client says, a record is small, and text.
func TestRecordBounded(t *testing.T) {
	long := strings.Repeat("\xff\x00ü", 20_000)
	e := &HandshakeError{
		Cause: Cause(long), Addr: long, ServerName: long, Hint: long, Err: errors.New(long), Alert: -1,
		Versions: make([]uint16, 5000), Groups: make([]uint16, 5000), Ciphers: make([]uint16, 5000),
		ALPN: []string{long, long, long, long, long, long, long, long, long, long},
	}
	ca := newTestCA(t)
	e.Certificate = ca.issue(t, strings.Repeat("x", 30_000), 0).Leaf
	f := e.Record(time.Now())
	text, err := json.Marshal(f)
	if err != nil || !utf8.Valid(text) || len(text) > 24<<10 { // every byte escaped, at worst
		t.Errorf("%d bytes, %v", len(text), err)
	}
	for _, s := range []string{f.Error, f.ServerName, f.Peer, f.Fix, string(f.Cause), f.Certificate.Subject} {
		if len(s) > 3*maxText || !utf8.ValidString(s) {
			t.Errorf("%d bytes", len(s))
		}
	}
}

// What was offered and shown is in the record, by name.
func TestRecordTells(t *testing.T) {
	ca, other := newTestCA(t), newTestCA(t)
	d := newDoor(t, Config{Name: "door"}, ca)
	_, r := d.try(t, ca.clientFor(tls.VersionTLS13, &other.client))
	var he *HandshakeError
	if !errors.As(r.err, &he) {
		t.Fatal(r.err)
	}
	f := he.Record(time.Now())
	if f.Code != "E-TLS-024" || f.Via != ViaCheck || f.Listener != "door" || f.ServerName != "localhost" || f.What == "" || f.Fix == "" {
		t.Errorf("%+v", f)
	}
	c := f.Certificate
	if c == nil || c.Subject != "CN=pump-17" || c.Issuer != "CN=test CA" || c.Serial != other.client.Leaf.SerialNumber.Text(16) || len(c.SHA256) != 64 {
		t.Errorf("%+v", c)
	}
	if !strings.Contains(fmt.Sprint(f.Versions, f.Groups, f.Ciphers, f.ALPN), "X25519MLKEM768") ||
		!strings.Contains(fmt.Sprint(f.Ciphers), "TLS_AES_128_GCM_SHA256") || fmt.Sprint(f.ALPN) != "[mqtt]" {
		t.Errorf("%v %v %v %v", f.Versions, f.Groups, f.Ciphers, f.ALPN)
	}
	a := fmt.Sprint(f.Attrs()...)
	for _, want := range []string{"E-TLS-024", "client_certificate_ca", "CN=test CA", f.Certificate.SHA256, "hint"} {
		if !strings.Contains(a, want) {
			t.Errorf("%s does not say %s", a, want)
		}
	}
}

func BenchmarkNote(b *testing.B) {
	fs := NewFailures(nil)
	ca := newTestCA(b)
	e := &HandshakeError{
		Cause: CauseClientUnknownCA, Addr: "10.0.0.7:1000", ServerName: "broker", Alert: -1, Certificate: ca.client.Leaf,
		Versions: []uint16{tls.VersionTLS13, tls.VersionTLS12}, Ciphers: []uint16{0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0x9f, 0xcca9}, Groups: []uint16{29, 23, 24, 4588}, Err: errors.New("x"),
	}
	b.ReportAllocs()
	for b.Loop() {
		fs.Note(e)
	}
}

// What somebody else logs is kept and counted, and takes no line from the others.
func TestFailuresKeep(t *testing.T) {
	now := time.Unix(1000, 0)
	fs := NewFailures(func() time.Time { return now })
	e := &HandshakeError{Cause: CauseCredentials, Listener: "l", Addr: "192.0.2.1:1", Alert: -1}
	for range 2 * maxPerSecond {
		fs.Keep(e)
	}
	if n := fs.Counts()[CauseCredentials]; n != 2*maxPerSecond || len(fs.Recent(failuresKept)) != 2*maxPerSecond {
		t.Errorf("%d counted, %d kept", n, len(fs.Recent(failuresKept)))
	}
	if _, omitted, log := fs.Note(e); !log || omitted != 0 {
		t.Errorf("the first line after them: logged %v, %d omitted", log, omitted)
	}
}
