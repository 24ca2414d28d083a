//go:build unix

package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/store"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parts is a broker and a store whose state the test says.
type parts struct {
	ready   atomic.Pointer[error]
	broker  broker.Stats
	store   store.Stats
	reload  error
	backup  func(dir string) error
	reloads int
}

type testBroker struct{ *parts }

func (b testBroker) Stats() broker.Stats { return b.broker }

type testStore struct{ *parts }

func (s testStore) Stats() store.Stats { return s.store }

func (s testStore) Ready() error {
	if e := s.ready.Load(); e != nil {
		return *e
	}
	return nil
}

func (s testStore) Backup(dir string) error {
	if s.backup != nil {
		return s.backup(dir)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "CURRENT"), []byte("store"), 0o600)
}

// shortDir is a folder whose path leaves room for a socket's name.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// syncBuffer is a log that a test reads while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func serve(t *testing.T, p *parts) (data string, c *Client, log *syncBuffer) {
	t.Helper()
	data, log = shortDir(t), new(syncBuffer)
	s, err := Serve(Options{
		Data: data, Broker: testBroker{p}, Store: testStore{p}, Version: "v1",
		Reload: func() error { p.reloads++; return p.reload },
		Kick:   func(id string) bool { return id == "pump-17" },
		Log:    slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c, err = Dial(data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return data, c, log
}

func TestHealth(t *testing.T) {
	p := &parts{}
	_, c, _ := serve(t, p)
	ok, err := c.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ok.State != OK || ok.Why != "" || ok.Version != "v1" || ok.PID != os.Getpid() || ok.Since.IsZero() || ok.Uptime < 0 {
		t.Errorf("health %+v", ok)
	}
	full := fmt.Errorf("%w: 3 MiB are free", store.ErrDegraded)
	p.ready.Store(&full)
	bad, err := c.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if bad.State != Degraded || bad.Why != full.Error() || !bad.Since.After(ok.Since) {
		t.Errorf("health %+v after %+v", bad, ok)
	}
	again, _ := c.Health(t.Context())
	if !again.Since.Equal(bad.Since) {
		t.Errorf("since moved from %v to %v", bad.Since, again.Since)
	}
}

// Every counter of broker and store is reported, each as itself.
func TestStats(t *testing.T) {
	p := &parts{}
	want := map[uint64]string{}
	n := uint64(0)
	all := []reflect.Value{reflect.ValueOf(&p.broker).Elem(), reflect.ValueOf(&p.store).Elem(), reflect.ValueOf(&p.broker.Limited).Elem()}
	for _, v := range all {
		for i := range v.NumField() {
			if v.Field(i).Kind() == reflect.Struct {
				continue
			}
			n++
			want[n] = v.Type().String() + "." + v.Type().Field(i).Name
			if f := v.Field(i); f.CanUint() {
				f.SetUint(n)
			} else {
				f.SetInt(int64(n))
			}
		}
	}
	_, c, _ := serve(t, p)
	got, err := c.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(got)
	var tables map[string]map[string]uint64
	if err := json.Unmarshal(b, &tables); err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		for name, v := range table {
			if want[v] == "" {
				t.Errorf("%s is reported twice or from nowhere: %d", name, v)
			}
			delete(want, v)
		}
	}
	for _, name := range want {
		t.Errorf("%s is not reported", name)
	}
}

func TestChanges(t *testing.T) {
	p := &parts{}
	_, c, log := serve(t, p)
	if err := c.Reload(t.Context()); err != nil || p.reloads != 1 {
		t.Errorf("reload: %v, %d times", err, p.reloads)
	}
	p.reload = &hinted{errors.New("sealmq.toml:1: no"), "sealmq check sealmq.toml"}
	var e *Error
	if err := c.Reload(t.Context()); !errors.As(err, &e) || e.Text != "sealmq.toml:1: no" || e.Hint() != "sealmq check sealmq.toml" {
		t.Errorf("reload of a bad file: %v", err)
	}
	if err := c.Kick(t.Context(), "pump-17"); err != nil {
		t.Error(err)
	}
	if err := c.Kick(t.Context(), "pump-18"); !errors.As(err, &e) || e.Status != http.StatusNotFound {
		t.Errorf("kick of nobody: %v", err)
	}
	for _, want := range []string{
		fmt.Sprintf("level=INFO msg=\"control request\" request=reload pid=%d uid=%d", os.Getpid(), os.Getuid()),
		"level=WARN msg=\"control request failed\" request=reload", "request=kick", "of=pump-17",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, log)
		}
	}
}

