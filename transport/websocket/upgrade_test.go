package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// answered is a peer: it sends Reader, and keeps what comes.
type answered struct {
	io.Reader
	bytes.Buffer
}

func (a *answered) Read(p []byte) (int, error) { return a.Reader.Read(p) }

// request is that of RFC 6455, 1.2, for MQTT; edits are old, new pairs.
func request(edits ...string) string {
	r := "GET /mqtt HTTP/1.1\r\n" +
		"Host: server.example.com\r\n" +
		"Upgrade: websocket\r\n" +
		"Connection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		"Origin: http://server.example.com\r\n" +
		"Sec-WebSocket-Protocol: mqtt\r\n" +
		"Sec-WebSocket-Version: 13\r\n\r\n"
	return strings.NewReplacer(edits...).Replace(r)
}

func response(t *testing.T, b []byte) *http.Response {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		t.Fatalf("%v: answer %q", err, b)
	}
	return r
}

func TestUpgrade(t *testing.T) {
	other := "Origin: http://server.example.com"
	for _, c := range []struct {
		name     string
		request  string
		options  Options
		protocol string
	}{
		{"the standard's example", request(), Options{}, "mqtt"},
		{"root", request("/mqtt", "/"), Options{}, "mqtt"},
		{"query", request("/mqtt", "/mqtt?token=x"), Options{}, "mqtt"},
		{"other path", request("/mqtt", "/ws"), Options{Paths: []string{"/ws"}}, "mqtt"},
		{"any path", request("/mqtt", "/any/where"), Options{Paths: []string{"*"}}, "mqtt"},
		{"mqtt preferred", request("l: mqtt", "l: mqttv3.1, mqtt"), Options{}, "mqtt"},
		{"mqtt preferred in two fields", request("l: mqtt", "l: mqttv3.1\r\nSec-WebSocket-Protocol: chat, mqtt"), Options{}, "mqtt"},
		{"MQTT 3.1", request("l: mqtt", "l: chat, mqttv3.1"), Options{}, "mqttv3.1"},
		{"no page", request(other, "User-Agent: x"), Options{}, "mqtt"},
		{"no page, pages listed", request(other, "User-Agent: x"), Options{Origins: []string{"https://a"}}, "mqtt"},
		{"page on another port", request(other, "Origin: https://SERVER.example.com:8443"), Options{}, "mqtt"},
		{"page and host with ports", request(other, "Origin: http://[::1]:1", "Host: server.example.com", "Host: [::1]:9001"), Options{}, "mqtt"},
		{"page listed", request(other, "Origin: https://app.example"), Options{Origins: []string{"https://App.example"}}, "mqtt"},
		{"any page", request(other, "Origin: null"), Options{Origins: []string{"*"}}, "mqtt"},
		{"null listed", request(other, "Origin: null"), Options{Origins: []string{"null"}}, "mqtt"},
		{"deflate offered", request(other, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), Options{}, "mqtt"},
		{"browser", request("Connection: Upgrade", "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Upgrade: WebSocket"), Options{}, "mqtt"},
		{"without carriage returns", strings.ReplaceAll(request(), "\r", ""), Options{}, "mqtt"},
		{"long", request(other, "Cookie: "+strings.Repeat("x", MaxHead-len(request())+len(other)-len("Cookie: "))), Options{}, "mqtt"},
	} {
		for _, leftover := range []string{"", "\x82\x80"} {
			for way, read := range map[string]func(io.Reader) io.Reader{"": func(r io.Reader) io.Reader { return r }, " bytewise": iotest.OneByteReader, " with the end": iotest.DataErrReader} {
				t.Run(c.name+way, func(t *testing.T) {
					peer := &answered{Reader: read(strings.NewReader(c.request + leftover))}
					got, err := Upgrade(peer, c.options)
					if err != nil {
						t.Fatal(err)
					}
					rest, _ := io.ReadAll(peer)
					if string(got)+string(rest) != leftover {
						t.Errorf("leftover %q", got)
					}
					r := response(t, peer.Bytes())
					h := r.Header
					if r.StatusCode != 101 || h.Get("Upgrade") != "websocket" || h.Get("Connection") != "Upgrade" ||
						h.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || h.Get("Sec-WebSocket-Extensions") != "" {
						t.Errorf("answer %q", peer.Bytes())
					}
					if p := h.Values("Sec-WebSocket-Protocol"); len(p) != 1 || p[0] != c.protocol {
						t.Errorf("protocol %q", p)
					}
					if !bytes.HasSuffix(peer.Bytes(), []byte("\r\n\r\n")) || bytes.Count(peer.Bytes(), []byte("\r\n\r\n")) != 1 {
						t.Errorf("answer %q", peer.Bytes())
					}
				})
			}
		}
	}
}

