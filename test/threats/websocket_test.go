package threats

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// upgrade asks for WebSocket with these lines of header besides what has to be
// there, and returns the answer.
func (b *broker) upgrade(t *testing.T, who identity, lines ...string) (*http.Response, *tls.Conn, *bufio.Reader) {
	t.Helper()
	nc, err := tls.Dial("tcp", b.address["wss"], b.tls(t, who))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(*patience))
	fmt.Fprintf(nc, "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n%s\r\n", strings.Join(lines, ""))
	in := bufio.NewReader(nc)
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return answer, nc, in
}

// frame is a client's WebSocket frame under the mask 0, which changes nothing.
func frame(first byte, payload []byte) []byte {
	return append([]byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
}

// Another page in the browser of somebody who has a certificate does not get a
// connection with it.
func TestForeignOrigin(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+wss)
	who := b.device(t, "pump-1")
	for origin, status := range map[string]int{
		"":                                   101, // no web page
		"https://localhost":                  101,
		"https://localhost:8443":             101,
		"https://evil.example":               403,
		"http://localhost.evil.example":      403,
		"https://evil.example/localhost":     403,
		"https://localhost@evil.example":     403,
		"null":                               403,
		"https://127.0.0.1.evil.example:443": 403,
	} {
		line := "Origin: " + origin + "\r\n"
		if origin == "" {
			line = ""
		}
		if answer, _, _ := b.upgrade(t, who, line); answer.StatusCode != status {
			t.Errorf("from %q: %s, want %d", origin, answer.Status, status)
		}
	}
	b.awaitLog(t, 0, `"cause":"websocket_origin"`)
}

// What unpacks to a thousand times its size is never unpacked: compression is not
// agreed upon, and a frame that claims it ends the connection.
func TestCompression(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+wss)
	who := b.device(t, "pump-1")
	answer, nc, in := b.upgrade(t, who, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n")
	if got := answer.Header.Get("Sec-WebSocket-Extensions"); answer.StatusCode != 101 || got != "" {
		t.Errorf("%s with extensions %q, want none", answer.Status, got)
	}
	nc.Write(frame(0x82, hello("pump-1").Append(nil, mqtt.V5)))
	first := make([]byte, 3)
	if _, err := io.ReadFull(in, first); err != nil || first[0] != 0x82 || first[2] != 0x20 {
		t.Errorf("without compression: % x, %v, want a CONNACK", first, err)
	}
	nc.Write(frame(0xc2, []byte{0x30, 0})) // RSV1
	rest, err := io.ReadAll(in)
	if err != nil && !strings.Contains(err.Error(), "closed") || !strings.Contains(string(rest), "\x88") {
		t.Errorf("after a compressed frame: % x, %v, want a close frame", rest, err)
	}
	if answer, _, _ := b.upgrade(t, who, "Accept-Encoding: gzip\r\nContent-Encoding: gzip\r\n"); answer.Header.Get("Content-Encoding") != "" {
		t.Error("the answer is compressed")
	}
}
