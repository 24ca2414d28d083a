package pki

import "errors"

// Code names the reason of a refusal, for programs that branch on it.
type Code string

const (
	CodeCSR       Code = "csr"           // not a CSR, or damaged
	CodeSignature Code = "csr-signature" // not signed by the key in it
	CodeKeyKind   Code = "key-kind"
	CodeKeySmall  Code = "key-small"
	CodeKeyWeak   Code = "key-weak"
	CodeKeyUsed   Code = "key-used" // another holder, or the CA, has this key
	CodeIdentity  Code = "identity" // the id, group or host asked for is not allowed
	CodeLifetime  Code = "lifetime"
	CodePolicy    Code = "policy" // a step of the caller
)

// Refusal is the error of a CSR or key that the CA does not sign.
type Refusal struct {
	Code Code
	Step string // the step that refused; empty outside of the pipeline
	Err  error
}

func (r *Refusal) Error() string {
	if r.Step == "" {
		return r.Err.Error()
	}
	return r.Step + ": " + r.Err.Error()
}

func (r *Refusal) Unwrap() error { return r.Err }

// Hint is one line of advice.
func (r *Refusal) Hint() string {
	switch r.Code {
	case CodeCSR, CodeSignature:
		return "make it anew: openssl req -new -key key.pem -subj / -out dev.csr"
	case CodeKeyKind, CodeKeySmall, CodeKeyWeak, CodeKeyUsed:
		return "make another key: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem"
	case CodeIdentity:
		return "an id has 1 to 64 of A-Z a-z 0-9 . _ : -"
	case CodeLifetime:
		return "renew the issuing CA, or ask for a shorter life"
	}
	return ""
}

func refuse(code Code, err error) *Refusal { return &Refusal{Code: code, Err: err} }

// refusedBy names the step of a refusal, and makes a refusal of any other error of a step.
func refusedBy(step string, code Code, err error) error {
	if err == nil {
		return nil
	}
	var r *Refusal
	if errors.As(err, &r) {
		return &Refusal{Code: r.Code, Step: step, Err: r.Err}
	}
	return &Refusal{Code: code, Step: step, Err: err}
}
