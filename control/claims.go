package control

import (
	"context"
	"time"
)

// ClaimRequest makes a claim: what a device shows to be enrolled. Without a CSR it is a token, with one a certificate for
// the key of the CSR.
type ClaimRequest struct {
	ID          string            `json:"id,omitempty"` // made if empty
	Note        string            `json:"note,omitempty"`
	TTL         int64             `json:"ttl_seconds,omitempty"`   // 0: the default
	Uses        int               `json:"uses,omitempty"`          // 0: the default
	IDs         []string          `json:"ids,omitempty"`           // devices that may use it; all if empty and no Pattern
	Pattern     string            `json:"pattern,omitempty"`       // of ids, as path.Match has them
	Groups      []string          `json:"groups,omitempty"`        // of devices that it enrols
	Attributes  map[string]string `json:"attributes,omitempty"`    // likewise
	Approve     bool              `json:"approve,omitempty"`       // an operator enables each device before it gets its certificate
	RatePerHour int               `json:"rate_per_hour,omitempty"` // devices; 0: the default
	CSR         string            `json:"csr,omitempty"`           // PEM
}

// Claim is what is known of one; its token is not.
type Claim struct {
	ID          string            `json:"id"`
	Kind        string            `json:"kind"` // "token" or "certificate"
	Note        string            `json:"note,omitempty"`
	Created     time.Time         `json:"created"`
	Expires     time.Time         `json:"expires"`
	Uses        int               `json:"uses"` // 0: without limit
	Used        int               `json:"used"`
	Revoked     time.Time         `json:"revoked,omitzero"`
	IDs         []string          `json:"ids,omitempty"`
	Pattern     string            `json:"pattern,omitempty"`
	Groups      []string          `json:"groups,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	Approve     bool              `json:"approve,omitempty"`
	RatePerHour int               `json:"rate_per_hour,omitempty"`
}

// ClaimCreated is a claim with what its holder needs: Token or Certificate. Neither can be asked for again.
type ClaimCreated struct {
	Claim
	Token       string       `json:"token,omitempty"`
	Certificate *Certificate `json:"claim_certificate,omitempty"`
}

// Factory is a CA of a device maker whose devices enrol with the certificates that they were made with.
type Factory struct {
	Name        string            `json:"name"`
	CA          string            `json:"ca"`                   // PEM
	IDFrom      string            `json:"id_from,omitempty"`    // "cn" (if empty), "serial", "san-dns" or "san-uri-last"
	Prefix      string            `json:"prefix,omitempty"`     // of ids
	Groups      []string          `json:"groups,omitempty"`     // of its devices
	Attributes  map[string]string `json:"attributes,omitempty"` // likewise
	State       string            `json:"state,omitempty"`      // of a device seen first: "pending" (if empty) or "active"
	MaxPerHour  int               `json:"max_per_hour,omitempty"`
	Serials     []string          `json:"serials,omitempty"`     // of certificates, hex: no others are taken
	OnlyEnroll  bool              `json:"only_enroll,omitempty"` // its certificates are good for enrolment alone
	Fingerprint string            `json:"fingerprint,omitempty"` // SHA-256 of the CA, hex; in answers
	Subject     string            `json:"subject,omitempty"`     // in answers
	NotAfter    time.Time         `json:"not_after,omitzero"`    // in answers
	Registered  time.Time         `json:"registered,omitzero"`   // in answers
}

// FactoryRequest registers a factory CA. Proof is a certificate or CSR, PEM, that the CA's key has signed and whose common
// name is a code that Challenge gave.
type FactoryRequest struct {
	Factory
	Proof string `json:"proof"`
}

// CreateClaim makes a claim. One that exists is enroll.ErrClaim.
func (c *Client) CreateClaim(ctx context.Context, q ClaimRequest) (*ClaimCreated, error) {
	made := new(ClaimCreated)
	if err := c.do(ctx, "POST", "/v1/claims/create", q, made); err != nil {
		return nil, err
	}
	return made, nil
}

// Claims lists the claims, the oldest first; those that have ended for a week.
func (c *Client) Claims(ctx context.Context) ([]Claim, error) {
	var all []Claim
	err := c.do(ctx, "GET", "/v1/claims", nil, &all)
	return all, err
}

// RevokeClaim ends a claim. Devices that it enrolled stay. An unknown one is enroll.ErrNoClaim.
func (c *Client) RevokeClaim(ctx context.Context, id string) error {
	return c.do(ctx, "POST", "/v1/claims/revoke", nameRequest{id}, &struct{}{})
}

// FactoryChallenge gives the code that a factory CA has to sign to be registered, and when it ends.
func (c *Client) FactoryChallenge(ctx context.Context) (code string, expires time.Time, err error) {
	var a challengeAnswer
	err = c.do(ctx, "POST", "/v1/factories/challenge", struct{}{}, &a)
	return a.Code, a.Expires, err
}

// AddFactory registers a factory CA. One that exists is enroll.ErrFactory, a wrong proof enroll.ErrProof.
func (c *Client) AddFactory(ctx context.Context, q FactoryRequest) (*Factory, error) {
	f := new(Factory)
	if err := c.do(ctx, "POST", "/v1/factories/add", q, f); err != nil {
		return nil, err
	}
	return f, nil
}

// Factories lists the factory CAs, by name.
func (c *Client) Factories(ctx context.Context) ([]Factory, error) {
	var all []Factory
	err := c.do(ctx, "GET", "/v1/factories", nil, &all)
	return all, err
}

// RemoveFactory ends the trust in a factory CA. Devices of it that are registered stay. An unknown one is
// enroll.ErrNoFactory.
func (c *Client) RemoveFactory(ctx context.Context, name string) error {
	return c.do(ctx, "POST", "/v1/factories/remove", nameRequest{name}, &struct{}{})
}
