package control

import (
	"context"
	"encoding/json"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// CAStatus is how the certificate authority is.
type CAStatus struct {
	Folder  string    `json:"folder"`  // DATA/ca
	State   pki.State `json:"state"`   // of the rollover
	CAs     []CA      `json:"cas"`     // in force: root, broker, device
	Roots   []CARoot  `json:"roots"`   // that clients trust, the older first
	Devices int       `json:"devices"` // active ones, of which CARoot.Seen have a root
}

// CA is one of the CAs in force.
type CA struct {
	Name        string    `json:"name"` // "root", "broker", "device"
	Subject     string    `json:"subject"`
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the certificate, hex
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Due         bool      `json:"due"` // less than a third of its life remains
}

// CARoot is a root that clients trust.
type CARoot struct {
	Subject     string    `json:"subject"`
	Fingerprint string    `json:"fingerprint"`
	NotAfter    time.Time `json:"not_after"`
	Seen        int       `json:"seen"` // active devices that are known to have it
}

// AnnounceRequest begins a rollover; see pki.Announcement. The files are on the broker's machine; keys do not travel.
type AnnounceRequest struct {
	RootFile      string `json:"root_file,omitempty"`       // absolute path of the root that takes over; made if empty
	RootKey       string `json:"root_key,omitempty"`        // where its key is, see pki.OpenKey; a path is absolute
	Keep          bool   `json:"keep,omitempty"`            // stores the key in the CA folder
	WithoutOldKey bool   `json:"without_old_key,omitempty"` // the old root's key is lost
}

// CA asks how the certificate authority is.
func (c *Client) CA(ctx context.Context) (*CAStatus, error) { return nil, errNotYet }

// RenewCA renews the issuing CAs that are due, or all, and returns the names of those renewed.
func (c *Client) RenewCA(ctx context.Context, all bool) ([]string, error) { return nil, errNotYet }

// IssuingCSR is a request, PEM, to renew an issuing CA, "broker" or "device", for a root that is elsewhere.
func (c *Client) IssuingCSR(ctx context.Context, name string) (string, error) { return "", errNotYet }

// AcceptCA takes the certificates, PEM, that the root made from such requests.
func (c *Client) AcceptCA(ctx context.Context, certificates string) error { return errNotYet }

// AnnounceCA makes the next root and publishes it beside the present one.
func (c *Client) AnnounceCA(ctx context.Context, q AnnounceRequest) error { return errNotYet }

// SwitchCA lets the next root's CAs issue. Devices that lack it are pki.ErrNotSeen, unless force is true.
func (c *Client) SwitchCA(ctx context.Context, force bool) error { return errNotYet }

// SwitchBackCA undoes SwitchCA.
func (c *Client) SwitchBackCA(ctx context.Context) error { return errNotYet }

// RetireCA ends the trust in the old root. Devices that lack the new one are pki.ErrNotSeen, unless force is true.
func (c *Client) RetireCA(ctx context.Context, force bool) error { return errNotYet }

// WithdrawCA undoes AnnounceCA.
func (c *Client) WithdrawCA(ctx context.Context) error { return errNotYet }

// CRL returns the revocation list of the device CA, DER.
func (c *Client) CRL(ctx context.Context) ([]byte, error) { return nil, errNotYet }

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

// ServerCertificates lists the server certificates in force.
func (c *Client) ServerCertificates(ctx context.Context) ([]ServerCertificate, error) {
	return nil, errNotYet
}

// RenewServerCertificates renews those that have one of the names, or all without names, and returns how many.
func (c *Client) RenewServerCertificates(ctx context.Context, names ...string) (int, error) {
	return 0, errNotYet
}

// Audit asks for the judgement of the fleet: an audit.Report.
func (c *Client) Audit(ctx context.Context) (json.RawMessage, error) { return nil, errNotYet }
