package tlsmatrix

import (
	"crypto/fips140"
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/sealmq/sealmq/transport"
)

// What is no TLS at all, or no more than its beginning.
func TestNoTLS(t *testing.T) {
	k := newKit(t)
	mosquittoIs := stacks()[2]
	for _, tt := range []struct {
		name string
		send string // empty: mosquitto, in the clear
		want transport.Cause
		via  transport.Via
	}{
		{"mosquitto in the clear", "", transport.CausePlainMQTT, transport.ViaCheck},
		{"MQTT", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", transport.CausePlainMQTT, transport.ViaCheck},
		{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", transport.CauseHTTP, transport.ViaCheck},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", transport.CauseNotTLS, transport.ViaCheck},
		{"half a ClientHello", "\x16\x03\x01\x01\x00\x01\x00", transport.CauseTimeout, transport.ViaSilence},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := open(t, transport.Config{ClientCertificates: transport.None, HandshakeTimeout: time.Second}, k.good)
			if tt.send == "" {
				if why := mosquittoIs.missing(); why != "" {
					t.Skip("skipped: " + why)
				}
				program(t, attempt{}, "mosquitto_pub", "-h", host, "-p", strconv.Itoa(d.port), "-t", "x", "-m", "y")
			} else {
				c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.port))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				io.WriteString(c, tt.send)
				io.Copy(io.Discard, c)
			}
			o, _ := d.outcome(t)
			he, _ := o.failure()
			if he == nil || he.Cause != tt.want || he.Via != tt.via {
				t.Errorf("%v, want %s", o.err, tt.want)
			}
		})
	}
}

// In FIPS mode BearSSL cannot connect, and the broker knows why; who speaks TLS
// 1.3, or TLS 1.2 with extended master secret, can.
func TestFIPS(t *testing.T) {
	if !fips140.Enabled() {
		fipsChild(t)
		return
	}
	k := newKit(t)
	for _, s := range stacks() {
		t.Run(s.name, func(t *testing.T) {
			if why := s.missing(); why != "" {
				t.Skip("skipped: " + why)
			}
			d := open(t, transport.Config{ClientCertificates: transport.Required}, k.good)
			a := attempt{port: d.port, name: host, ca: k.ca, ident: &k.device}
			out, _ := s.run(t, a)
			o, came := d.outcome(t)
			he, plain := o.failure()
			if s.name == "BearSSL" {
				if he == nil || he.Cause != transport.CauseFIPS {
					t.Errorf("%v, want %s\n%s", o.err, transport.CauseFIPS, out)
				}
			} else if !came || he != nil || plain != nil {
				t.Errorf("%v\n%s", o.err, out)
			}
		})
	}
}
