package control

import (
	"net"
	"sync"
	"time"
)

// boundedListener refuses connections beyond the capacity of free.
type boundedListener struct {
	net.Listener
	free chan struct{}
}

// busy is the whole answer on a refused connection.
const busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n" +
	"Content-Length: 38\r\n\r\n" + `{"error":"too many control requests"}` + "\n"

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &boundedConn{Conn: c, done: func() { <-l.free }}, nil
		default:
		}
		_ = c.SetDeadline(time.Now().Add(time.Second)) // a socket's buffer takes the answer at once
		_, _ = c.Write([]byte(busy))
		c.Close()
	}
}

// boundedConn gives its place back once it is closed.
type boundedConn struct {
	net.Conn
	once sync.Once
	done func()
}

func (c *boundedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.done)
	return err
}
