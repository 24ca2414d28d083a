package disk

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/disk/fsys"
)

// silent is a handler for stores of which only the files matter.
type silent struct{ t testing.TB }

func (silent) Session(*store.Session, []store.Subscription, []uint16, store.QueueState) {}
func (silent) Retained(*store.Message)                                                  {}
func (h silent) Committed(_ []*store.Op, err error) {
	if err != nil {
		h.t.Error(err)
	}
}

func text(s string) *store.Message { return store.NewMessage(s, []byte("payload of "+s), nil) }

// sample makes a store with some of everything: two sessions, one message for both, one for the first alone.
func sample(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(dir, Config{MinFree: -1}, Options{Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	clock, err := s.Load(silent{t})
	if err != nil {
		t.Fatal(err)
	}
	both, own := text("a/b"), store.NewMessage("a/c", []byte{0xff, 0}, []byte{0x03, 0, 1, 'x'})
	own.Expires = int64(clock + time.Hour)
	kept := text("r/1")
	kept.Seq, kept.From, kept.QoS = 1, &store.Publisher{ClientID: "pump"}, 1
	size := uint64(both.Size())
	submit := func(op *store.Op, ps ...*store.Placement) {
		for _, p := range ps {
			op.Place(p)
		}
		if op.Prepare() {
			s.Submit(op)
		}
	}
	for id, client := range map[store.SessionID]string{1: "pump", 2: "valve"} {
		st := &store.Session{ID: id, ClientID: client, Name: "device-" + client, Method: "certificate", Expiry: 3600}
		if id == 1 {
			st.Expiry, st.Will, st.WillAt = math.MaxUint32, &store.Will{Topic: []byte("gone"), Payload: []byte("x"), Delay: 5}, clock+time.Minute
		}
		submit(&store.Op{Kind: store.PutSession, Session: id, State: st})
		submit(&store.Op{Kind: store.Subscribe, Session: id, Subscriptions: []store.Subscription{{Filter: "a/#", QoS: 1}, {Filter: "$share/g/+", ID: 7}}})
	}
	submit(&store.Op{Kind: store.Publish, Session: 2, PacketID: 9, Message: both},
		&store.Placement{Session: 1, Pos: 1, Bytes: size, QoS: 1}, &store.Placement{Session: 2, Pos: 1, Bytes: size, QoS: 2})
	submit(&store.Op{Kind: store.Publish, Message: own},
		&store.Placement{Session: 1, Pos: 2, Bytes: size + uint64(own.Size()), QoS: 1, SubIDs: []uint32{7}, Share: "$share/g/+"})
	submit(&store.Op{Kind: store.Recorded, Session: 2, Positions: []uint64{1}})
	submit(&store.Op{Kind: store.Publish, Retained: true, Message: kept})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// change writes into the files of a store, past it.
func change(t *testing.T, dir string, f func(b *pebble.Batch)) {
	t.Helper()
	db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebbleVersion, Logger: readLogger{}})
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	f(b)
	if err := errors.Join(b.Commit(pebble.Sync), b.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func checked(t *testing.T, dir string) (Summary, []Problem) {
	t.Helper()
	var found []Problem
	sum, err := Check(dir, func(p Problem) { found = append(found, p) })
	if err != nil {
		t.Fatal(err)
	}
	if sum.Problems != len(found) {
		t.Errorf("%d problems reported, %d counted", len(found), sum.Problems)
	}
	for _, p := range found {
		if p.What == "" || p.Where == "" || p.Means == "" || p.Do == "" {
			t.Errorf("an incomplete problem: %+v", p)
		}
	}
	return sum, found
}

func TestCheckOfSoundStores(t *testing.T) {
	dir := sample(t)
	before := files(t, dir)
	sum, found := checked(t, dir)
	if len(found) > 0 {
		t.Errorf("problems: %+v", found)
	}
	if time.Since(sum.Written) > time.Hour || sum.Seq == 0 || sum.Format != formatVersion {
		t.Errorf("%+v", sum)
	}
	sum.Written, sum.Seq, sum.Clock = time.Time{}, 0, 0
	want := Summary{Format: formatVersion, Sessions: 2, Subscriptions: 4, Wills: 1, Received: 1, Queued: 3, Shared: 1, Retained: 1}
	if diff := cmp.Diff(want, sum); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, files(t, dir)); diff != "" {
		t.Errorf("the store was changed: %s", diff)
	}
}

// files has the names and sizes of a store's files, without the lock.
func files(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]int64{}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && e.Name() != "LOCK" {
			m[e.Name()] = fi.Size()
		}
	}
	return m
}

