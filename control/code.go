package control

import (
	"fmt"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// Codes of errors, beside those of pki.Code.
const (
	CodeRequest     = "bad-request" // the request itself is wrong
	CodeUnsupported = "unsupported" // this broker has no such part
	CodeBusy        = "busy"        // the same is under way
	CodeStopping    = "stopping"
	CodeStore       = "store"     // store.ErrDegraded
	CodeUnknown     = "unknown"   // registry.ErrUnknown
	CodeExists      = "exists"    // registry.ErrExists
	CodeRevoked     = "revoked"   // registry.ErrRevoked
	CodeEnded       = "ended"     // registry.ErrEnded
	CodeIssuer      = "issuer"    // registry.ErrIssuer
	CodeKeyLost     = "key-lost"  // registry.ErrKey
	CodeDisabled    = "disabled"  // identity.ErrDisabled
	CodeRootKey     = "root-key"  // pki.ErrNoRootKey
	CodeWaiting     = "waiting"   // pki.ErrWaiting
	CodeNotSeen     = "not-seen"  // pki.ErrNotSeen
	CodeLocked      = "locked"    // pki.ErrLocked
	CodeClock       = "clock"     // pki.ErrClock
	CodeCancelled   = "cancelled" // context.Canceled
)

var _ = []error{identity.ErrDisabled, registry.ErrUnknown, pki.ErrLocked}

func (e *PartialError) Error() string {
	if len(e.Failed) == 1 {
		return fmt.Sprintf("%s: %v", e.What, &e.Failed[0].Error)
	}
	return fmt.Sprintf("%s: %d done, %d failed", e.What, e.Done, len(e.Failed))
}

// Unwrap returns an *Error for each failure.
func (e *PartialError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i := range e.Failed {
		errs[i] = &e.Failed[i].Error
	}
	return errs
}
