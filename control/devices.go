package control

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/sealmq/sealmq/registry"
)

// Limits of requests about devices.
const (
	MaxSelected = 200_000  // ids in a Selection
	MaxImport   = 64 << 20 // bytes of an import
)

// Query chooses devices; what is empty does not matter. See registry.Query.
type Query struct {
	Group          string         `json:"group,omitempty"`
	State          registry.State `json:"state,omitempty"`
	ID             string         `json:"id,omitempty"`             // a pattern with * and ?, or the beginning of ids
	ExpiringBefore time.Time      `json:"expiring_before,omitzero"` // the last active certificate ends before
}

// Selection says which devices an action is for: exactly one of its fields is set.
type Selection struct {
	IDs   []string `json:"ids,omitempty"`
	Query *Query   `json:"query,omitempty"` // not an empty one
	All   bool     `json:"all,omitempty"`   // every device; operators and claims are none
}

// AddRequest adds a device. With a CSR it gets a certificate at once.
type AddRequest struct {
	ID         string            `json:"id"`
	Groups     []string          `json:"groups,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	State      registry.State    `json:"state,omitempty"` // active if empty
	CSR        string            `json:"csr,omitempty"`   // PEM
	Life       int64             `json:"life_seconds,omitempty"`
}

// SignRequest orders a certificate for a device or operator.
type SignRequest struct {
	ID   string `json:"id"`
	CSR  string `json:"csr"`                    // PEM
	Life int64  `json:"life_seconds,omitempty"` // 0: as configured, which is also the longest
}

// Certificate is the answer to a CSR.
type Certificate struct {
	ID        string    `json:"id"`
	New       bool      `json:"new"`         // the device was not there before
	Cert      string    `json:"certificate"` // PEM, the chain that the device sends
	CA        string    `json:"ca"`          // PEM, what it trusts
	Serial    string    `json:"serial"`      // hex
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	RenewAt   time.Time `json:"renew_at"`
}

// RevokeRequest ends devices, or one certificate. Either Selection or Serial is set.
type RevokeRequest struct {
	Selection
	Serial string `json:"serial,omitempty"` // hex
	Reason string `json:"reason,omitempty"` // as pki.ParseReason reads it; unspecified if empty
}

// ImportRequest says how to import; see registry.ImportOptions.
type ImportRequest struct {
	Format registry.Format
	Update bool // changes devices that exist; without it they are errors
	Check  bool // only looks for errors
}

// Devices calls fn with the devices that a query chooses, by id, until fn fails; that error is returned.
func (c *Client) Devices(ctx context.Context, q Query, fn func(registry.Device) error) error {
	resp, err := c.send(ctx, "GET", withQuery("/v1/devices", q.values()), nil)
	if err != nil {
		return err
	}
	_, err = c.lines(resp, func(l line) error {
		if l.Device == nil {
			return nil
		}
		return fn(*l.Device)
	})
	return err
}

// Device returns one device, or an operator by its id operator/NAME. An unknown one is registry.ErrUnknown.
func (c *Client) Device(ctx context.Context, id string) (registry.Device, error) {
	var d registry.Device
	err := c.do(ctx, "GET", withQuery("/v1/device", url.Values{"id": {id}}), nil, &d)
	return d, err
}

// AddDevice adds a device. The Certificate is nil without a CSR. One that exists is registry.ErrExists.
func (c *Client) AddDevice(ctx context.Context, q AddRequest) (*Certificate, error) {
	cert, err := c.certificate(ctx, "/v1/devices/add", q)
	if err != nil || q.CSR == "" {
		return nil, err
	}
	return cert, nil
}

// SignDevice issues a certificate to a device, which is added if it is unknown.
func (c *Client) SignDevice(ctx context.Context, q SignRequest) (*Certificate, error) {
	return c.certificate(ctx, "/v1/devices/sign", q)
}

// RenewDevice issues another certificate to a device that exists.
func (c *Client) RenewDevice(ctx context.Context, q SignRequest) (*Certificate, error) {
	return c.certificate(ctx, "/v1/devices/renew", q)
}

func (c *Client) certificate(ctx context.Context, path string, q any) (*Certificate, error) {
	cert := new(Certificate)
	if err := c.do(ctx, "POST", path, q, cert); err != nil {
		return nil, err
	}
	return cert, nil
}

// Disable keeps devices from connecting, until Enable. As with all actions over many devices, each is changed or not for
// itself, and the error is a *PartialError when some were tried in vain. Progress, which may be nil, is called now and then.
// A context that ends leaves changed what was changed until then.
func (c *Client) Disable(ctx context.Context, s Selection, progress func(Progress)) (Outcome, error) {
	return c.act(ctx, "disable devices", "/v1/devices/disable", s, progress)
}

// Enable makes devices active that were pending, disabled or quarantined.
func (c *Client) Enable(ctx context.Context, s Selection, progress func(Progress)) (Outcome, error) {
	return c.act(ctx, "enable devices", "/v1/devices/enable", s, progress)
}

// Quarantine lets devices connect to little else than renewal.
func (c *Client) Quarantine(ctx context.Context, s Selection, progress func(Progress)) (Outcome, error) {
	return c.act(ctx, "quarantine devices", "/v1/devices/quarantine", s, progress)
}

// Revoke ends devices and their certificates, or one certificate, for good.
func (c *Client) Revoke(ctx context.Context, q RevokeRequest, progress func(Progress)) (Outcome, error) {
	return c.act(ctx, "revoke devices", "/v1/devices/revoke", q, progress)
}

// Purge forgets devices; certificates of theirs that have not expired are revoked.
func (c *Client) Purge(ctx context.Context, s Selection, progress func(Progress)) (Outcome, error) {
	return c.act(ctx, "purge devices", "/v1/devices/purge", s, progress)
}

// Import adds devices from in, at most MaxImport bytes. If a line is wrong nothing is changed, and the error is a
// *PartialError with each Failure.Line.
func (c *Client) Import(ctx context.Context, in io.Reader, q ImportRequest, progress func(Progress)) (Outcome, error) {
	v := url.Values{"format": {string(q.Format)}, "update": {strconv.FormatBool(q.Update)}, "check": {strconv.FormatBool(q.Check)}}
	return c.actOn(ctx, "import devices", withQuery("/v1/devices/import", v), &boundedReader{r: in, left: MaxImport}, progress)
}

// boundedReader fails beyond what an import may have.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("more than %d MiB", MaxImport>>20)
	}
	return n, err
}

// Export writes the devices that a query chooses, in a format that Import reads.
func (c *Client) Export(ctx context.Context, out io.Writer, format registry.Format, q Query) error {
	v := q.values()
	v.Set("format", string(format))
	resp, err := c.send(ctx, "GET", withQuery("/v1/devices/export", v), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(out, resp.Body); err != nil {
		return fmt.Errorf("export devices: %w", err)
	}
	return nil
}

// Operators lists the operators: devices whose id is operator/NAME.
func (c *Client) Operators(ctx context.Context) ([]registry.Device, error) {
	var all []registry.Device
	err := c.do(ctx, "GET", "/v1/operators", nil, &all)
	return all, err
}

// IssueOperator issues a certificate to the operator whose name is q.ID.
func (c *Client) IssueOperator(ctx context.Context, q SignRequest) (*Certificate, error) {
	return c.certificate(ctx, "/v1/operators/issue", q)
}

// RevokeOperator ends an operator and the certificates of it. The reason is as in RevokeRequest.
func (c *Client) RevokeOperator(ctx context.Context, name, reason string) error {
	return c.do(ctx, "POST", "/v1/operators/revoke", operatorRequest{name, reason}, &struct{}{})
}