func TestUpgradeRefusals(t *testing.T) {
	origin := "Origin: http://server.example.com"
	for _, c := range []struct {
		name    string
		request string
		options Options
		cause   Cause
		status  int
		text    string
	}{
		{"browser", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", Options{}, CauseNotUpgrade, 426, "does not ask for an upgrade"},
		{"browser's icon", "GET /favicon.ico HTTP/1.1\r\nHost: x\r\n\r\n", Options{}, CausePath, 404, `"/favicon.ico"`},
		{"post", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", Options{}, CauseNotUpgrade, 405, "GET"},
		{"head", "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", Options{}, CauseNotUpgrade, 405, "GET"},
		{"old HTTP", "GET / HTTP/1.0\r\n\r\n", Options{}, CauseMalformed, 505, "HTTP/1.1"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Options{}, CauseMalformed, 505, "HTTP/1.1"},
		{"words", "hello there\r\n\r\n", Options{}, CauseMalformed, 400, "malformed"},
		{"field without colon", request("Host: ", "Host "), Options{}, CauseMalformed, 400, "malformed"},
		{"no host", request("Host: server.example.com\r\n", ""), Options{}, CauseMalformed, 400, "no Host"},
		{"two hosts", request("Origin", "Host: b\r\nOrigin"), Options{}, CauseMalformed, 400, "two Host"},
		{"two origins", request(origin, origin+"\r\n"+origin), Options{}, CauseMalformed, 400, "two Origin"},
		{"body", request(origin, "Content-Length: 5"), Options{}, CauseMalformed, 400, "body"},
		{"chunked body", request(origin, "Transfer-Encoding: chunked"), Options{}, CauseMalformed, 400, "body"},
		{"other upgrade", request("Upgrade: websocket", "Upgrade: h2c"), Options{}, CauseNotUpgrade, 426, "websocket"},
		{"not upgraded", request("Connection: Upgrade", "Connection: close"), Options{}, CauseNotUpgrade, 426, "websocket"},
		{"no key", request("Sec-WebSocket-Key", "Key"), Options{}, CauseMalformed, 400, "Key"},
		{"short key", request("dGhlIHNhbXBsZSBub25jZQ==", "abc"), Options{}, CauseMalformed, 400, "Key"},
		{"version 8", request("Version: 13", "Version: 8"), Options{}, CauseVersion, 426, "13"},
		{"no version", request("Sec-WebSocket-Version: 13\r\n", ""), Options{}, CauseVersion, 426, "Version"},
		{"path", request("/mqtt", "/other"), Options{}, CausePath, 404, `"/other"`},
		{"path below", request("/mqtt", "/mqtt/x"), Options{}, CausePath, 404, `"/mqtt/x"`},
		{"path not listed", request(), Options{Paths: []string{"/ws"}}, CausePath, 404, `"/mqtt"`},
		{"secret query", request("/mqtt", "/other?token=secret"), Options{}, CausePath, 404, `"/other"`},
		{"foreign page", request(origin, "Origin: https://evil.example"), Options{}, CauseOrigin, 403, "https://evil.example"},
		{"page below", request(origin, "Origin: https://x.server.example.com"), Options{}, CauseOrigin, 403, "x.server"},
		{"page of a like name", request(origin, "Origin: https://server.example.com.evil.example"), Options{}, CauseOrigin, 403, "evil"},
		{"page of a user's name", request(origin, "Origin: https://server.example.com@evil.example"), Options{}, CauseOrigin, 403, "evil"},
		{"page without a place", request(origin, "Origin: null"), Options{}, CauseOrigin, 403, "null"},
		{"page without a name", request(origin, "Origin:"), Options{}, CauseOrigin, 403, `""`},
		{"page and host without a name", request(origin, "Origin: file://", "Host: server.example.com", "Host:"), Options{}, CauseOrigin, 403, "file"},
		{"page not listed", request(), Options{Origins: []string{"https://app.example"}}, CauseOrigin, 403, "server.example.com"},
		{"page with another scheme", request(origin, "Origin: http://app.example"), Options{Origins: []string{"https://app.example"}}, CauseOrigin, 403, "app"},
		{"page with a line's end", request(origin, "Origin: http://a\rb"), Options{}, CauseOrigin, 403, `\r`},
		{"no sub-protocol", request("Sec-WebSocket-Protocol: mqtt\r\n", ""), Options{}, CauseSubprotocol, 400, "mqtt"},
		{"other sub-protocol", request("l: mqtt", "l: chat, MQTT"), Options{}, CauseSubprotocol, 400, "mqtt"},
		{"malformed sub-protocol", request("l: mqtt", "l: ,;"), Options{}, CauseMalformed, 400, ""},
		{"long line", "GET /" + strings.Repeat("x", 2*MaxHead), Options{}, CauseTooLong, 431, "8192"},
		{"many fields", "GET / HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", MaxHead), Options{}, CauseTooLong, 431, "8192"},
		{"plain MQTT", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", Options{}, CauseMQTT, 0, "plain MQTT"},
		{"TLS", "\x16\x03\x01\x02\x00", Options{}, CauseTLS, 0, "TLS"},
		{"noise", "\x00\x00", Options{}, CauseNotHTTP, 0, "0x00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			peer := &answered{Reader: strings.NewReader(c.request)}
			leftover, err := Upgrade(peer, c.options)
			var e *UpgradeError
			if !errors.As(err, &e) {
				t.Fatalf("error %v", err)
			}
			if e.Cause != c.cause || e.Status != c.status || !strings.Contains(e.Text, c.text) || leftover != nil {
				t.Errorf("%+v, leftover %q", e, leftover)
			}
			if strings.ContainsAny(err.Error(), "\r\n") || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %q is not fit for a log", err)
			}
			if e.Status == 0 {
				if peer.Len() > 0 {
					t.Errorf("answer %q", peer.Bytes())
				}
				return
			}
			r := response(t, peer.Bytes())
			body, err := io.ReadAll(r.Body)
			if c.name == "head" {
				if err != io.ErrUnexpectedEOF || len(body) > 0 {
					t.Errorf("body %q, %v", body, err)
				}
			} else if err != nil || !strings.Contains(string(body), "This port speaks MQTT over WebSocket") || !strings.Contains(string(body), e.Text) {
				t.Errorf("body %q, %v", body, err)
			}
			if r.StatusCode != e.Status || !r.Close || r.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("answer %q", peer.Bytes())
			}
			if e.Status == 426 && (r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-WebSocket-Version") != "13") {
				t.Errorf("answer %q", peer.Bytes())
			}
		})
	}
}

