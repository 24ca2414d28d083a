package testkit

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(4)
		if n, err := a.TryWrite([]byte("123456")); n != 4 || err != nil {
			t.Fatal(n, err)
		}
		a.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := a.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(n, err)
		}
		a.SetWriteDeadline(time.Time{})
		go func() {
			a.Write([]byte("56789"))
			a.CloseWrite()
		}()
		got, err := io.ReadAll(b)
		if string(got) != "123456789" || err != nil {
			t.Fatalf("%q %v", got, err)
		}
		a.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		b.Close()
		if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		a.SetReadDeadline(time.Time{})
		if _, err := a.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
	})
}

func TestLinkKeepsABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(4)
		l := NewLink(a)
		writable := 0
		l.OnWritable = func() { writable++ }
		for range 100 {
			if err := l.Write([]byte("0123456789")); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if l.Backlog() != 996 {
			t.Fatal(l.Backlog())
		}
		buf := make([]byte, 1000)
		if _, err := io.ReadFull(b, buf); err != nil || !bytes.Equal(buf, bytes.Repeat([]byte("0123456789"), 100)) {
			t.Fatal(err)
		}
		synctest.Wait()
		if l.Backlog() != 0 || writable != 1 {
			t.Fatal(l.Backlog(), writable)
		}
		l.Write([]byte("bye!!!"))
		l.Close(true)
		rest, _ := io.ReadAll(b)
		if string(rest) != "bye!!!" {
			t.Fatalf("%q", rest)
		}
		b.Close()
		l.Wait()
	})
}

func TestEncode(t *testing.T) {
	for _, c := range []struct {
		v          int
		line, want string
	}{
		{0, `CONNECT v=4 id=a clean ka=60`, "10 0d 00 04 4d515454 04 02 003c 0001 61"},
		{0, `CONNECT v=3 id=a clean`, "10 0f 00 06 4d5149736470 03 02 0000 0001 61"},
		{0, `CONNECT v=5 id=a receive_maximum=5 will=w will_payload=x will_qos=1 will_delay=3`,
			"10 1d 00 04 4d515454 05 0c 0000 03 210005 0001 61 05 1800000003 0001 77 0001 78"},
		{5, `PUBLISH t/x q=1 id=7 payload="h i" user=k:v`, "32 12 0003 742f78 0007 07 26 0001 6b 0001 76 68 20 69"},
		{4, `PUBLISH repeat(ab,2)c`, "30 07 0005 6162616263"},
		{5, `SUBSCRIBE id=1 a q=2 nl rap rh=2 # q=1 sub_id=200`, "82 0e 0001 03 0bc801 0001 61 2e 0001 23 01"},
		{5, `PUBACK id=1`, "40 02 0001"},
		{5, `PUBACK id=1 code=0x87`, "40 03 0001 87"},
		{5, `DISCONNECT code=4 session_expiry=1`, "e0 07 04 05 11 00000001"},
		{5, `hex c0 00 "ab" str="c"  # a comment`, "c000 6162 0001 63"},
	} {
		args, err := words(c.line)
		if err != nil {
			t.Fatal(err)
		}
		e, err := encode(c.v, args)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		wargs, _ := words(c.want)
		want, err := hexBytes(wargs)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(e.bytes, want) {
			t.Errorf("%s:\n have % x\n want % x", c.line, e.bytes, want)
		}
	}
}

