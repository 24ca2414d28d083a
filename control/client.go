package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// ErrNotRunning is wrapped by the error of Dial when no broker runs on a data folder.
var ErrNotRunning = errors.New("no broker is running")

// ErrNotSupported is wrapped by errors on systems without control sockets, Windows among them.
var ErrNotSupported = errors.New("not supported")

const (
	dialTimeout = 5 * time.Second
	maxAnswer   = 64 << 20
	maxLine     = 1 << 20
)

// Client asks the broker that runs on a data folder (Dial), or does without one (Local). Its methods may be called from many
// goroutines; an error that was answered is an *Error, and wraps that of the package at the other end where callers branch
// on it: registry.ErrUnknown, *pki.Refusal.
type Client struct {
	http   http.Client
	data   string  // of a running broker
	server *Server // of Local, which ends with the client

	mu    sync.Mutex
	first net.Conn // that Dial made, until it is used
}

// Dial connects to the broker of a data folder, or fails with ErrNotRunning.
func Dial(data string) (*Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	first, err := dial(ctx, data)
	if err != nil {
		return nil, err
	}
	c := &Client{data: data, first: first}
	c.http.Transport = &http.Transport{DialContext: c.connect, DisableCompression: true, IdleConnTimeout: idleTimeout / 2}
	return c, nil
}

func (c *Client) connect(ctx context.Context, _, _ string) (net.Conn, error) {
	if conn := c.takeFirst(); conn != nil {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return dial(ctx, c.data)
}

func (c *Client) takeFirst() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn := c.first
	c.first = nil
	return conn
}

// Close gives the connections back.
func (c *Client) Close() {
	if conn := c.takeFirst(); conn != nil {
		conn.Close()
	}
	c.http.CloseIdleConnections()
	if c.server != nil {
		_ = c.server.Close()
	}
}

// Running tells whether the client asks a running broker, and not a fleet within this process.
func (c *Client) Running() bool { return c.server == nil }

// Health asks how the broker is.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var h Health
	err := c.do(ctx, "GET", "/v1/health", nil, &h)
	return h, err
}

// Stats asks for the counters.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	err := c.do(ctx, "GET", "/v1/stats", nil, &s)
	return s, err
}

// Failures asks for the handshakes that failed, with the last ones.
func (c *Client) Failures(ctx context.Context, recent int) (Failures, error) {
	var f Failures
	err := c.do(ctx, "GET", "/v1/failures?recent="+strconv.Itoa(recent), nil, &f)
	return f, err
}

// Backup makes the broker write a backup. It takes as long as that takes.
func (c *Client) Backup(ctx context.Context, q BackupRequest) (Backup, error) {
	var b Backup
	err := c.do(ctx, "POST", "/v1/backup", q, &b)
	return b, err
}

// Reload makes the broker read its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	return c.do(ctx, "POST", "/v1/reload", struct{}{}, &struct{}{})
}

// Kick ends the connection of a client.
func (c *Client) Kick(ctx context.Context, clientID string) error {
	return c.do(ctx, "POST", "/v1/kick", KickRequest{clientID}, &struct{}{})
}

// withQuery is a path with values.
func withQuery(path string, v url.Values) string {
	if len(v) == 0 {
		return path
	}
	return path + "?" + v.Encode()
}

// do sends body as JSON, if there is one, and reads the answer.
func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	b, err := c.read(ctx, method, path, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read the broker's answer to %s: %w", filepath.Base(path), err)
	}
	return nil
}

// read is do for an answer that is not read yet.
func (c *Client) read(ctx context.Context, method, path string, body any) ([]byte, error) {
	var rd io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		rd = bytes.NewReader(b)
	}
	resp, err := c.send(ctx, method, path, rd)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask the broker: %w", err)
	}
	return b, nil
}

// send returns the answer if it is one of success. The caller closes its body.
func (c *Client) send(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://broker"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the broker: %w", errors.Unwrap(err)) // without the URL, which means nothing here
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxLine))
	if err != nil {
		return nil, fmt.Errorf("ask the broker: %w", err)
	}
	e := new(Error)
	if json.Unmarshal(b, e) != nil || e.Text == "" {
		e.Text = "the broker answered " + resp.Status
	}
	e.Status = resp.StatusCode
	return nil, e
}

// lines calls fn with the lines of an answer before the last, until fn fails. It returns what the last line says.
func (c *Client) lines(resp *http.Response, fn func(line) error) (done int, err error) {
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, maxLine)
	for sc.Scan() {
		var l line
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			return 0, fmt.Errorf("read the broker's answer: %w", err)
		}
		if l.End != nil {
			if l.End.Error != nil {
				return l.End.Done, l.End.Error
			}
			return l.End.Done, nil
		}
		if err := fn(l); err != nil {
			return 0, err
		}
	}
	err = sc.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return 0, fmt.Errorf("read the broker's answer: %w", err)
}

// act asks for an action over many devices.
func (c *Client) act(ctx context.Context, what, path string, q any, progress func(Progress)) (Outcome, error) {
	b, err := json.Marshal(q)
	if err != nil {
		return Outcome{}, err
	}
	return c.actOn(ctx, what, path, bytes.NewReader(b), progress)
}

func (c *Client) actOn(ctx context.Context, what, path string, body io.Reader, progress func(Progress)) (o Outcome, err error) {
	resp, err := c.send(ctx, "POST", path, body)
	if err != nil {
		return o, err
	}
	o.Done, err = c.lines(resp, func(l line) error {
		switch {
		case l.Failed != nil:
			o.Failed = append(o.Failed, *l.Failed)
		case l.Progress != nil && progress != nil:
			progress(*l.Progress)
		}
		return nil
	})
	if err == nil && len(o.Failed) > 0 {
		err = &PartialError{what, o}
	}
	return o, err
}
