package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"
)

// ErrNotRunning is wrapped by the error of Dial when no broker runs on a data folder.
var ErrNotRunning = errors.New("no broker is running")

// ErrNotSupported is wrapped by errors on systems without control sockets, Windows among them.
var ErrNotSupported = errors.New("not supported")

const (
	dialTimeout = 5 * time.Second
	maxAnswer   = 4 << 20
)

// Client asks the broker that runs on a data folder. Its methods may be called from many goroutines; an error that the
// broker answered is an *Error.
type Client struct {
	http http.Client
	data string

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
}

// Health asks how the broker is.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var h Health
	return h, c.do(ctx, "GET", "/v1/health", nil, &h)
}

// Stats asks for the counters.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	return s, c.do(ctx, "GET", "/v1/stats", nil, &s)
}

// Backup makes the broker write a backup. It takes as long as that takes.
func (c *Client) Backup(ctx context.Context, q BackupRequest) (Backup, error) {
	var b Backup
	return b, c.do(ctx, "POST", "/v1/backup", q, &b)
}

// Reload makes the broker read its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	return c.do(ctx, "POST", "/v1/reload", struct{}{}, &struct{}{})
}

// Kick ends the connection of a client.
func (c *Client) Kick(ctx context.Context, clientID string) error {
	return c.do(ctx, "POST", "/v1/kick", KickRequest{clientID}, &struct{}{})
}

func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	var rd io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		rd = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://broker"+path, rd)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("ask the broker: %w", errors.Unwrap(err)) // without the URL, which means nothing here
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask the broker: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		e := &Error{Status: resp.StatusCode}
		if json.Unmarshal(b, e) != nil || e.Text == "" {
			e.Text = "the broker answered " + resp.Status
		}
		return e
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read the broker's answer to %s: %w", filepath.Base(path), err)
	}
	return nil
}