func TestDecodeRefusesWhatTheStandardForbids(t *testing.T) {
	for _, c := range []struct {
		v         int
		hex, want string
	}{
		{4, "20 02 02 00", "flags"},
		{4, "20 02 00 87", "return code"},
		{5, "20 03 00 87 00", ""},
		{5, "20 03 00 01 00", "not allowed in CONNACK"},
		{4, "38 03 0001 61", "QoS 0 and DUP"},
		{4, "36 05 0001 61 0001", "QoS 3"},
		{4, "32 05 0001 61 0000", "identifier 0"},
		{4, "30 03 0001 23", "MQTT-3.3.2-2"},
		{5, "30 06 0001 61 02 0102", ""},
		{5, "30 06 0001 61 02 1702", "not allowed"},
		{4, "90 03 0001 87", "SUBACK return code"},
		{4, "b0 03 0001 00", "payload"},
		{4, "40 03 0001 00", "too many"},
		{4, "e0 00", "DISCONNECT to a client"},
		{5, "e0 80 00", "not minimal"},
		{5, "c0 00", "must not send"},
		{4, "62 02 0001", ""},
		{4, "60 02 0001", "flags"},
	} {
		wargs, _ := words(c.hex)
		b, _ := hexBytes(wargs)
		_, _, err := decode(c.v, b)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", c.hex, err, c.want)
		}
		for i := range b[:len(b)-1] {
			if _, _, err := decode(c.v, b[:i]); i > 0 && err == nil {
				t.Errorf("%s cut to %d bytes was read", c.hex, i)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x20\x03\x00\x00\x00"))
	f.Add([]byte("\x30\x06\x00\x01a\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for v := 4; v <= 5; v++ {
			rest := b
			for len(rest) > 0 {
				p, r, err := decode(v, rest)
				if err != nil || p == nil {
					break
				}
				rest = r
			}
		}
	})
}

func TestMatch(t *testing.T) {
	p := &Packet{Kind: "PUBLISH", Size: 9, Fields: Fields{"topic": {"a/b"}, "q": {"1"}, "dup": {"0"}, "id": {"7"}, "user": {"a:1", "b:2"}, "payload": {""}, "sub_id": {"3", "1"}}}
	vars := map[string]string{}
	for line, ok := range map[string]bool{
		`PUBLISH a/b q=1 !dup !retain id=*`:   true,
		`PUBLISH`:                             true,
		`PUBLISH a/c`:                         false,
		`PUBLISH user=a:1 user=b:2`:           true,
		`PUBLISH user=b:2 user=a:1`:           false,
		`PUBLISH sub_id=1 sub_id=3`:           true,
		`PUBLISH sub_id=1`:                    false,
		`PUBLISH id=$1`:                       true,
		`PUBLISH dup`:                         false,
		`PUBLISH !user`:                       false,
		`PUBLISH message_expiry=*`:            false,
		`PUBLISH size=9 q=0..1 topic=a* id=7`: true,
		`PUBACK`:                              false,
		`PUBLISH what=1`:                      false,
	} {
		args, err := words(line)
		if err != nil {
			t.Fatal(err)
		}
		if why := match(p, args, vars); (why == "") != ok {
			t.Errorf("%s: %q", line, why)
		}
	}
	if vars["$1"] != "7" {
		t.Error(vars)
	}
}

func TestParseScript(t *testing.T) {
	cs, err := ParseScript("x.txt", "== one, two\n# clauses: MQTT5 [MQTT-1.2.3-4] BAD [7]\n# versions: 4 5\nfor 2\na> PUBLISH t/${i} v=${v}\nend\n== three\nsleep 1s\n")
	if err != nil || len(cs) != 2 || cs[0].Name != "one-two" || len(cs[0].Clauses) != 2 {
		t.Fatal(cs, err)
	}
	l, err := cs[0].unroll("5")
	if err != nil || len(l) != 2 || l[1].text != "a> PUBLISH t/2 v=5" {
		t.Fatal(l, err)
	}
}

func TestCA(t *testing.T) {
	ca := NewCA(t)
	c := ca.Client("pump-17", "urn:mqtts:default:device:pump-17")
	if c.Leaf.Subject.CommonName != "pump-17" || len(c.Leaf.URIs) != 1 {
		t.Error(c.Leaf.Subject, c.Leaf.URIs)
	}
	s := ca.Server("localhost", "127.0.0.1")
	if err := s.Leaf.VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}
}

// canned answers every packet with the next of its answers, then hangs up.
type canned struct{ answers [][]byte }

func (canned) Start([]Option) error           { return nil }
func (canned) Command(string, []Option) error { return nil }
func (canned) Stop()                          {}
func (c canned) Serve(end *End, _ string, _ []Option) {
	buf := make([]byte, 4096)
	for _, a := range c.answers {
		if _, err := end.Read(buf); err != nil {
			return
		}
		end.Write(a)
	}
	end.Close()
}