// Every kind of damage is found, and named with where it is.
func TestCheckFindsDamage(t *testing.T) {
	set := func(key, value []byte) func(*pebble.Batch) {
		return func(b *pebble.Batch) { check(b.Set(key, value, nil)) }
	}
	remove := func(key []byte) func(*pebble.Batch) {
		return func(b *pebble.Batch) { check(b.Delete(key, nil)) }
	}
	entry := func(bytes uint64, m *store.Message, number uint64) []byte {
		return appendEntry(nil, &store.Placement{Bytes: bytes}, m, number)
	}
	session := func(s store.Session) []byte { return appendSession(nil, &s) }
	for name, c := range map[string]struct {
		change func(*pebble.Batch)
		where  string
		what   string
	}{
		"session":              {set(appendKey(nil, kindSession, 1), []byte{layout}), "session 1", "session: stored value is damaged"},
		"session of later":     {set(appendKey(nil, kindSession, 1), append(session(store.Session{ClientID: "pump"}), 0)), "session 1", "session: stored value is damaged"},
		"session key":          {set([]byte("s123"), nil), `key "s123"`, "session: the key is damaged"},
		"session twice":        {set(appendKey(nil, kindSession, 3), session(store.Session{ClientID: "pump"})), "session of client \"pump\"", "two sessions, 1 and 3"},
		"nameless":             {set(appendKey(nil, kindSession, 3), session(store.Session{})), "session 3", "without a client identifier"},
		"session and ended":    {set(appendKey(nil, kindPurge, 1), []byte{layout}), `session of client "pump"`, "it has ended, and still is there"},
		"purge":                {set([]byte("x1"), []byte{layout}), `key "x1"`, "ended session: the key is damaged"},
		"will":                 {set(appendKey(nil, kindWill, 1), []byte{layout, 0xff}), `session of client "pump"`, "will: stored value is damaged"},
		"will topic":           {set(appendKey(nil, kindWill, 1), appendWill(nil, &store.Will{Topic: []byte("a/#")})), `session of client "pump"`, "will: "},
		"will of nobody":       {set(appendKey(nil, kindWill, 7), appendWill(nil, &store.Will{Topic: []byte("a")})), "session 7", "will of a session that does not exist"},
		"subscription":         {set(append(appendKey(nil, kindFilter, 1), "a/#"...), []byte{layout, 3, 0}), `session of client "pump"`, `subscription "a/#": stored value is damaged`},
		"filter":               {set(append(appendKey(nil, kindFilter, 1), "a/#/b"...), []byte{layout, 0, 0}), `session of client "pump"`, `subscription "a/#/b": `},
		"share":                {set(append(appendKey(nil, kindFilter, 1), "$share/x"...), []byte{layout, 0, 0}), `session of client "pump"`, `subscription "$share/x": `},
		"subscriber":           {set(append(appendKey(nil, kindFilter, 7), "a"...), []byte{layout, 0, 0}), "session 7", "subscription of a session that does not exist"},
		"received":             {set(appendReceived(nil, 1, 4), []byte("?")), `session of client "pump"`, "received packet identifier 4: "},
		"received 0":           {set(appendReceived(nil, 1, 0), []byte{layout}), "key ", "received packet identifier: the key is damaged"},
		"message":              {set(appendKey(nil, kindMessage, 5), []byte{layout, 0x80}), "message 5", "message: stored value is damaged"},
		"message missing":      {set(appendPos(nil, kindQueue, 1, 3), entry(1<<20, text("a"), 77)), `session of client "pump", queue position 3`, "message 77 is missing"},
		"message of later":     {set(appendKey(nil, kindMessage, 1<<40), appendMessage([]byte{layout}, text("a"))), "message 1099511627776", "beyond that of the last op"},
		"queue entry":          {set(appendPos(nil, kindQueue, 1, 3), []byte{2}), `session of client "pump", queue position 3`, "queue entry: stored value is damaged"},
		"queue key":            {set(appendKey(nil, kindQueue, 1), nil), "key ", "queue entry: the key is damaged"},
		"queue bytes":          {set(appendPos(nil, kindQueue, 1, 3), entry(300, text("a"), 0)), `session of client "pump", queue position 3`, "up to position 2"},
		"queue bytes too few":  {set(appendPos(nil, kindQueue, 1, 1), entry(3, text("a"), 0)), `session of client "pump", queue position 1`, "3 bytes up to here"},
		"queue position":       {set(appendPos(nil, kindQueue, 2, 0), entry(1, text("a"), 0)), `session of client "valve", queue position 0`, "positions begin with 1"},
		"queue of nobody":      {set(appendPos(nil, kindQueue, 7, 1), entry(1<<20, text("a"), 0)), "session 7", "queue entry of a session that does not exist"},
		"queue topic":          {set(appendPos(nil, kindQueue, 2, 2), entry(1<<20, text("a/+"), 0)), `session of client "valve", queue position 2`, `its topic "a/+"`},
		"mark":                 {set(appendPos(nil, kindRecorded, 2, 1), nil), `session of client "valve", queue position 1`, "mark of delivery: stored value is damaged"},
		"retained":             {set([]byte("rr/1"), []byte("nonsense")), `topic "r/1"`, "retained message: stored value is damaged"},
		"retained elsewhere":   {set([]byte("rr/2"), appendMessage([]byte{layout}, text("r/1"))), `topic "r/2"`, `it is of the topic "r/1"`},
		"retained empty":       {set([]byte("rr/2"), appendMessage([]byte{layout}, store.NewMessage("r/2", nil, nil))), `topic "r/2"`, "it is empty"},
		"retained wildcard":    {set([]byte("r#"), appendMessage([]byte{layout}, text("#"))), `topic "#"`, "retained message: "},
		"unknown kind":         {set([]byte("zebra"), nil), `key "zebra"`, "value of an unknown kind"},
		"unknown kind, first":  {set([]byte{0}, nil), `key "\x00"`, "value of an unknown kind"},
		"unknown kind, middle": {set([]byte("hay"), nil), `key "hay"`, "value of an unknown kind"},
		"unknown state":        {set([]byte("!x"), nil), `key "!x"`, "state of the store: an unknown one"},
		"state":                {set([]byte(metaApplied), []byte("?")), "files", "state of the store"},
		"state missing":        {remove([]byte(metaFormat)), "files", "state of the store"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := sample(t)
			change(t, dir, c.change)
			_, found := checked(t, dir)
			if !slices.ContainsFunc(found, func(p Problem) bool { return strings.HasPrefix(p.Where, c.where) && strings.Contains(p.What, c.what) }) {
				t.Errorf("not found: %s: %s\nfound: %+v", c.where, c.what, found)
			}
		})
	}
}

