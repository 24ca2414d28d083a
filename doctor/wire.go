package doctor

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/transport"
)

// subject is the name of a CA in DER, in words.
func subject(raw []byte) string {
	var rdn pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &rdn); err != nil || len(rest) > 0 {
		return "an unreadable name"
	}
	var n pkix.Name
	n.FillFromRDNSequence(&rdn)
	if n.CommonName != "" {
		return n.CommonName
	}
	return n.String()
}

// recorder keeps the first bytes that come.
type recorder struct {
	net.Conn
	first []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	if k := min(n, 64-len(r.first)); k > 0 {
		r.first = append(r.first, p[:k]...)
	}
	return n, err
}

// CloseWrite half-closes the stream.
func (r *recorder) CloseWrite() error {
	if half, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// kind is what speaks at the other end.
type kind int

const (
	kindClosed kind = iota // it hangs up
	kindSilent
	kindOther
	kindTLS
	kindMQTT
	kindHTTP
	kindSSH
	kindMail // SMTP, FTP and others that greet so
)

func (k kind) String() string {
	return [...]string{"nothing", "silence", "something unknown", "TLS", "MQTT", "HTTP", "SSH", "a mail or FTP server"}[k]
}

// recognise tells what answers by its first bytes.
func recognise(b []byte) kind {
	switch {
	case len(b) == 0:
		return kindSilent
	case len(b) >= 2 && (b[0] == 21 || b[0] == 22) && b[1] == 3:
		return kindTLS
	case bytes.HasPrefix(b, []byte("HTTP/")), bytes.HasPrefix(b, []byte("<!")), bytes.HasPrefix(b, []byte("<html")):
		return kindHTTP
	case bytes.HasPrefix(b, []byte("SSH-")):
		return kindSSH
	case bytes.HasPrefix(b, []byte("220")), bytes.HasPrefix(b, []byte("* OK")), bytes.HasPrefix(b, []byte("+OK")):
		return kindMail
	case len(b) >= 4 && b[0] == byte(mqtt.CONNACK)<<4 && b[2] <= 1, len(b) >= 2 && b[0] == byte(mqtt.DISCONNECT)<<4 && b[1] < 128:
		return kindMQTT
	}
	return kindOther
}

// identify finds out what is at a port that does not speak what it should.
// first is what it said already.
func (e *exam) identify(first []byte) kind {
	if k := recognise(first); k != kindSilent {
		return k
	}
	connect := (&mqtt.Connect{Version: mqtt.V311, CleanStart: true, KeepAlive: 10}).Append(nil, mqtt.V311)
	k := e.provoke(connect)
	if k == kindClosed || k == kindSilent {
		if h := e.provoke(e.get()); h != kindClosed && h != kindSilent {
			return h
		}
	}
	return k
}

func (e *exam) get() []byte {
	return fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", e.hostHeader())
}

// provoke says something without TLS and tells what answers.
func (e *exam) provoke(say []byte) kind {
	conn, err := e.dial()
	if err != nil {
		if isTimeout(err) {
			return kindSilent
		}
		return kindClosed
	}
	defer conn.Close()
	conn.Write(say)
	return listen(conn)
}

// listen tells what answers, as soon as the bytes say so.
func listen(conn net.Conn) kind {
	b := make([]byte, 0, 64)
	for {
		n, err := conn.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		k := recognise(b)
		switch {
		case err != nil && len(b) == 0 && !isTimeout(err):
			return kindClosed
		case err != nil, k != kindOther && k != kindSilent, len(b) >= 8:
			return k
		}
	}
}

// judgeNotTLS says what it means that k answers at target where TLS should. name is the target as the URL has it.
func judgeNotTLS(k kind, target, name string, webSocket bool) Step {
	switch k {
	case kindMQTT:
		return fail(StepTLS, transport.CauseTLSOnPlain, "mqtt", "MQTT without TLS answers at "+target,
			"use the broker's TLS port (8883), or connect without TLS: mqtt://"+name)
	case kindHTTP:
		if webSocket {
			return fail(StepTLS, transport.CauseTLSOnPlain, "http", "HTTP without TLS answers at "+target, "use the TLS port (443), or connect without TLS: ws://"+name)
		}
		return fail(StepTLS, transport.CauseNotTLS, "http", "HTTP without TLS answers at "+target, "check the port: MQTT with TLS is 8883")
	case kindClosed:
		return fail(StepTLS, CauseHungUp, "tls", target+" hangs up on a TLS handshake without a word",
			"check the port; if it is right, look for a firewall or proxy in between, or into the broker's log: it may have banned this address or be full")
	case kindSilent:
		return fail(StepTLS, transport.CauseTimeout, "tls", target+" accepts the connection and then stays silent",
			"check that the port is the broker's; if it is, the broker is overloaded, or a proxy in between does not reach it")
	}
	return fail(StepTLS, transport.CauseNotTLS, "", fmt.Sprintf("not TLS but %v answers at %s", k, target), "check host and port: MQTT with TLS is 8883")
}

// judgeNotMQTT says what it means that k answers at target where MQTT in the clear should.
func judgeNotMQTT(k kind, target, name string) Step {
	switch k {
	case kindTLS:
		return fail(StepConnect, transport.CausePlainMQTT, "", target+" speaks TLS", "connect with mqtts://"+name)
	case kindHTTP:
		return fail(StepConnect, transport.CauseMQTTOnWebSocket, "", target+" speaks HTTP: it may be a listener for WebSocket", "connect with ws://"+name+"/mqtt, or to the MQTT port (1883)")
	case kindClosed:
		return fail(StepConnect, CauseHungUp, "connect", target+" hangs up on CONNECT without a word", "look into the broker's log")
	case kindSilent:
		return fail(StepConnect, transport.CauseTimeout, "connect", target+" does not answer CONNECT", "check that the port is the broker's")
	}
	return fail(StepConnect, CauseNoMQTT, "", fmt.Sprintf("not MQTT but %v answers at %s", k, target), "check host and port: MQTT is 1883, with TLS 8883")
}
