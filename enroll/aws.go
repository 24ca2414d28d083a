package enroll

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// Fleet provisioning by claim, as firmware for AWS IoT Core speaks it. Its certificate comes before the name of the thing is
// agreed upon; ours has the name in it. So the name is the client identifier of the connection that asks for the certificate,
// and until the second step the device is pending in the registry: its certificate is not admitted.
const (
	ownershipLife = time.Hour
	ownershipMost = 5   // certificates for a device that never takes the second step
	maxOwnership  = 256 // bytes of an ownership token as sent
)

// awsCreate and awsProvision are the requests.
type awsCreate struct {
	CertificateSigningRequest string `json:"certificateSigningRequest"`
}

type awsProvision struct {
	CertificateOwnershipToken string            `json:"certificateOwnershipToken"`
	Parameters                map[string]string `json:"parameters"`
}

// awsAnswer is an object whose values are texts, numbers, and objects of texts.
type awsAnswer map[string]any

// aws answers the topics of fleet provisioning.
func (s *Service) aws(j *job) (awsAnswer, error) {
	if j.what.op == opCreateKeys {
		r := reject(CodeRequest, "")
		r.Reason, r.Fix = "private keys are made by devices alone", "publish a CSR to "+createTopic+"json"
		return nil, r
	}
	if j.Kind != string(pki.Claim) {
		r := reject(CodeDenied, "fleet provisioning without a claim certificate")
		r.Reason, r.Fix = "this takes a claim certificate", "connect with one: sealmq claim create --certificate"
		return nil, r
	}
	c, err := s.credential(j, "")
	if err != nil {
		return nil, err
	}
	if err := s.claims.standing(c, s.now()); err != nil {
		return nil, err
	}
	if j.what.op == opCreate {
		return s.awsCreate(j, c)
	}
	return s.awsProvision(j, c)
}

func (s *Service) awsCreate(j *job, c *claim) (awsAnswer, error) {
	q, err := parseCreate(j.Payload, j.what.cbor)
	if err != nil {
		return nil, rejectBecause(err)
	}
	csr, err := readCSR(q.CertificateSigningRequest)
	if err != nil {
		return nil, &pki.Refusal{Code: pki.CodeCSR, Err: errors.New("certificateSigningRequest is no CSR")}
	}
	a, err := newAsk(j.ClientID, csr, nil, "claim "+c.ID+" by "+clip(j.Addr))
	if err != nil {
		return nil, err
	}
	if !c.allows(a.id) {
		return nil, reject(CodeIDNotAllowed, fmt.Sprintf("claim %s is not for device %s", c.ID, a.id))
	}
	out, token, err := s.reserve(c, a)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(out.Leaf.Raw)
	s.log(j, slog.LevelInfo, "certificate sent, good after provisioning", slog.String("device", a.id), slog.String("serial", serialOf(out)))
	return awsAnswer{
		"certificateId":             hex.EncodeToString(id[:]),
		"certificatePem":            string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: out.Leaf.Raw})),
		"certificateOwnershipToken": token,
	}, nil
}

