package enroll

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// enrol answers $pki/enroll/CLIENTID/request.
func (s *Service) enrol(j *job) (*identity.Issued, error) {
	if j.what.client != j.ClientID {
		return nil, rejectBecause(errors.New("the topic has another client identifier than the connection"))
	}
	q, csr, err := parseEnrol(j.Payload)
	if err != nil {
		return nil, rejectBecause(err)
	}
	c, err := s.credential(j, q.Token)
	if err != nil {
		return nil, err
	}
	id := q.ID
	if id == "" {
		id = j.ClientID
	}
	a, err := newAsk(id, csr, q.Attributes, "claim "+c.ID+" by "+clip(j.Addr))
	if err != nil {
		return nil, err
	}
	return s.grant(c, a)
}

// slow rejects peers that ask too much, or have failed too often. Devices that show a registered certificate, and want
// nothing else than it is good for, are not counted: all of a site may come from one address.
func (s *Service) slow(j *job) error {
	now := s.now()
	if j.what.op == opRenew || j.what.op == opSeen {
		if _, _, err := s.holder(j); err == nil {
			return nil
		}
	}
	var wait time.Duration
	s.addresses.with(j.from, func(p *peer) {
		if wait = p.wait(now); wait == 0 {
			wait = p.requests.take(now, s.o.Config.RequestsPerHour)
		}
	})
	if wait == 0 {
		s.clients.with(j.ClientID, func(b *backoff) { wait = b.wait(now) })
	}
	if wait > 0 {
		return rejectFor(CodeSlowDown, wait, "")
	}
	return nil
}

// credential finds the claim that a device has shown. Who guesses has to wait longer each time.
func (s *Service) credential(j *job, token string) (*claim, error) {
	if j.Kind == string(pki.Claim) {
		if c := s.claims.named(j.Name); c != nil && s.registered(registry.ID(pki.Claim, j.Name), j) {
			return c, nil
		}
		return nil, reject(CodeDenied, "claim certificate of the unknown claim "+clip(j.Name))
	}
	if token == "" {
		return nil, rejectBecause(errors.New("member token is missing, and the client has no claim certificate"))
	}
	sec, err := parseToken(token)
	if err != nil {
		return nil, reject(CodeMistyped, "")
	}
	c := s.claims.holding(sec)
	now := s.now()
	if c == nil || s.claims.revoked(c) {
		s.addresses.with(j.from, func(p *peer) {
			p.failed(now, backoffMost)
			j.guesser = p.wait(now) > 0
		})
		s.clients.with(j.ClientID, func(b *backoff) { b.failed(now, backoffMostID) })
		if c != nil {
			return nil, reject(CodeDenied, "claim "+c.ID+" is revoked")
		}
		return nil, reject(CodeDenied, "unknown token")
	}
	s.clients.with(j.ClientID, func(b *backoff) { *b = backoff{} })
	return c, nil
}

// registered reports whether the certificate that the client has shown is one of a holder's that was not ended.
func (s *Service) registered(id string, j *job) bool {
	d, _ := s.o.Registry.Get(id)
	key := hex.EncodeToString(j.Key[:])
	return d.State == registry.Active && slices.ContainsFunc(d.Certificates, func(c registry.Certificate) bool {
		return c.Serial == j.Serial && c.SPKI == key && c.State == registry.CertActive
	})
}

// accepted, pendingAnswer and rejected are the answers, as JSON.
type accepted struct {
	Status      string    `json:"status"` // "accepted"
	Device      string    `json:"device"`
	Certificate string    `json:"certificate"` // PEM
	CA          string    `json:"ca"`          // PEM
	Serial      string    `json:"serial"`
	NotAfter    time.Time `json:"not_after"`
	RenewAt     time.Time `json:"renew_at"`
}

type pendingAnswer struct {
	Status     string `json:"status"` // "pending"
	Reason     string `json:"reason"`
	RetryAfter int    `json:"retry_after"` // s
}

type rejected struct {
	Status     string `json:"status"` // "rejected"
	Code       Code   `json:"code"`
	Reason     string `json:"reason"`
	Fix        string `json:"fix"`
	RetryAfter int    `json:"retry_after,omitempty"` // s
}

