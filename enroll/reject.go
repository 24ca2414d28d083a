package enroll

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store"
)

// Code names why a request was rejected, for firmware that branches on it. The codes of a CSR that the CA refuses are those
// of package pki.
type Code string

// The codes.
const (
	CodeRequest      Code = "bad-request"    // not the JSON that is wanted
	CodeMistyped     Code = "token-mistyped" // the checksum of the token is wrong
	CodeDenied       Code = "denied"         // no claim that is known
	CodeClaimExpired Code = "claim-expired"
	CodeClaimUsed    Code = "claim-used"
	CodeIDNotAllowed Code = "id-not-allowed" // the claim is not for this device
	CodeIDTaken      Code = "id-taken"       // another key has this id
	CodeOtherKey     Code = "other-key"      // the device waits for approval with another key
	CodeNotActive    Code = "not-active"     // the device is disabled, quarantined or revoked
	CodeUnknown      Code = "unknown-device"
	CodeExpired      Code = "expired" // the certificate ended too long ago
	CodeSlowDown     Code = "slow-down"
	CodeBusy         Code = "busy"
	CodeUnavailable  Code = "unavailable" // the broker can not store anything at present
	CodeInternal     Code = "internal"
)

// Rejection is why a device does not get what it asked for.
type Rejection struct {
	Code   Code
	Reason string // plain words for the device
	Fix    string // what to do
	// RetryAfter is when to ask again; zero: not without a change.
	RetryAfter time.Duration
	// Detail is for the operator's log alone.
	Detail string
}

func (r *Rejection) Error() string {
	if r.Detail == "" {
		return string(r.Code) + ": " + r.Reason
	}
	return string(r.Code) + ": " + r.Detail
}

// Hint implements what errors for people have.
func (r *Rejection) Hint() string { return r.Fix }

// say are the words of a code.
func (c Code) say() (reason, fix string, retry time.Duration) {
	switch c {
	case CodeRequest:
		return "the request is not understood", "send a JSON object as the handbook shows it", 0
	case CodeMistyped:
		return "the token has a typing error", "compare it with what sealmq claim create printed", 0
	case CodeDenied:
		return "the claim is not accepted", "ask the operator for another one: sealmq claim create", 0
	case CodeClaimExpired:
		return "the claim has expired", "ask the operator for another one: sealmq claim create", 0
	case CodeClaimUsed:
		return "the claim has been used up", "ask the operator for another one: sealmq claim create", 0
	case CodeIDNotAllowed:
		return "the claim is not for this device", "send the id that the claim was made for", 0
	case CodeIDTaken:
		return "a device with this id has a certificate for another key", "renew with that certificate, or have the operator revoke it first: sealmq device show ID", 0
	case CodeOtherKey:
		return "the device waits for approval with another key", "ask with the key of the first request, or have the operator remove it: sealmq device purge ID", 0
	case CodeNotActive:
		return "the device is not active", "have the operator look at it: sealmq device show ID", 0
	case CodeUnknown:
		return "the device is not known", "enrol with a claim", 0
	case CodeExpired:
		return "the certificate ended too long ago to be renewed", "enrol with a claim", 0
	case CodeSlowDown:
		return "too many requests", "wait before the next request", time.Minute
	case CodeBusy:
		return "too many devices enrol at once", "ask again later", 10 * time.Second
	case CodeUnavailable:
		return "the broker can not issue certificates at present", "ask again later", time.Minute
	case CodeInternal:
		return "the broker has failed to issue the certificate", "ask again later; the operator's log has the cause", time.Minute
	}
	return string(c), "", 0
}

func reject(c Code, detail string) *Rejection {
	reason, fix, retry := c.say()
	return &Rejection{Code: c, Reason: reason, Fix: fix, RetryAfter: retry, Detail: detail}
}

func rejectFor(c Code, wait time.Duration, detail string) *Rejection {
	r := reject(c, detail)
	r.RetryAfter = wait
	return r
}

// rejectBecause is for requests that are not understood: the device is told what is wrong with them.
func rejectBecause(err error) *Rejection {
	r := reject(CodeRequest, "")
	r.Reason = clipTo(err.Error(), 200)
	return r
}

// waiting is the answer to a device that an operator has to approve.
type waiting struct{ retry time.Duration }

func (*waiting) Error() string { return "the device waits for approval" }

// rejection says what a device is told of an error.
func rejection(err error) *Rejection {
	var r *Rejection
	var p *pki.Refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, registry.ErrRevoked), errors.Is(err, identity.ErrDisabled):
		return reject(CodeNotActive, err.Error())
	case errors.Is(err, registry.ErrUnknown):
		return reject(CodeUnknown, err.Error())
	case errors.Is(err, registry.ErrExists):
		return reject(CodeIDTaken, err.Error())
	case errors.Is(err, registry.ErrKey):
		return &Rejection{Code: Code(pki.CodeKeyUsed), Reason: "the key was revoked since others know it", Fix: "make another key", Detail: err.Error()}
	case errors.As(err, &p):
		return &Rejection{Code: Code(p.Code), Reason: refusalReason(p), Fix: cmp.Or(p.Hint(), "have the operator look into the log"), Detail: err.Error()}
	case errors.Is(err, store.ErrDegraded), errors.Is(err, pki.ErrNoKey), errors.Is(err, pki.ErrLocked), errors.Is(err, pki.ErrClock):
		return reject(CodeUnavailable, err.Error())
	}
	return reject(CodeInternal, err.Error())
}

// refusalReason leaves out what others are called, and what a signing program has said.
func refusalReason(p *pki.Refusal) string {
	switch p.Code {
	case pki.CodeCSR, pki.CodeSignature, pki.CodeKeyKind, pki.CodeKeySmall, pki.CodeIdentity:
		return clipTo(p.Err.Error(), 200)
	case pki.CodeKeyWeak:
		return "the key is of a kind known to be broken"
	case pki.CodeKeyUsed:
		return "another device, or the CA, has this key"
	case pki.CodeLifetime:
		return "the CA ends before the certificate would"
	}
	return fmt.Sprintf("the CA's policy refuses the request (%s)", p.Code)
}

// clip makes a short text for a log of what came from a network.
func clip(s string) string { return clipTo(s, 80) }

func clipTo(s string, most int) string {
	b := make([]byte, 0, min(len(s), most))
	for _, r := range s {
		if r < ' ' || r == 0x7F || r >= 0x80 && r < 0xA0 {
			r = '\uFFFD'
		}
		if len(b)+4 > most {
			return string(b) + "…"
		}
		b = append(b, string(r)...)
	}
	return string(b)
}
