package doctor

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// maxHead bounds what is read of an HTTP answer, in bytes.
const maxHead = 8 << 10

// serverTime asks a WebSocket server for its time, which no other one tells:
// TLS 1.2 once did. Zero if it is not to be had.
func (e *exam) serverTime(trusted bool) time.Time {
	if !e.url.WebSocket || !trusted {
		return time.Time{}
	}
	conn, err := e.open()
	if err != nil {
		return time.Time{}
	}
	defer conn.Close()
	return askTime(conn, e.hostHeader())
}

func askTime(conn net.Conn, host string) time.Time {
	if _, err := fmt.Fprintf(conn, "HEAD / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil {
		return time.Time{}
	}
	r, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxHead)), &http.Request{Method: http.MethodHead})
	if err != nil {
		return time.Time{}
	}
	r.Body.Close()
	t, err := http.ParseTime(r.Header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t
}