func TestBackupThroughSocket(t *testing.T) {
	p := &parts{}
	data, c, _ := serve(t, p)
	to := filepath.Join(t.TempDir(), "b")
	b, err := c.Backup(t.Context(), BackupRequest{To: to})
	if err != nil || !b.Store {
		t.Fatalf("backup %+v: %v", b, err)
	}
	if _, err := OpenBackup(to); err != nil {
		t.Error(err)
	}
	var e *Error
	if _, err := c.Backup(t.Context(), BackupRequest{To: to}); !errors.As(err, &e) || !strings.Contains(e.Text, "the folder is not empty") {
		t.Errorf("second backup: %v", err)
	}
	if _, err := c.Backup(t.Context(), BackupRequest{To: filepath.Join(data, "b")}); !errors.As(err, &e) || e.Hint() == "" {
		t.Errorf("backup inside: %v", err)
	}
	if _, err := c.Backup(t.Context(), BackupRequest{To: "b"}); !errors.As(err, &e) || e.Status != http.StatusBadRequest {
		t.Errorf("relative: %v", err)
	}

	// Meanwhile nothing else changes, and everything else is answered.
	begun, end := make(chan struct{}), make(chan struct{})
	p.backup = func(string) error {
		close(begun)
		<-end
		return errors.New("the disk is full")
	}
	failed := filepath.Join(t.TempDir(), "f")
	done := make(chan error)
	go func() {
		_, err := c.Backup(context.Background(), BackupRequest{To: failed})
		done <- err
	}()
	<-begun
	if err := c.Reload(t.Context()); !errors.As(err, &e) || e.Status != http.StatusConflict {
		t.Errorf("reload during a backup: %v", err)
	}
	if _, err := c.Health(t.Context()); err != nil {
		t.Error(err)
	}
	close(end)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("failed backup: %v", err)
	}
	if _, err := os.Lstat(failed); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a failed backup stays: %v", err)
	}
}

// What no client of ours sends is answered in words, and bounded.
func TestBadRequests(t *testing.T) {
	data, _, _ := serve(t, &parts{})
	raw := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", filepath.Join(data, SocketName))
		}}}
	for _, c := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "/v1/nothing", "", 404, `no such path: "/v1/nothing"`},
		{"GET", "/v2/health", "", 404, "no such path"},
		{"GET", "/v1/" + strings.Repeat("x", 4000), "", 404, "no such path"},
		{"DELETE", "/v1/health", "", 405, "/v1/health takes GET"},
		{"GET", "/v1/kick", "", 405, "/v1/kick takes POST"},
		{"POST", "/v1/kick", "", 400, "no JSON in its body"},
		{"POST", "/v1/kick", "{", 400, "read request: unexpected EOF"},
		{"POST", "/v1/kick", "[]", 400, "cannot unmarshal array"},
		{"POST", "/v1/kick", `{"client_id":7}`, 400, "cannot unmarshal number"},
		{"POST", "/v1/kick", `{"client_id":""}`, 400, "client_id is missing"},
		{"POST", "/v1/kick", `{"client_id":"a","force":true}`, 400, `unknown field "force"`},
		{"POST", "/v1/kick", `{"client_id":"a"} {}`, 400, "more than one JSON value"},
		{"POST", "/v1/kick", `{"client_id":"` + strings.Repeat("a", maxBody) + `"}`, 413, "more than 65536 bytes"},
		{"POST", "/v1/reload", `{"file":"x"}`, 400, `unknown field "file"`},
		{"POST", "/v1/backup", `{"to":"../x"}`, 400, "not an absolute path"},
		{"POST", "/v1/backup", `{"to":"/no/such/folder/x"}`, 422, "no such file or directory"},
		{"POST", "/v1/backup", `{"to":"/a\u0000b"}`, 422, "invalid argument"},
	} {
		r, err := http.NewRequest(c.method, "http://broker"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := raw.Do(r)
		if err != nil {
			t.Errorf("%s %.60s: %v", c.method, c.path, err)
			continue
		}
		var e Error
		d := json.NewDecoder(resp.Body)
		d.DisallowUnknownFields()
		err = d.Decode(&e)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !strings.Contains(e.Text, c.text) || len(e.Text) > 500 {
			t.Errorf("%s %.60s %.60s: %d %+v %v, want %d %s", c.method, c.path, c.body, resp.StatusCode, e, err, c.status, c.text)
		}
	}
}

func TestTooManyConnections(t *testing.T) {
	data, c, _ := serve(t, &parts{})
	if _, err := c.Health(t.Context()); err != nil { // holds one
		t.Fatal(err)
	}
	var held []net.Conn
	for range MaxConns - 1 {
		conn, err := net.Dial("unix", filepath.Join(data, SocketName))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		held = append(held, conn)
	}
	more, err := Dial(data)
	if err != nil {
		t.Fatal(err)
	}
	defer more.Close()
	over, err := net.Dial("unix", filepath.Join(data, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	resp, err := http.ReadResponse(bufio.NewReader(over), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 503 || string(body) != `{"error":"too many control requests"}`+"\n" {
		t.Errorf("%d %q %v", resp.StatusCode, body, err)
	}
	if _, err := c.Health(t.Context()); err != nil {
		t.Errorf("a served connection: %v", err)
	}
	for _, conn := range held {
		conn.Close()
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		next, err := Dial(data)
		if err != nil {
			t.Fatal(err)
		}
		_, err = next.Health(t.Context())
		next.Close()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no place becomes free: %v", err)
		}
	}
}