// A cut request, a slow peer and a broken connection are told apart.
func TestUpgradeReadErrors(t *testing.T) {
	for _, c := range []struct {
		peer io.Reader
		want error
	}{
		{strings.NewReader(""), io.EOF},
		{strings.NewReader(request()[:40]), io.ErrUnexpectedEOF},
		{io.MultiReader(strings.NewReader("GET"), iotest.ErrReader(os.ErrDeadlineExceeded)), os.ErrDeadlineExceeded},
		{still{}, io.ErrNoProgress},
	} {
		peer := &answered{Reader: c.peer}
		if _, err := Upgrade(peer, Options{}); !errors.Is(err, c.want) || peer.Len() > 0 {
			t.Errorf("error %v, want %v; answer %q", err, c.want, peer.Bytes())
		}
	}
}

// still is a reader that has nothing to say.
type still struct{}

func (still) Read([]byte) (int, error) { return 0, nil }

// What Upgrade takes it has read to the end, and no peer makes it hold more
// than a head.
func FuzzUpgrade(f *testing.F) {
	for _, s := range []string{request(), request("/mqtt", "/"), request("l: mqtt", "l: mqttv3.1"), request("Origin: http://server.example.com", "Origin: null"),
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x10\x0c", "HEAD / HTTP/1.1\n\n", "GET http://[::1]/ HTTP/1.1\r\n A : b\r\n\r\n"} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s+"\x82\x80"), uint8(7))
	}
	f.Fuzz(func(t *testing.T, request []byte, chunk uint8) {
		in := bytes.NewReader(request)
		peer := &answered{Reader: in}
		if chunk > 0 {
			peer.Reader = &pieces{in, int(chunk)}
		}
		leftover, err := Upgrade(peer, Options{})
		if read := len(request) - in.Len(); read > MaxHead {
			t.Errorf("read %d bytes", read)
		}
		var e *UpgradeError
		switch {
		case err == nil:
			r := response(t, peer.Bytes())
			p := r.Header.Get("Sec-WebSocket-Protocol")
			if r.StatusCode != 101 || p != Protocol && p != ProtocolV31 || r.Header.Get("Sec-WebSocket-Extensions") != "" {
				t.Errorf("answer %q", peer.Bytes())
			}
			at := len(request) - in.Len() - len(leftover)
			if at < 0 || !bytes.Equal(leftover, request[at:at+len(leftover)]) || request[at-1] != '\n' {
				t.Errorf("leftover %q", leftover)
			}
		case errors.As(err, &e) && e.Status != 0:
			if r := response(t, peer.Bytes()); r.StatusCode != e.Status {
				t.Errorf("answer %q to %v", peer.Bytes(), err)
			}
		case peer.Len() > 0:
			t.Errorf("answer %q to %v", peer.Bytes(), err)
		}
	})
}

type pieces struct {
	io.Reader
	size int
}

func (r *pieces) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(len(p), r.size)]) }