// reserve issues the certificate of a device that is pending until the token is used.
func (s *Service) reserve(c *claim, a *ask) (out *identity.Issued, token string, err error) {
	defer s.one(a.id).Unlock()
	now := s.now()
	d, known := s.o.Registry.Get(a.id)
	p := s.pending.get(a.id, now)
	again := known && p != nil && p.Owner != nil && !p.Done && p.Claim == c.ID && (d.State == registry.Pending || d.State == registry.Active)
	next := &pending{Claim: c.ID, SPKI: a.spki[:], Until: now.Add(ownershipLife), Fresh: !known, Tries: 1}
	switch {
	case again:
		next.Fresh, next.Tries = p.Fresh, p.Tries+1
		if p.Tries >= ownershipMost {
			return nil, "", rejectFor(CodeSlowDown, p.Until.Sub(now), fmt.Sprintf("device %s was given %d certificates and has used none", a.id, p.Tries))
		}
	case !known:
	case d.State != registry.Active:
		return nil, "", reject(CodeNotActive, fmt.Sprintf("device %s is %s", a.id, d.State))
	case hasCertificate(&d) || d.Attributes[attributePinned] != "":
		return nil, "", reject(CodeIDTaken, "device "+a.id+" has a certificate")
	case !c.names(a.id):
		return nil, "", rejectUnnamed(c, a.id)
	}
	if c.Approve && next.Fresh {
		next.Until = now.Add(s.o.Config.PendingLife)
	}
	var sec secret
	rand.Read(sec[:])
	owner := sec.hash()
	next.Owner = owner[:]
	if !again {
		if err := s.claims.take(c, now); err != nil {
			return nil, "", err
		}
	}
	undo := func() {
		if !again {
			s.pending.forget(a.id)
			s.claims.giveBack(c)
		}
	}
	// Known to wait before it has a certificate: if that is all when the broker crashes, the device may begin again.
	if err := s.pending.put(a.id, next, s.o.Config.PendingDevices); err != nil {
		undo()
		return nil, "", err
	}
	if again {
		// As it was before, or as it has to be to get another certificate.
		ctx := registry.As(s.ctx, "fleet provisioning")
		if err := s.o.Registry.Withdraw(ctx, a.id, only(registry.Pending, registry.Active)); err != nil {
			return nil, "", err
		}
	}
	if known {
		if err = s.mark(c, a); err == nil {
			out, err = s.issueKnown(a)
		}
	} else {
		out, err = s.o.Identity.Issue(registry.As(s.ctx, "claim "+c.ID), identity.Order{ID: a.id, CSR: a.csr, Groups: c.Groups,
			Attributes: c.mark(nil), State: registry.Pending, Must: identity.BeNew, Via: a.via})
	}
	if err != nil {
		undo()
		return nil, "", err
	}
	token = a.id + "." + base64.RawURLEncoding.EncodeToString(sec[:])
	if !known {
		return out, token, nil
	}
	err = s.o.Registry.Update(registry.As(s.ctx, "claim "+c.ID), a.id, func(d *registry.Device) error {
		if err := only(registry.Active)(d.State); err != nil {
			return err
		}
		d.State = registry.Pending
		return nil
	})
	if err != nil { // the use is spent: the device may begin again with it
		return nil, "", err
	}
	return out, token, nil
}

// codeOwnership is a code of fleet provisioning alone.
const codeOwnership Code = "ownership-token"

func (s *Service) awsProvision(j *job, c *claim) (awsAnswer, error) {
	q, err := parseProvision(j.Payload, j.what.cbor)
	if err != nil {
		return nil, rejectBecause(err)
	}
	if err := checkAttributes(q.Parameters); err != nil {
		return nil, rejectBecause(err)
	}
	id, owner, err := parseOwnership(q.CertificateOwnershipToken)
	if err != nil {
		return nil, err
	}
	defer s.one(id).Unlock()
	p := s.pending.get(id, s.now())
	if p == nil || p.Claim != c.ID || subtle.ConstantTimeCompare(p.Owner, owner[:]) != 1 {
		return nil, rejectOwnership("no token of device " + id)
	}
	ctx := registry.As(s.ctx, "claim "+c.ID+" template "+clip(j.what.name))
	err = s.o.Registry.Update(ctx, id, func(d *registry.Device) error {
		if d.State == registry.Pending && c.Approve && p.Fresh {
			return &waiting{approvalRetry}
		}
		if err := only(registry.Pending, registry.Active)(d.State); err != nil {
			return err
		}
		if p.Done { // asked for again, it is answered again
			return errDone
		}
		attributes := union(d.Attributes, q.Parameters)
		if len(attributes) > registry.MaxAttributes {
			return rejectBecause(fmt.Errorf("%d parameters and attributes, at most %d wanted", len(attributes), registry.MaxAttributes))
		}
		d.State, d.Attributes = registry.Active, attributes
		return nil
	})
	switch {
	case err == nil:
		done := *p
		done.Done = true
		if err := s.pending.put(id, &done, s.o.Config.PendingDevices); err != nil {
			return nil, err
		}
	case errors.Is(err, errDone):
	case errors.Is(err, registry.ErrUnknown):
		return nil, rejectOwnership("device " + id + " is gone")
	default:
		return nil, err
	}
	s.log(j, slog.LevelInfo, "device provisioned", slog.String("device", id))
	config := maps.Clone(c.Attributes)
	if config == nil {
		config = map[string]string{}
	}
	return awsAnswer{"thingName": id, "deviceConfiguration": config}, nil
}