// seconds rounds up: who waits that long is not too early.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// answer sends what has become of a request.
func (s *Service) answer(j *job, out *identity.Issued, err error) {
	var w *waiting
	switch {
	case err == nil:
		s.log(j, slog.LevelInfo, "certificate sent", slog.String("device", out.Device), slog.String("serial", serialOf(out)))
		s.send(j, "accepted", encode(accepted{"accepted", out.Device, string(out.Cert), string(out.CA), serialOf(out),
			out.Leaf.NotAfter.UTC(), out.RenewAt.UTC().Truncate(time.Second)}))
	case errors.As(err, &w):
		s.log(j, slog.LevelInfo, "device waits for approval")
		s.send(j, "pending", encode(pendingAnswer{"pending", "the device waits for approval by an operator", seconds(w.retry)}))
	default:
		s.refuse(j, rejection(err))
	}
}

// refuse sends a rejection, in the form of the request's protocol.
func (s *Service) refuse(j *job, r *Rejection) {
	s.logRejection(j, r)
	if j.guesser {
		defer j.Close(mqtt.NotAuthorized, "too many unknown tokens")
	}
	switch j.what.op {
	case opCreate, opCreateKeys, opProvision:
		s.refuseAWS(j, r)
	case opEnrol, opRenew:
		s.send(j, "rejected", encode(rejected{"rejected", r.Code, r.Reason, r.Fix, seconds(r.RetryAfter)}))
	case opSeen:
		if j.respond != "" {
			s.send(j, "rejected", encode(rejected{"rejected", r.Code, r.Reason, r.Fix, seconds(r.RetryAfter)}))
		}
	}
}

// logRejection writes a line a second of each code: whoever floods shall not flood the log.
func (s *Service) logRejection(j *job, r *Rejection) {
	level, left := slog.LevelWarn, 0
	switch r.Code {
	case CodeSlowDown, CodeBusy:
		level = slog.LevelDebug
	case CodeInternal, CodeUnavailable:
		level = slog.LevelError
	}
	if level != slog.LevelDebug {
		var ok bool
		if left, ok = s.lines.take(string(r.Code), s.now()); !ok {
			level, left = slog.LevelDebug, 0
		}
	}
	attrs := []slog.Attr{slog.String("code", string(r.Code)), slog.String("cause", clipTo(r.Detail, 300))}
	if left > 0 {
		attrs = append(attrs, slog.Int("left_out", left))
	}
	s.log(j, level, "request rejected", attrs...)
}

func (s *Service) log(j *job, level slog.Level, text string, attrs ...slog.Attr) {
	s.o.Log.LogAttrs(s.ctx, level, text, append([]slog.Attr{slog.String("request", clip(j.Topic)), slog.String("client", clip(j.ClientID)),
		slog.String("peer", clip(j.Addr))}, attrs...)...)
}

// encode cannot fail for the types that it is given.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func jsonProperties() *mqtt.Properties {
	p := &mqtt.Properties{PayloadFormat: 1, ContentType: []byte("application/json")}
	p.Set(mqtt.PropPayloadFormat, mqtt.PropContentType)
	return p
}

// send answers to the response topic that the client has asked for, or below the topic of the request.
func (s *Service) send(j *job, word string, payload []byte) {
	props := new(mqtt.Properties)
	if !j.what.cbor {
		props = jsonProperties()
	}
	if j.data != nil {
		props.CorrelationData = j.data
		props.Set(mqtt.PropCorrelationData)
	}
	if j.respond != "" && !strings.ContainsAny(j.respond, "+#") && j.Reply(j.respond, payload, props) {
		return
	}
	if !j.Reply(j.what.base+word, payload, props) {
		level := slog.LevelInfo
		if word == "rejected" {
			level = slog.LevelDebug // strangers may have as many as they like
		}
		s.log(j, level, "answer not sent: the client is gone, or has not subscribed", slog.String("topic", clip(j.what.base+word)))
	}
}