// TestRunnerFindsFaults holds conversations with servers that do wrong.
func TestRunnerFindsFaults(t *testing.T) {
	const connack, pingresp = "\x20\x03\x00\x00\x00", "\xd0\x00"
	for _, c := range []struct {
		name    string
		answers []string
		script  string
		want    string // in the error of the last line, or of the end
	}{
		{"right", []string{connack, pingresp, ""}, "a> CONNECT id=a\na< CONNACK code=0\na> PINGREQ\na< PINGRESP\na> PINGREQ\na< EOF", ""},
		{"nothing came", []string{connack, "", ""}, "a> CONNECT id=a\na< CONNACK\na> PINGREQ\na< PINGRESP", "received nothing"},
		{"another packet", []string{connack, pingresp, ""}, "a> CONNECT id=a\na< CONNACK\na> PINGREQ\na< PUBACK id=1", "no PUBACK"},
		{"another value", []string{connack, ""}, "a> CONNECT id=a\na< CONNACK code=0x87", "code=\"0\", want \"0x87\""},
		{"not silent", []string{connack, pingresp, ""}, "a> CONNECT id=a\na< CONNACK\na> PINGREQ\na< -", "PINGRESP"},
		{"left over", []string{connack, pingresp, ""}, "a> CONNECT id=a\na< CONNACK\na> PINGREQ", "PINGRESP"},
		{"closed", []string{connack}, "a> CONNECT id=a\na< CONNACK", "closed by the server"},
		{"closed when silence was expected", []string{connack}, "a> CONNECT id=a\na< CONNACK\na< -", "closed by the server"},
		{"not closed", []string{connack, ""}, "a> CONNECT id=a\na< CONNACK\na< EOF", "not closed"},
		{"two connacks", []string{connack + connack, ""}, "a> CONNECT id=a\na< CONNACK\na< CONNACK", "second CONNACK"},
		{"before connack", []string{pingresp, ""}, "a> CONNECT id=a\na< PINGRESP", "before CONNACK"},
		{"malformed", []string{connack, "\xd1\x00", ""}, "a> CONNECT id=a\na< CONNACK\na> PINGREQ\na< PINGRESP", "flags"},
		{"too large", []string{connack, "\x30\x09\x00\x01t\x0012345", ""}, "a> CONNECT id=a maximum_packet_size=10\na< CONNACK\na> PINGREQ\na< PUBLISH t", "maximum packet size"},
		{"id in use", []string{connack, "\x32\x06\x00\x01t\x00\x01\x00\x32\x06\x00\x01t\x00\x01\x00", ""}, "a> CONNECT id=a\na< CONNACK\na> PINGREQ\na< PUBLISH\na< PUBLISH", "in use"},
		{"receive maximum", []string{connack, "\x32\x06\x00\x01t\x00\x01\x00\x32\x06\x00\x01t\x00\x02\x00", ""}, "a> CONNECT id=a receive_maximum=1\na< CONNACK\na> PINGREQ\na< PUBLISH\na< PUBLISH", "receive maximum"},
		{"alias", []string{connack, "\x30\x07\x00\x01t\x03\x23\x00\x01", ""}, "a> CONNECT id=a\na< CONNACK\na> PINGREQ\na< PUBLISH t", "alias"},
		{"after disconnect", []string{connack, "\xe0\x00" + pingresp, ""}, "a> CONNECT id=a\na< CONNACK\na> PINGREQ\na< DISCONNECT\na< PINGRESP", "after DISCONNECT"},
		{"after refusal", []string{"\x20\x03\x00\x87\x00" + pingresp, ""}, "a> CONNECT id=a\na< CONNACK code=0x87\na< PINGRESP", "after a refusal"},
		{"reason unasked", []string{connack, "\x40\x08\x00\x01\x00\x04\x1f\x00\x01x", ""}, "a> CONNECT id=a request_problem_info=0\na< CONNACK\na> PINGREQ\na< PUBACK", "Problem Information"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b canned
				for _, a := range c.answers {
					b.answers = append(b.answers, []byte(a))
				}
				r := &run{t: t, backend: b, clients: map[string]*client{}, vars: map[string]string{}}
				var err error
				for l := range strings.SplitSeq(c.script, "\n") {
					if err = r.step(l); err != nil {
						break
					}
				}
				synctest.Wait()
				for _, cl := range r.clients {
					if err == nil {
						err = cl.leftover()
					}
					cl.end.Close()
					cl.readers.Wait()
				}
				r.serving.Wait()
				if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("error %v, want %q", err, c.want)
				}
			})
		})
	}
}
