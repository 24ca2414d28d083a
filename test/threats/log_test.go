package threats

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/mqtt"
)

// forged is what an attacker wants to find in the log as lines of their own.
const forged = "x\"} \r\n{\"level\":\"INFO\",\"msg\":\"forged\"}\nlevel=INFO msg=forged\x1b[31m\u202e\u2028end"

// Whatever strangers and clients call things, each line of the log is the
// broker's own, and says no more than it would about others.
func TestLogInjection(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		b := startBroker(t, strings.Replace(jsonLog, "json", format, 1)+mutualTLS+wss+plain)
		begin := b.mark()

		// Strangers.
		foreign := newHome(t, jsonLog+mutualTLS)
		if out, err := foreign.run(t, "init"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		evil := foreign.device(t, "x", func(c *x509.Certificate) {
			c.URIs, c.Subject.CommonName, c.Subject.Organization = nil, forged, []string{forged}
		})
		for _, cfg := range []*tls.Config{
			b.tls(t, evil),
			{InsecureSkipVerify: true, ServerName: forged},
			{InsecureSkipVerify: true, NextProtos: []string{forged}},
		} {
			from := b.mark()
			if nc, err := tls.Dial("tcp", b.address["tls"], cfg); err == nil {
				io.Copy(io.Discard, nc)
				nc.Close()
			}
			b.awaitLog(t, from, "tls handshake refused")
		}
		for to, text := range map[string]string{"tls": forged, "plain": "\x10\x0c" + forged} {
			nc, err := net.Dial("tcp", b.address[to])
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(nc, text)
			nc.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, nc)
			nc.Close()
		}
		who := b.device(t, "pump-1")
		ws, err := tls.Dial("tcp", b.address["wss"], b.tls(t, who))
		if err != nil {
			t.Fatal(err)
		}
		from := b.mark()
		fmt.Fprintf(ws, "GET /%s HTTP/1.1\r\nHost: x\r\nOrigin: https://%[1]s\r\nUpgrade: websocket\r\n\r\n", "a\x1b[31m\rforged\tb")
		io.Copy(io.Discard, ws)
		ws.Close()
		b.awaitLog(t, from, "websocket")

		// Clients.
		c := b.connect(t, "plain", nil, hello(forged))
		want(t, "publish", c.publish("$SYS/"+forged, 1, false, forged), denied)
		b.awaitLog(t, begin, "publish refused", "forged")
		want(t, "subscribe", c.subscribe("$SYS/"+forged, 1), denied)
		c.publish(forged, 1, true, forged)
		bad := mqtt.Disconnect{Code: mqtt.UnspecifiedError}
		bad.Props.ReasonString = []byte(forged)
		bad.Props.User = []mqtt.UserProperty{{Key: []byte(forged), Value: []byte(forged)}}
		bad.Props.Set(mqtt.PropReasonString)
		c.send(bad.Append(nil, mqtt.V5))
		c.ended()
		p := hello("user")
		p.HasUsername, p.HasPassword, p.Username, p.Password = true, true, []byte(forged), []byte("password-of-the-test")
		if code := b.refused(t, "plain", nil, p); code != mqtt.BadUserNameOrPassword && code != denied {
			t.Errorf("a password in the clear: %v", code)
		}
		b.refused(t, "tls", who, hello(forged))
		b.awaitLog(t, begin, "connection refused", "forged")
		p = hello("a")
		p.Props.AuthMethod = []byte(forged)
		p.Props.Set(mqtt.PropAuthMethod)
		b.refused(t, "plain", nil, p)

		// The longest names that there are.
		long := b.connect(t, "plain", nil, hello(strings.Repeat("l", 65_535)))
		long.publish("$SYS/"+strings.Repeat("t", 60_000), 1, false, "x")
		b.connect(t, "plain", nil, hello("last")).disconnect()
		b.awaitLog(t, begin, "last")
		b.stop(t)

		own := regexp.MustCompile(`^(time=\S+ level=(DEBUG|INFO|WARN) msg=|\{"time":"[^"]+","level":"(DEBUG|INFO|WARN)","msg":")`)
		for line := range strings.Lines(b.logged()) {
			line = strings.TrimSuffix(line, "\n")
			shown := line[:min(300, len(line))]
			if !own.MatchString(line) {
				t.Errorf("%s: a line that is not the broker's: %q", format, shown)
			}
			var l struct{ Msg string }
			if err := json.Unmarshal([]byte(line), &l); format == "json" && err != nil || l.Msg == "forged" {
				t.Errorf("%s: %v: %q", format, err, shown)
			}
			if strings.ContainsAny(line, "\x1b\r\x00\u2028") || format == "text" && strings.Contains(line, "\u202e") {
				t.Errorf("%s: bytes that a terminal obeys: %q", format, shown)
			}
			if strings.Contains(line, "password-of-the-test") {
				t.Errorf("%s: a password: %q", format, shown)
			}
			if len(line) > 4<<10 { // with the longest identifier and topic
				t.Errorf("%s: a line of %d bytes: %q", format, len(line), shown)
			}
		}
	}
}