func TestCheckOfLeftovers(t *testing.T) {
	dir := sample(t)
	change(t, dir, func(b *pebble.Batch) {
		check(b.Delete(appendKey(nil, kindSession, 2), nil))
		check(b.Set(appendKey(nil, kindPurge, 2), []byte{layout}, nil))
		check(b.Set(appendKey(nil, kindMessage, 1), appendMessage([]byte{layout}, text("nobody's")), nil))
	})
	sum, found := checked(t, dir)
	// Two subscriptions, an identifier, an entry, a mark, the end itself, and the message.
	if len(found) > 0 || sum.Leftovers != 7 {
		t.Errorf("%d left over, want 7; %+v", sum.Leftovers, found)
	}
}

// A truncated or altered file is told as a problem, or changes nothing.
func TestCheckOfDamagedFiles(t *testing.T) {
	for _, pattern := range []string{"*.sst", "MANIFEST-*", "*.log"} {
		dir := sample(t)
		s, err := Open(dir, Config{MinFree: -1}, Options{Fatal: func(err error) { t.Error(err) }})
		if err == nil {
			err = errors.Join(s.db.Flush(), s.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		names, _ := filepath.Glob(filepath.Join(dir, pattern))
		tried := 0
		for _, name := range names {
			whole, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; at < len(whole); at += 1 + len(whole)/16 {
				damaged := bytes.Clone(whole)
				damaged[at] ^= 0x10
				if err := os.WriteFile(name, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				tried++
				sum, err := Check(dir, func(Problem) {})
				if err == nil && sum.Problems == 0 && (sum.Queued != 3 || sum.Sessions != 2 || sum.Retained != 1) {
					t.Errorf("%s at %d: %+v without a problem", filepath.Base(name), at, sum)
				}
			}
			if err := os.WriteFile(name, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if pattern != "*.log" && tried == 0 {
			t.Errorf("no %s in the store", pattern)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	none := t.TempDir()
	if _, err := Check(none, nil); !errors.Is(err, ErrNoStore) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := Check(filepath.Join(none, "missing"), nil); !errors.Is(err, ErrNoStore) {
		t.Errorf("no folder: %v", err)
	}
	dir := sample(t)
	lock, err := fsys.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(dir, nil); !errors.Is(err, fsys.ErrLocked) {
		t.Errorf("in use: %v", err)
	}
	lock.Close()
	change(t, dir, func(b *pebble.Batch) { check(b.Set([]byte(metaFormat), []byte{layout, formatVersion + 1}, nil)) })
	if _, err := Check(dir, nil); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer one: %v", err)
	}
}

func TestExport(t *testing.T) {
	dir := sample(t)
	lines := func(what Contents) (all []map[string]any) {
		var out bytes.Buffer
		if err := Export(dir, what, &out); err != nil {
			t.Fatal(err)
		}
		for _, l := range strings.Split(strings.TrimSpace(out.String()), "\n") {
			m := map[string]any{}
			if err := json.Unmarshal([]byte(l), &m); err != nil {
				t.Fatal(err)
			}
			for k := range m {
				if strings.HasSuffix(k, "_at") {
					at, err := time.Parse(time.RFC3339, m[k].(string))
					if d := time.Until(at); err != nil || d < 0 || d > time.Hour {
						t.Errorf("%s is %v", k, m[k])
					}
					m[k] = "soon"
				}
			}
			all = append(all, m)
		}
		return all
	}
	type object = map[string]any
	subs := []any{object{"filter": "$share/g/+", "qos": 0., "id": 7.}, object{"filter": "a/#", "qos": 1.}}
	for what, want := range map[Contents][]object{
		Sessions: {
			{"kind": "session", "session": 1., "client_id": "pump", "principal": "device-pump", "method": "certificate", "online": false,
				"expiry_seconds": nil, "subscriptions": subs, "will_at": "soon",
				"will": object{"topic": "gone", "payload": "x", "qos": 0., "retain": false, "delay_seconds": 5.}},
			{"kind": "session", "session": 2., "client_id": "valve", "principal": "device-valve", "method": "certificate", "online": false,
				"expiry_seconds": 3600., "subscriptions": subs, "received": []any{9.}},
		},
		Queues: {
			{"kind": "queued", "session": 1., "client_id": "pump", "position": 1., "state": "waiting", "topic": "a/b", "payload": "payload of a/b", "qos": 1., "retain": false},
			{"kind": "queued", "session": 1., "client_id": "pump", "position": 2., "state": "waiting", "topic": "a/c", "payload_base64": "/wA=", "qos": 1., "retain": false,
				"properties": object{"content_type": "x"}, "subscription_ids": []any{7.}, "share": "$share/g/+", "expires_at": "soon"},
			{"kind": "queued", "session": 2., "client_id": "valve", "position": 1., "state": "recorded", "topic": "a/b", "payload": "payload of a/b", "qos": 2., "retain": false},
		},
		Retained: {{"kind": "retained", "topic": "r/1", "payload": "payload of r/1", "qos": 1., "retain": true, "from": "pump"}},
	} {
		if diff := cmp.Diff(want, lines(what)); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	if err := Export(dir, "all", &bytes.Buffer{}); err == nil {
		t.Error("unknown contents are exported")
	}
	change(t, dir, func(b *pebble.Batch) { check(b.Set(appendPos(nil, kindQueue, 1, 1), []byte("?"), nil)) })
	if err := Export(dir, Queues, &bytes.Buffer{}); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "session 1: queue position 1") {
		t.Errorf("a damaged entry: %v", err)
	}
}
