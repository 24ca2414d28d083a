package enroll

import (
	"encoding/hex"
	"log/slog"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// holder is the device whose certificate the client has shown: one of ours that is registered, or its maker's. A certificate
// of another CA may bear the name of any device.
func (s *Service) holder(j *job) (d registry.Device, shown *registry.Certificate, err error) {
	if j.Kind == string(pki.Device) {
		d, _ = s.o.Registry.Get(j.Name)
		key := hex.EncodeToString(j.Key[:])
		for i, c := range d.Certificates {
			if c.Serial == j.Serial && c.SPKI == key {
				return d, &d.Certificates[i], nil
			}
		}
		if d.Attributes[attributePinned] == key && !j.Expired {
			return d, nil, nil
		}
	}
	r := reject(CodeDenied, "no certificate that is registered: "+clip(j.Serial))
	r.Reason, r.Fix = "this takes a device's certificate", "connect with the certificate, or enrol with a claim"
	return d, nil, r
}

// renew answers $pki/renew/request.
func (s *Service) renew(j *job) (*identity.Issued, error) {
	d, shown, err := s.holder(j)
	if err != nil {
		return nil, err
	}
	id, now := d.ID, s.now()
	if d.State == registry.Pending {
		r := rejectFor(CodeNotActive, approvalRetry, "device "+id+" is pending")
		r.Reason, r.Fix = "the device waits for approval by an operator", "ask again later"
		return nil, r
	}
	_, csr, err := parseEnrol(j.Payload)
	if err != nil {
		return nil, rejectBecause(err)
	}
	a, err := newAsk(id, csr, nil, "renewal by "+clip(j.Addr))
	if err != nil {
		return nil, err
	}
	defer s.one(id).Unlock()
	if shown != nil {
		switch {
		case shown.State != registry.CertActive:
			return nil, reject(CodeNotActive, "certificate "+shown.Serial+" is "+string(shown.State))
		case now.Sub(shown.NotAfter) > s.o.Grace:
			return nil, reject(CodeExpired, "certificate "+shown.Serial+" ended at "+shown.NotAfter.Format(time.RFC3339))
		}
	}
	if out := s.answers.get(id, a.spki, &d, now); out != nil && serialOf(out) != j.Serial && (d.State == registry.Active || d.State == registry.Quarantined) {
		return out, nil
	}
	var wait time.Duration
	s.renewals.with(id, func(h *hourly) { wait = h.take(now, s.o.Config.RenewalsPerHour) })
	if wait > 0 {
		return nil, rejectFor(CodeSlowDown, wait, "device "+id+" renews too often")
	}
	out, err := s.issueKnown(a)
	if err != nil && rejection(err).Code == CodeUnavailable { // it will ask again, as it is told to
		s.renewals.with(id, (*hourly).giveBack)
	}
	return out, err
}

// sawRoots answers $pki/cacerts/seen, when an answer is asked for.
func (s *Service) sawRoots(j *job) {
	d, _, err := s.holder(j)
	if err != nil {
		s.refuse(j, rejection(err))
		return
	}
	roots, err := parseSeen(j.Payload)
	if err != nil {
		s.refuse(j, rejectBecause(err))
		return
	}
	s.o.Identity.SawRoots(d.ID, roots)
	s.log(j, slog.LevelDebug, "device has roots", slog.Int("roots", len(roots)))
	if j.respond != "" {
		s.send(j, "accepted", encode(struct {
			Status string `json:"status"`
		}{"accepted"}))
	}
}

// Subscribed answers a subscription to AdviceTopic, r.Topic being the filter, if the certificate that the client has shown
// is due. It never blocks.
func (s *Service) Subscribed(r *Request) {
	switch r.Topic {
	case AdviceTopic, "$pki/renew/+", "$pki/renew/#", "$pki/+/advice", "$pki/#":
		s.enqueue(&job{Request: r, what: action{op: opAdvise}, from: network(r.Addr)}) // one that is lost comes with the next connection
	}
}

func (s *Service) advise(j *job) {
	if j.Kind != string(pki.Device) {
		return
	}
	d, _ := s.o.Registry.Get(j.Name)
	if payload, due := s.AdviceFor(&d, j.Serial); due {
		s.log(j, slog.LevelInfo, "device told to renew its certificate")
		j.Reply(AdviceTopic, payload, jsonProperties())
	}
}

// AdviceFor is the message for AdviceTopic about a certificate of a device, or about the newest that is active when serial is
// empty, if it should be renewed: two thirds of its life are over, or the trust in its CA is going to end.
func (s *Service) AdviceFor(d *registry.Device, serial string) (payload []byte, due bool) {
	for _, c := range d.Certificates {
		if c.State != registry.CertActive || serial != "" && c.Serial != serial {
			continue
		}
		payload, due = Advice(c.NotBefore, c.NotAfter, s.now())
		return payload, due || s.o.Identity.Outgoing(c.Issuer)
	}
	return nil, false
}

// Advice is the message for AdviceTopic, JSON, that tells a device when to renew its certificate, and whether that is due:
// it is sent then.
func Advice(notBefore, notAfter, now time.Time) (payload []byte, due bool) {
	at := identity.RenewAt(notBefore, notAfter)
	return encode(struct {
		RenewAt  time.Time `json:"renew_at"`
		NotAfter time.Time `json:"not_after"`
	}{at.UTC().Truncate(time.Second), notAfter.UTC()}), !now.Before(at)
}