// errDone: there is nothing left to do.
var errDone = errors.New("the device is provisioned already")

// union has what is in a or b; a wins.
func union(a, b map[string]string) map[string]string {
	m := maps.Clone(b)
	if m == nil {
		m = make(map[string]string)
	}
	maps.Copy(m, a)
	return m
}

func rejectOwnership(detail string) *Rejection {
	return &Rejection{Code: codeOwnership, Reason: "the ownership token is not valid, or has expired", Fix: "ask for another certificate", Detail: detail}
}

// parseOwnership reads a token that reserve has made.
func parseOwnership(token string) (id string, owner [sha256.Size]byte, err error) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 || len(token) > maxOwnership {
		return "", owner, rejectOwnership("it is none")
	}
	id = token[:i]
	b, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil || len(b) != secretSize || pki.CheckID(id) != nil {
		return "", owner, rejectOwnership("it is none")
	}
	sec := secret(b)
	return id, sec.hash(), nil
}

func parseCreate(payload []byte, cbor bool) (q awsCreate, err error) {
	if !cbor {
		return q, parse(payload, &q)
	}
	m, err := decodeCBOR(payload)
	if err == nil {
		q.CertificateSigningRequest, err = m.text("certificateSigningRequest")
	}
	return q, err
}

func parseProvision(payload []byte, cbor bool) (q awsProvision, err error) {
	if !cbor {
		return q, parse(payload, &q)
	}
	m, err := decodeCBOR(payload)
	if err == nil {
		q.CertificateOwnershipToken, err = m.text("certificateOwnershipToken")
	}
	if err == nil {
		q.Parameters, err = m.texts("parameters")
	}
	return q, err
}

// answerAWS sends what has become of a request.
func (s *Service) answerAWS(j *job, out awsAnswer, err error) {
	var w *waiting
	switch {
	case err == nil:
		s.send(j, "accepted", out.encode(j.what.cbor))
	case errors.As(err, &w):
		r := reject(CodeNotActive, "it waits for approval")
		r.Reason, r.Fix, r.RetryAfter = "the device waits for approval by an operator", "ask again later", w.retry
		s.refuse(j, r)
	default:
		s.refuse(j, rejection(err))
	}
}

// refuseAWS sends a rejection as AWS has them.
func (s *Service) refuseAWS(j *job, r *Rejection) {
	status, code := 400, "InvalidRequest"
	switch r.Code {
	case CodeRequest:
	case codeOwnership:
		code = "InvalidCertificateOwnershipToken"
	case CodeDenied, CodeClaimExpired, CodeClaimUsed, CodeIDNotAllowed, CodeNotActive, CodeUnknown:
		status, code = 403, "AccessDenied"
	case CodeIDTaken, CodeOtherKey:
		status, code = 409, "ResourceAlreadyExists"
	case CodeSlowDown, CodeBusy:
		status, code = 429, "Throttling"
	case CodeUnavailable:
		status, code = 503, "ServiceUnavailable"
	case CodeInternal:
		status, code = 500, "InternalFailure"
	default: // what the CA says of a CSR
		code = "InvalidCertificateSigningRequest"
	}
	text := r.Reason
	if r.Fix != "" {
		text += ": " + r.Fix
	}
	s.send(j, "rejected", awsAnswer{"statusCode": status, "errorCode": code, "errorMessage": text}.encode(j.what.cbor))
}

func (m awsAnswer) encode(cbor bool) []byte {
	if cbor {
		var b bytes.Buffer
		appendCBOR(&b, m)
		return b.Bytes()
	}
	return encode(m)
}
