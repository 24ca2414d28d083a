package disk_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/disk"
)

// counter is a handler that counts what it is told.
type counter struct {
	sessions, ops atomic.Int64
	done          func(*store.Op)
}

func (c *counter) Session(*store.Session, []store.Subscription, []uint16, store.QueueState) {
	c.sessions.Add(1)
}
func (c *counter) Retained(*store.Message) {}
func (c *counter) Committed(ops []*store.Op, err error) {
	if err != nil {
		panic(err)
	}
	c.ops.Add(int64(len(ops)))
	if c.done != nil {
		for _, op := range ops {
			c.done(op)
		}
	}
}

// load opens a store in dir and puts sessions 1 … n into it.
func load(b testing.TB, dir string, c *counter, n int) *disk.Store {
	s := open(b, dir, disk.Options{})
	if _, err := s.Load(c); err != nil {
		b.Fatal(err)
	}
	for id := store.SessionID(1); id <= store.SessionID(n); id++ {
		s.Submit(&store.Op{Kind: store.PutSession, Session: id, State: &store.Session{ID: id, ClientID: fmt.Sprint("client-", id), Expiry: 3600}, Wait: s})
	}
	await(b, c, int64(n))
	return s
}

func await(b testing.TB, c *counter, n int64) {
	for end := time.Now().Add(time.Minute); c.ops.Load() < n; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			b.Fatal("ops are not reported")
		}
	}
}

// BenchmarkPublish is QoS 1 messages of 64 bytes for offline sessions, from Submit to Committed, a thousand under way.
func BenchmarkPublish(b *testing.B) {
	for _, places := range []int{1, 10} {
		b.Run(fmt.Sprint("places=", places), func(b *testing.B) {
			var c counter
			room := make(chan struct{}, 1000)
			s := load(b, filepath.Join(b.TempDir(), "store"), &c, 100)
			c.done = func(*store.Op) { <-room }
			defer s.Close()
			m := store.NewMessage("fleet/17/state", make([]byte, 64), nil)
			m.QoS = 1
			type op struct {
				store.Op
				at  [10]store.Placement
				ptr [10]*store.Placement
			}
			all := make([]op, b.N)
			for i := range all {
				op := &all[i]
				op.Kind, op.Message, op.Wait, op.Placements = store.Publish, m, s, op.ptr[:0]
				for j := range places {
					p := &op.at[j]
					p.Session, p.Pos, p.Bytes, p.QoS = store.SessionID(1+(i+j*7)%100), uint64(1+i), uint64(i)*200, 1
					op.Place(p)
				}
				op.Prepare()
			}
			written := s.Stats().BytesWritten
			b.ReportAllocs()
			b.ResetTimer()
			for i := range all {
				room <- struct{}{}
				s.Submit(&all[i].Op)
			}
			await(b, &c, int64(100+b.N))
			b.StopTimer()
			st := s.Stats()
			b.ReportMetric(float64(st.BytesWritten-written)/float64(b.N), "bytes/op")
			b.ReportMetric(float64(b.N)/float64(st.Commits), "ops/commit")
		})
	}
}
