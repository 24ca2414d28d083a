package control

import (
	"context"
	"encoding/json"
	"time"

	"github.com/sealmq/sealmq/identity"
)

// CAStatus is how the certificate authority is.
type CAStatus struct {
	Folder string `json:"folder"` // DATA/ca
	identity.Status
}

// AnnounceRequest begins a rollover; see pki.Announcement. The files are on the broker's machine; keys do not travel.
type AnnounceRequest struct {
	RootFile      string `json:"root_file,omitempty"`       // absolute path of the root that takes over; made if empty
	RootKey       string `json:"root_key,omitempty"`        // where its key is, see pki.OpenKey; a path is absolute, its file not encrypted
	Keep          bool   `json:"keep,omitempty"`            // stores the key in the CA folder
	WithoutOldKey bool   `json:"without_old_key,omitempty"` // the old root's key is lost
}

// forceRequest is the body of a request that may be forced.
type forceRequest struct {
	Force bool `json:"force,omitempty"`
}

type renewCARequest struct {
	All bool `json:"all,omitempty"`
}

type renewedAnswer struct {
	Renewed []string `json:"renewed"`
}

type csrAnswer struct {
	CSR string `json:"csr"`
}

type acceptRequest struct {
	Certificates string `json:"certificates"`
}

// CA asks how the certificate authority is.
func (c *Client) CA(ctx context.Context) (*CAStatus, error) {
	st := new(CAStatus)
	if err := c.do(ctx, "GET", "/v1/ca", nil, st); err != nil {
		return nil, err
	}
	return st, nil
}

// RenewCA renews the issuing CAs that are due, or all, and returns the names of those renewed.
func (c *Client) RenewCA(ctx context.Context, all bool) ([]string, error) {
	var a renewedAnswer
	err := c.do(ctx, "POST", "/v1/ca/renew", renewCARequest{all}, &a)
	return a.Renewed, err
}

// IssuingCSR is a request, PEM, to renew an issuing CA, "broker" or "device", for a root that is elsewhere.
func (c *Client) IssuingCSR(ctx context.Context, name string) (string, error) {
	var a csrAnswer
	err := c.do(ctx, "POST", "/v1/ca/csr", nameRequest{name}, &a)
	return a.CSR, err
}

// AcceptCA takes the certificates, PEM, that the root made from such requests.
func (c *Client) AcceptCA(ctx context.Context, certificates string) error {
	return c.do(ctx, "POST", "/v1/ca/accept", acceptRequest{certificates}, &struct{}{})
}

// AnnounceCA makes the next root and publishes it beside the present one.
func (c *Client) AnnounceCA(ctx context.Context, q AnnounceRequest) error {
	return c.do(ctx, "POST", "/v1/ca/announce", q, &struct{}{})
}

// SwitchCA lets the next root's CAs issue. Devices that must have it and lack it are pki.ErrNotSeen, unless force is true.
func (c *Client) SwitchCA(ctx context.Context, force bool) error {
	return c.do(ctx, "POST", "/v1/ca/switch", forceRequest{force}, &struct{}{})
}

// SwitchBackCA undoes SwitchCA.
func (c *Client) SwitchBackCA(ctx context.Context) error {
	return c.do(ctx, "POST", "/v1/ca/switch-back", struct{}{}, &struct{}{})
}

// RetireCA ends the trust in the old root. Devices that lack the new one are pki.ErrNotSeen, unless force is true.
func (c *Client) RetireCA(ctx context.Context, force bool) error {
	return c.do(ctx, "POST", "/v1/ca/retire", forceRequest{force}, &struct{}{})
}

// WithdrawCA undoes AnnounceCA.
func (c *Client) WithdrawCA(ctx context.Context) error {
	return c.do(ctx, "POST", "/v1/ca/withdraw", struct{}{}, &struct{}{})
}

// CRL returns the revocation list of the device CA, DER.
func (c *Client) CRL(ctx context.Context) ([]byte, error) { return c.read(ctx, "GET", "/v1/crl", nil) }

// ServerCertificate is one that listeners show.
type ServerCertificate struct {
	Names     []string  `json:"names"`
	Listeners []string  `json:"listeners,omitempty"` // that show it
	Source    string    `json:"source"`              // "ca", "file" or "acme"
	File      string    `json:"file,omitempty"`
	Issuer    string    `json:"issuer,omitempty"`
	Serial    string    `json:"serial,omitempty"` // hex
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Trouble   string    `json:"trouble,omitempty"` // why a newer one is not in force
}

type certificatesRequest struct {
	Names []string `json:"names,omitempty"`
}

type countAnswer struct {
	Count int `json:"count"`
}

// ServerCertificates lists the server certificates in force.
func (c *Client) ServerCertificates(ctx context.Context) ([]ServerCertificate, error) {
	var all []ServerCertificate
	err := c.do(ctx, "GET", "/v1/certificates", nil, &all)
	return all, err
}

// RenewServerCertificates renews those that have one of the names, or all without names, and returns how many.
func (c *Client) RenewServerCertificates(ctx context.Context, names ...string) (int, error) {
	var a countAnswer
	err := c.do(ctx, "POST", "/v1/certificates/renew", certificatesRequest{names}, &a)
	return a.Count, err
}

// Audit asks for the judgement of the fleet: an audit.Report.
func (c *Client) Audit(ctx context.Context) (json.RawMessage, error) {
	return c.read(ctx, "GET", "/v1/audit", nil)
}
