package disk

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/disk/fsys"
)

// Contents is a part of a store.
type Contents string

// The contents that Export writes.
const (
	Sessions Contents = "sessions" // with their subscriptions and wills
	Queues   Contents = "queues"   // what waits in the queues of sessions
	Retained Contents = "retained"
	Records  Contents = "records" // what other parts of the program keep: devices, keys of accounts
)

// Export writes what the store in dir holds to w, for people to look at: a JSON object a line, whose member "kind" is
// session, queued, retained or record. The errors are those of Check, and that of the first value that is damaged. The store is
// not changed.
func Export(dir string, what Contents, w io.Writer) error {
	r, err := openReader(dir)
	if err != nil {
		return err
	}
	defer r.close()
	b := bufio.NewWriter(w)
	x := &export{reader: r, enc: json.NewEncoder(b)}
	x.enc.SetEscapeHTML(false)
	switch what {
	case Sessions:
		err = x.sessions()
	case Queues:
		err = x.queues()
	case Retained:
		err = x.retained()
	case Records:
		err = x.records()
	default:
		return fmt.Errorf("export %q: no such contents", what)
	}
	if err != nil {
		err = fmt.Errorf("export %s of %s: %w", what, dir, err)
	}
	return errors.Join(err, b.Flush())
}

// export writes the lines of a store.
type export struct {
	*reader
	enc *json.Encoder
}

type sessionLine struct {
	Kind          string             `json:"kind"`
	Session       store.SessionID    `json:"session"`
	ClientID      string             `json:"client_id"`
	Principal     string             `json:"principal,omitempty"`
	Method        string             `json:"method,omitempty"` // of authentication
	Online        bool               `json:"online"`
	Expiry        *uint32            `json:"expiry_seconds"`       // null: for ever
	ExpiresAt     *time.Time         `json:"expires_at,omitempty"` // of a session without a connection
	Received      []uint16           `json:"received,omitempty"`   // QoS 2 packet identifiers not released
	Will          *willLine          `json:"will,omitempty"`
	WillAt        *time.Time         `json:"will_at,omitempty"`
	Subscriptions []subscriptionLine `json:"subscriptions"`
}

type subscriptionLine struct {
	Filter            string `json:"filter"`
	QoS               uint8  `json:"qos"`
	NoLocal           bool   `json:"no_local,omitempty"`
	RetainAsPublished bool   `json:"retain_as_published,omitempty"`
	ID                uint32 `json:"id,omitempty"`
	Replay            bool   `json:"retained_due,omitempty"` // retained messages that it began with are not all in the queue
}

type willLine struct {
	payloadLine
	Delay  uint32  `json:"delay_seconds,omitempty"`
	Expiry *uint32 `json:"expiry_seconds,omitempty"`
}

// payloadLine is what messages and wills have in common. A payload that is no text comes in base64.
type payloadLine struct {
	Topic      string          `json:"topic"`
	QoS        uint8           `json:"qos"`
	Retain     bool            `json:"retain"`
	Payload    *string         `json:"payload,omitempty"`
	Base64     []byte          `json:"payload_base64,omitempty"`
	Properties *propertiesLine `json:"properties,omitempty"`
}

type propertiesLine struct {
	PayloadFormat   *byte       `json:"payload_format,omitempty"`
	ContentType     string      `json:"content_type,omitempty"`
	ResponseTopic   string      `json:"response_topic,omitempty"`
	CorrelationData []byte      `json:"correlation_data_base64,omitempty"`
	User            [][2]string `json:"user,omitempty"`
}

