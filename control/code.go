package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/sealmq/sealmq/enroll"
	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store"
)

// Codes of errors. What the CA refuses to sign has the pki.Code of its pki.Refusal instead.
const (
	CodeRequest     = "bad-request"    // the request itself is wrong
	CodeNotFound    = "not-found"      // what it names is not there
	CodeUnsupported = "unsupported"    // whoever answers has no such part
	CodeBusy        = "busy"           // the same is under way, or too much
	CodeStopping    = "stopping"       // the broker ends
	CodeCancelled   = "cancelled"      // context.Canceled
	CodeStore       = "store"          // store.ErrDegraded
	CodeUnknown     = "unknown"        // registry.ErrUnknown
	CodeExists      = "exists"         // registry.ErrExists
	CodeRevoked     = "revoked"        // registry.ErrRevoked
	CodeEnded       = "ended"          // registry.ErrEnded
	CodeIssuer      = "issuer"         // registry.ErrIssuer
	CodeKeyLost     = "key-lost"       // registry.ErrKey
	CodeDisabled    = "disabled"       // identity.ErrDisabled
	CodeNoClaim     = "no-claim"       // enroll.ErrNoClaim
	CodeClaim       = "claim-exists"   // enroll.ErrClaim
	CodeNoFactory   = "no-factory"     // enroll.ErrNoFactory
	CodeFactory     = "factory-exists" // enroll.ErrFactory
	CodeProof       = "proof"          // enroll.ErrProof
	CodeNoCA        = "no-ca"          // pki.ErrNoCA
	CodeNoRootKey   = "no-root-key"    // pki.ErrNoRootKey
	CodeWaiting     = "waiting"        // pki.ErrWaiting
	CodeNotSeen     = "not-seen"       // pki.ErrNotSeen
	CodeLocked      = "locked"         // pki.ErrLocked
	CodeClock       = "clock"          // pki.ErrClock
)

// meaning of a code: the error that it stands for, and the status of its answer.
type meaning struct {
	code   string
	err    error
	status int
}

func meanings() []meaning {
	return []meaning{
		{CodeCancelled, context.Canceled, http.StatusServiceUnavailable},
		{CodeStore, store.ErrDegraded, http.StatusServiceUnavailable},
		{CodeStopping, registry.ErrClosed, http.StatusServiceUnavailable},
		{CodeUnknown, registry.ErrUnknown, http.StatusNotFound},
		{CodeExists, registry.ErrExists, http.StatusConflict},
		{CodeRevoked, registry.ErrRevoked, http.StatusUnprocessableEntity},
		{CodeEnded, registry.ErrEnded, http.StatusUnprocessableEntity},
		{CodeIssuer, registry.ErrIssuer, http.StatusUnprocessableEntity},
		{CodeKeyLost, registry.ErrKey, http.StatusUnprocessableEntity},
		{CodeDisabled, identity.ErrDisabled, http.StatusUnprocessableEntity},
		{CodeStopping, enroll.ErrClosed, http.StatusServiceUnavailable},
		{CodeNoClaim, enroll.ErrNoClaim, http.StatusNotFound},
		{CodeClaim, enroll.ErrClaim, http.StatusConflict},
		{CodeNoFactory, enroll.ErrNoFactory, http.StatusNotFound},
		{CodeFactory, enroll.ErrFactory, http.StatusConflict},
		{CodeProof, enroll.ErrProof, http.StatusUnprocessableEntity},
		{CodeNoCA, pki.ErrNoCA, http.StatusUnprocessableEntity},
		{CodeNoRootKey, pki.ErrNoRootKey, http.StatusUnprocessableEntity},
		{CodeWaiting, pki.ErrWaiting, http.StatusUnprocessableEntity},
		{CodeNotSeen, pki.ErrNotSeen, http.StatusUnprocessableEntity},
		{CodeLocked, pki.ErrLocked, http.StatusUnprocessableEntity},
		{CodeClock, pki.ErrClock, http.StatusUnprocessableEntity},
	}
}

// Error is the answer to a request that failed. It wraps the error that its Code stands for.
type Error struct {
	Text   string `json:"error"`
	Code   string `json:"code,omitempty"` // for programs: one of the constants, or a pki.Code; empty: any other cause
	Advice string `json:"hint,omitempty"`
	Status int    `json:"-"` // of HTTP; 0 for one of many devices
}

func (e *Error) Error() string { return e.Text }

// Hint says what to do, if something is known to help.
func (e *Error) Hint() string { return e.Advice }

// Unwrap returns the error of the package at the other end, or nil.
func (e *Error) Unwrap() error {
	for _, m := range meanings() {
		if m.code == e.Code {
			return m.err
		}
	}
	switch code := pki.Code(e.Code); code {
	case pki.CodeCSR, pki.CodeSignature, pki.CodeKeyKind, pki.CodeKeySmall, pki.CodeKeyWeak, pki.CodeKeyUsed, pki.CodeIdentity,
		pki.CodeLifetime, pki.CodePolicy:
		return &pki.Refusal{Code: code, Err: errors.New(e.Text)}
	}
	return nil
}

// asError makes an answer of err. What has no status of its own is the request's fault or the machine's, said in words.
func asError(err error) *Error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e
	}
	e := &Error{Text: err.Error(), Status: http.StatusUnprocessableEntity}
	var large *http.MaxBytesError
	var refusal *pki.Refusal
	switch {
	case errors.As(err, &large):
		e = &Error{Text: fmt.Sprintf("read request: more than %d bytes", large.Limit), Code: CodeRequest, Status: http.StatusRequestEntityTooLarge}
	case errors.As(err, &refusal):
		e.Code = string(refusal.Code)
	default:
		for _, m := range meanings() {
			if errors.Is(err, m.err) {
				e.Code, e.Status = m.code, m.status
				break
			}
		}
	}
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		e.Advice = h.Hint()
	}
	return e
}

// badRequest is the error of a request that can never be right.
func badRequest(format string, a ...any) error {
	return &Error{Text: fmt.Sprintf(format, a...), Code: CodeRequest, Status: http.StatusBadRequest}
}

// Outcome of an action over many devices. One that is as it should be already counts as done.
type Outcome struct {
	Done   int
	Failed []Failure
}

// Failure is one device, or one line of an import, that an action did not change.
type Failure struct {
	ID   string `json:"id,omitempty"`
	Line int    `json:"line,omitempty"` // of an import, from 1
	Error
}

// PartialError is what an action over many devices fails with when it changed only some of them, or none. It wraps the
// errors of all its failures.
type PartialError struct {
	What string // "revoke devices"
	Outcome
}

func (e *PartialError) Error() string {
	if len(e.Failed) == 1 {
		return fmt.Sprintf("%s: %s", e.What, e.Failed[0].Text)
	}
	return fmt.Sprintf("%s: %d done, %d failed, the first: %s", e.What, e.Done, len(e.Failed), e.Failed[0].Text)
}

// Hint is that of the first failure.
func (e *PartialError) Hint() string { return e.Failed[0].Advice }

// Unwrap returns an *Error for each failure.
func (e *PartialError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i := range e.Failed {
		errs[i] = &e.Failed[i].Error
	}
	return errs
}
