//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealmq/sealmq/auth"
	core "github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/disk"
)

// TestOwnerScripts runs testdata/owner/*.txt, the specification of the commands for the owner of a machine. Beside the
// commands of testscript a script has `run COMMAND...`, which is sealmq in this process, `fill DATA`, which puts one of
// everything into a store, `broker DATA [degraded]` and `stop`, a broker without listeners, `damage FILE`, which
// turns a byte over, `one PATTERN`, which puts the name of a file into $ONE, `exitcode N` and `mode FILE 0600`.
func TestOwnerScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/owner",
		Setup: func(env *testscript.Env) error {
			// A socket's path is short, and test folders' are not.
			dir, err := os.MkdirTemp("", "o")
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("D", dir)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"run": func(ts *testscript.TestScript, neg bool, args []string) {
				root := newRootCmd()
				if c, _, err := root.Find([]string{"status"}); err != nil || c == root {
					root.AddCommand(newOwnerCmds()...)
				}
				root.SetArgs(args)
				root.SetOut(ts.Stdout())
				root.SetErr(ts.Stderr())
				code := printError(ts.Stderr(), root.ExecuteContext(t.Context()))
				ts.Setenv("CODE", fmt.Sprint(code))
				if (code != 0) != neg {
					ts.Fatalf("exit code %d", code)
				}
			},
			"fill": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(fill(filepath.Join(args[0], control.StoreName)))
			},
			"broker": func(ts *testscript.TestScript, _ bool, args []string) {
				stop, err := controlled(args[0], len(args) > 1)
				ts.Check(err)
				ts.Defer(stop)
				ts.SetCmd("stop", func(*testscript.TestScript, bool, []string) { stop() })
			},
			"stop": func(*testscript.TestScript, bool, []string) {},
			"damage": func(ts *testscript.TestScript, _ bool, args []string) {
				name := ts.MkAbs(args[0])
				b, err := os.ReadFile(name)
				ts.Check(err)
				b[len(b)/2] ^= 1
				ts.Check(os.WriteFile(name, b, 0o600))
			},
			"exitcode": func(ts *testscript.TestScript, _ bool, args []string) {
				if got := ts.Getenv("CODE"); got != args[0] {
					ts.Fatalf("exit code %s, want %s", got, args[0])
				}
			},
			"mode": func(ts *testscript.TestScript, _ bool, args []string) {
				fi, err := os.Stat(args[0])
				ts.Check(err)
				if got := fmt.Sprintf("%04o", fi.Mode().Perm()); got != args[1] {
					ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
				}
			},
			"one": func(ts *testscript.TestScript, neg bool, args []string) {
				found, err := filepath.Glob(args[0])
				if err != nil || len(found) != 1 {
					ts.Fatalf("%d files match %s", len(found), args[0])
				}
				ts.Setenv("ONE", found[0])
			},
		},
	})
}

// committed hears that ops are durable.
type committed struct{ done chan error }

func (committed) Session(*store.Session, []store.Subscription, []uint16, store.QueueState) {}
func (committed) Retained(*store.Message)                                                  {}
func (c committed) Committed(ops []*store.Op, err error) {
	for range ops {
		c.done <- err
	}
}

// fill makes a store with a session that has one message waiting, and a retained message.
func fill(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	s, err := disk.Open(dir, disk.Config{MinFree: -1}, disk.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	h := committed{make(chan error, 8)}
	if _, err := s.Load(h); err != nil {
		return err
	}
	m := store.NewMessage("work/1", []byte("dig"), nil)
	retained := store.NewMessage("state/1", []byte("on"), nil)
	retained.Seq = 1
	placed := &store.Op{Kind: store.Publish, Message: m}
	placed.Place(&store.Placement{Session: 1, Pos: 1, Bytes: uint64(m.Size()), QoS: 1})
	ops := []*store.Op{
		{Kind: store.PutSession, Session: 1, State: &store.Session{ID: 1, ClientID: "pump-17", Expiry: 3600}},
		{Kind: store.Subscribe, Session: 1, Subscriptions: []store.Subscription{{Filter: "work/#", QoS: 1}}},
		placed,
		{Kind: store.Publish, Message: retained, Retained: true},
	}
	for _, op := range ops {
		op.Prepare()
	}
	s.Submit(ops...)
	for range ops {
		if err := <-h.done; err != nil {
			return err
		}
	}
	return s.Close()
}

// shortOfSpace is a store that refuses changes.
type shortOfSpace struct{ *disk.Store }

func (shortOfSpace) Ready() error { return fmt.Errorf("%w: 3 MiB are free", store.ErrDegraded) }

func controlled(data string, degraded bool) (stop func(), err error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	s, err := disk.Open(filepath.Join(data, control.StoreName), disk.Config{MinFree: -1}, disk.Options{})
	if err != nil {
		return nil, err
	}
	b, err := core.New(core.Config{SysInterval: -1}, core.Options{Store: s, Auth: auth.Certificates{}})
	if err != nil {
		s.Close()
		return nil, err
	}
	o := control.Options{Data: data, Broker: b, Store: s, Version: "v1.2.3"}
	if degraded {
		o.Store = shortOfSpace{s}
	}
	c, err := control.Serve(o)
	if err != nil {
		s.Close()
		return nil, err
	}
	var once sync.Once
	return func() {
		once.Do(func() {
			c.Close()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			_ = b.Shutdown(ctx)
			s.Close()
		})
	}, nil
}