type queuedLine struct {
	Kind     string          `json:"kind"`
	Session  store.SessionID `json:"session"`
	ClientID string          `json:"client_id"`
	Position uint64          `json:"position"`
	State    string          `json:"state"` // waiting, sent (perhaps), or recorded: the client has it, and only PUBCOMP is missing
	*payloadLine
	SubIDs    []uint32   `json:"subscription_ids,omitempty"`
	Share     string     `json:"share,omitempty"` // the shared subscription that chose this session
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

type retainedLine struct {
	Kind string `json:"kind"`
	payloadLine
	From      *string    `json:"from,omitempty"` // client identifier of the publisher
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

func (x *export) sessions() error {
	return x.scan([]byte{kindSession}, afterKind(kindSession), func(key, value []byte) error {
		s, err := readSession(key, value)
		if err != nil {
			return err
		}
		l := sessionLine{Kind: "session", Session: s.ID, ClientID: s.ClientID, Principal: s.Name, Method: s.Method, Online: s.Online,
			ExpiresAt: x.at(s.ExpireAt), WillAt: x.at(s.WillAt), Subscriptions: []subscriptionLine{}}
		if s.Expiry != math.MaxUint32 {
			l.Expiry = &s.Expiry
		}
		if err := x.belongings(s.ID, &l); err != nil {
			return fmt.Errorf("session %d: %w", s.ID, err)
		}
		return x.enc.Encode(l)
	})
}

func readSession(key, value []byte) (*store.Session, error) {
	id, rest, ok := keySession(key)
	if !ok || len(rest) > 0 {
		return nil, fmt.Errorf("key %.100q: %w", key, errDamaged)
	}
	s, err := decodeSession(id, value)
	if err != nil {
		return nil, fmt.Errorf("session %d: %w", id, err)
	}
	return s, nil
}

// belongings reads what has keys of its own.
func (x *export) belongings(id store.SessionID, l *sessionLine) error {
	each := func(kind byte, f func(rest, value []byte) error) error {
		return x.scan(appendKey(nil, kind, uint64(id)), appendEnd(nil, kind, id), func(key, value []byte) error {
			if err := f(key[9:], value); err != nil {
				return fmt.Errorf("%s: %w", kindName(kind), err)
			}
			return nil
		})
	}
	return errors.Join(
		each(kindFilter, func(filter, value []byte) error {
			s, err := decodeSubscription(filter, value)
			l.Subscriptions = append(l.Subscriptions, subscriptionLine(s))
			return err
		}),
		each(kindReceived, func(rest, _ []byte) error {
			if len(rest) != 2 {
				return errDamaged
			}
			l.Received = append(l.Received, binary.BigEndian.Uint16(rest))
			return nil
		}),
		each(kindWill, func(_, value []byte) error {
			w, err := decodeWill(value)
			if err != nil {
				return err
			}
			l.Will = &willLine{payloadLine: payloadOf(string(w.Topic), w.Payload, w.Props, w.QoS, w.Retain), Delay: w.Delay}
			if w.HasExpiry {
				l.Will.Expiry = &w.Expiry
			}
			return nil
		}),
	)
}

// queues writes the entries of every session that there is.
func (x *export) queues() error {
	return x.scan([]byte{kindSession}, afterKind(kindSession), func(key, value []byte) error {
		s, err := readSession(key, value)
		if err != nil {
			return err
		}
		err = x.scan(appendKey(nil, kindQueue, uint64(s.ID)), appendEnd(nil, kindQueue, s.ID), func(key, value []byte) error {
			_, pos, ok := keyPos(key)
			if !ok {
				return fmt.Errorf("key %.100q: %w", key, errDamaged)
			}
			if err := x.queued(s, pos, value); err != nil {
				return fmt.Errorf("queue position %d: %w", pos, err)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("session %d: %w", s.ID, err)
		}
		return nil
	})
}

func (x *export) queued(s *store.Session, pos uint64, value []byte) error {
	e, err := decodeEntry(value, true)
	if err != nil {
		return err
	}
	l := queuedLine{Kind: "queued", Session: s.ID, ClientID: s.ClientID, Position: pos, SubIDs: e.q.SubIDs, Share: e.q.Share, State: "waiting"}
	switch _, err := x.get(appendPos(nil, kindRecorded, s.ID, pos)); {
	case err == nil:
		l.State = "recorded"
	case !errors.Is(err, pebble.ErrNotFound):
		return err
	case pos <= s.Sent || s.Online:
		l.State = "sent"
	}
	m := e.q.Message
	if e.number != 0 {
		v, err := x.get(appendKey(nil, kindMessage, e.number))
		if err == nil {
			m, err = decodeMessage(v, nil)
		}
		if err != nil {
			return fmt.Errorf("message %d: %w", e.number, err)
		}
	}
	p := payloadOf(m.Topic, m.Payload, m.Props, e.q.QoS, e.q.Retain)
	l.payloadLine, l.ExpiresAt = &p, x.at(time.Duration(m.Expires))
	return x.enc.Encode(l)
}

func (x *export) retained() error {
	return x.scan([]byte{kindRetained}, afterKind(kindRetained), func(key, value []byte) error {
		m, err := decodeMessage(value, nil)
		if err != nil {
			return fmt.Errorf("topic %.200q: %w", key[1:], err)
		}
		l := retainedLine{Kind: "retained", payloadLine: payloadOf(m.Topic, m.Payload, m.Props, m.QoS, true),
			ExpiresAt: x.at(time.Duration(m.Expires))}
		if m.From != nil {
			l.From = &m.From.ClientID
		}
		return x.enc.Encode(l)
	})
}

// at is a moment of the store's clock as a time of day, nil for none.
func (x *export) at(clock time.Duration) *time.Time {
	if clock == 0 {
		return nil
	}
	t := time.Unix(0, x.last.wall).Add(clock - x.last.clock).UTC()
	if y := t.Year(); y < 0 || y > 9999 { // JSON has no others
		return nil
	}
	return &t
}

func payloadOf(topic string, payload, props []byte, qos uint8, retain bool) payloadLine {
	l := payloadLine{Topic: topic, QoS: qos, Retain: retain, Properties: propertiesOf(props)}
	if utf8.Valid(payload) {
		l.Payload = new(string(payload))
	} else {
		l.Base64 = payload
	}
	return l
}

// propertiesOf decodes the properties that a message carries; what is no properties is left out.
func propertiesOf(props []byte) *propertiesLine {
	var p mqtt.Properties
	b := append(binary.AppendUvarint(nil, uint64(len(props))), props...)
	if _, err := p.Parse(b, mqtt.PropertyContext(mqtt.PUBLISH)); err != nil || p.Empty() {
		return nil
	}
	l := &propertiesLine{ContentType: string(p.ContentType), ResponseTopic: string(p.ResponseTopic), CorrelationData: p.CorrelationData}
	if p.Has(mqtt.PropPayloadFormat) {
		l.PayloadFormat = &p.PayloadFormat
	}
	for _, u := range p.User {
		l.User = append(l.User, [2]string{string(u.Key), string(u.Value)})
	}
	return l
}

// reader is a store that is open for reading only: to Check and Export, not to serve.
type reader struct {
	db     *pebble.DB
	lock   io.Closer
	format uint64
	last   applied
}

// damagedError is the error of files that are no store any more.
type damagedError struct{ cause error }

func (e *damagedError) Error() string { return "the files are damaged: " + firstLine(e.cause) }
func (e *damagedError) Unwrap() error { return e.cause }

// firstLine is an error without what Pebble adds below.
func firstLine(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

// ErrNoStore is wrapped by the errors of Check and Export for a folder without a store.
var ErrNoStore = errors.New("no store here")

// openReader opens the store in dir, and keeps others from opening it meanwhile.
func openReader(dir string) (_ *reader, err error) {
	if fi, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) || err == nil && !fi.IsDir() {
		return nil, fmt.Errorf("open %s: %w", dir, ErrNoStore)
	} else if err != nil {
		return nil, err
	}
	desc, err := pebble.Peek(dir, vfs.Default)
	switch {
	case err != nil:
		return nil, unreadable(dir, err)
	case !desc.Exists:
		return nil, fmt.Errorf("open %s: %w", dir, ErrNoStore)
	case desc.FormatMajorVersion > pebbleVersion:
		return nil, fmt.Errorf("open %s: %w: its files have format %d, this one knows %d", dir, ErrNewer, desc.FormatMajorVersion, pebbleVersion)
	}
	r := new(reader)
	// On a medium that nobody can write to no lock is needed, nor to be had.
	if r.lock, err = fsys.Lock(dir); err != nil && !errors.Is(err, syscall.EROFS) {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	err = r.guard(func() (err error) {
		r.db, err = pebble.Open(dir, &pebble.Options{FS: unlocked{vfs.Default}, ReadOnly: true, ErrorIfNotExists: true,
			FormatMajorVersion: pebbleVersion, Logger: readLogger{}, MaxOpenFiles: 256,
			EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}}) // it is an error, too
		return err
	})
	if err != nil {
		return nil, unreadable(dir, err)
	}
	if err = r.versions(dir); err != nil {
		return nil, err
	}
	return r, nil
}

// unreadable is the error of files that cannot be opened: they are damaged, unless they are somebody else's.
func unreadable(dir string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		err = &damagedError{err}
	}
	return fmt.Errorf("open %s: %w", dir, err)
}

// versions reads what the store says of itself.
func (r *reader) versions(dir string) error {
	var format, last []byte
	err := r.scan([]byte{kindMeta}, afterKind(kindMeta), func(key, value []byte) error {
		switch string(key) {
		case metaFormat:
			format = clone(value)
		case metaApplied:
			last = clone(value)
		}
		return nil
	})
	if err == nil {
		d := newDecoder(format)
		r.format = d.uint(1<<64 - 1)
		err = d.end()
	}
	if err == nil && r.format > formatVersion {
		return fmt.Errorf("open %s: %w: it has version %d, this one knows %d", dir, ErrNewer, r.format, formatVersion)
	}
	if err == nil {
		r.last, err = decodeApplied(last)
	}
	if err != nil {
		return unreadable(dir, fmt.Errorf("%s: %w", kindName(kindMeta), err))
	}
	return nil
}

func (r *reader) close() {
	if r.db != nil {
		_ = r.guard(r.db.Close) // of files that were only read
	}
	if r.lock != nil {
		r.lock.Close()
	}
}

// scan calls f with the keys from … below to, nil: the last one, and their values, which are valid until f returns.
func (r *reader) scan(from, to []byte, f func(key, value []byte) error) error {
	return r.guard(func() (err error) {
		it, err := r.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, it.Close()) }()
		for valid := it.First(); valid; valid = it.Next() {
			v, err := it.ValueAndErr()
			if err != nil {
				return err
			}
			if err := f(it.Key(), v); err != nil {
				return err
			}
		}
		return nil
	})
}

// get returns a copy of a value.
func (r *reader) get(key []byte) (v []byte, err error) {
	err = r.guard(func() error {
		found, c, err := r.db.Get(key)
		if err != nil {
			return err
		}
		v = append([]byte(nil), found...)
		return c.Close()
	})
	return v, err
}

// guard calls f, and returns as an error what Pebble would end the program for.
func (r *reader) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return f()
}

// readLogger ends what is being read when Pebble cannot go on.
type readLogger struct{}

func (readLogger) Infof(string, ...any)           {}
func (readLogger) Errorf(string, ...any)          {}
func (readLogger) Fatalf(format string, a ...any) { panic(fmt.Errorf(format, a...)) }

// unlocked leaves the lock to openReader.
type unlocked struct{ vfs.FS }

func (unlocked) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (u unlocked) Unwrap() vfs.FS { return u.FS }

// afterKind is the first key after those of a kind.
func afterKind(kind byte) []byte { return []byte{kind + 1} }
