package control

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

const operatorPrefix = "operator/"

// batch is how many devices are changed before the next progress is told.
const batch = 1000

// devices adds the paths about devices and operators.
func (p *routes) devices(f *Fleet) {
	p.add("GET", "/v1/devices", func(w http.ResponseWriter, r *http.Request) {
		st := newStream(w)
		n, err := 0, st.body(r, maxBody)
		if err == nil {
			n, err = f.list(r, st)
		}
		st.end(n, err)
	})
	p.get("/v1/device", f.device)
	p.get("/v1/operators", f.operators)
	p.add("GET", "/v1/devices/export", f.export)
	p.post("/v1/devices/add", f.add)
	p.post("/v1/devices/sign", f.issuer(identity.Either))
	p.post("/v1/devices/renew", f.issuer(identity.BeKnown))
	p.post("/v1/operators/issue", f.issueOperator)
	p.post("/v1/operators/revoke", f.revokeOperator)
	p.act("/v1/devices/disable", maxSelection, f.each("disable", (*registry.Registry).Disable))
	p.act("/v1/devices/enable", maxSelection, f.each("enable", (*registry.Registry).Enable))
	p.act("/v1/devices/quarantine", maxSelection, f.each("quarantine", (*registry.Registry).Quarantine))
	p.act("/v1/devices/revoke", maxSelection, f.revoke)
	p.act("/v1/devices/purge", maxSelection, f.purge)
	p.act("/v1/devices/import", 0, f.importDevices)
}

// lacks is the error of a part that is not there.
func lacks(what string) error {
	return &Error{Text: "there is no " + what + " here", Code: CodeUnsupported, Status: http.StatusNotFound,
		Advice: "it comes with a CA of one's own, which sealmq init makes"}
}

func (f *Fleet) registry() (*registry.Registry, error) {
	if f.Registry == nil {
		return nil, lacks("registry of devices")
	}
	return f.Registry, nil
}

func (f *Fleet) identity() (*identity.Service, error) {
	if f.Identity == nil {
		return nil, lacks("certificate authority")
	}
	return f.Identity, nil
}

func (f *Fleet) list(r *http.Request, st *stream) (n int, err error) {
	reg, err := f.registry()
	if err != nil {
		return 0, err
	}
	v, err := once(r.URL.RawQuery, queryNames()...)
	if err != nil {
		return 0, err
	}
	q, err := queryOf(v)
	if err != nil {
		return 0, err
	}
	err = reg.Each(q.registry(), func(d registry.Device) bool {
		n++
		return r.Context().Err() == nil && st.send(line{Device: &d}) == nil
	})
	if err != nil {
		err = badRequest("read query: id %.80q: %v", q.ID, err)
	}
	return n, err
}

func (f *Fleet) device(r *http.Request) (any, error) {
	reg, err := f.registry()
	if err != nil {
		return nil, err
	}
	v, err := once(r.URL.RawQuery, "id")
	if err != nil {
		return nil, err
	}
	d, ok := reg.Get(v["id"])
	if !ok {
		return nil, fmt.Errorf("show device %.80q: %w", v["id"], registry.ErrUnknown)
	}
	return d, nil
}

func (f *Fleet) operators(*http.Request) (any, error) {
	reg, err := f.registry()
	if err != nil {
		return nil, err
	}
	all, err := reg.List(registry.Query{ID: operatorPrefix})
	if all == nil {
		all = []registry.Device{}
	}
	return all, err
}

// seconds reads a length of time; 0: the default.
func seconds(name string, n int64) (time.Duration, error) {
	const most = 100 * 366 * 24 * 3600
	if n < 0 || n > most {
		return 0, badRequest("%s %d: 0 to %d wanted", name, n, int64(most))
	}
	return time.Duration(n) * time.Second, nil
}

// certificatePEM is the PEM form of a certificate.
func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// issue orders a certificate.
func (f *Fleet) issue(r *http.Request, o identity.Order, csr string, life int64) (*Certificate, error) {
	service, err := f.identity()
	if err != nil {
		return nil, err
	}
	if csr == "" {
		return nil, badRequest("csr is missing")
	}
	if o.Life, err = seconds("life_seconds", life); err != nil {
		return nil, err
	}
	o.CSR, o.Via = []byte(csr), registry.Actor(r.Context())
	c, err := service.Issue(r.Context(), o)
	if err != nil {
		return nil, err
	}
	return certificateOf(c), nil
}

func certificateOf(c *identity.Issued) *Certificate {
	return &Certificate{ID: c.Device, New: c.New, Cert: string(c.Cert), CA: string(c.CA), Serial: serialOf(c.Leaf),
		NotBefore: c.Leaf.NotBefore, NotAfter: c.Leaf.NotAfter, RenewAt: c.RenewAt}
}

// serialOf is a certificate's serial as the registry writes it.
func serialOf(c *x509.Certificate) string { return hex.EncodeToString(c.SerialNumber.Bytes()) }

func (f *Fleet) add(r *http.Request) (string, any, error) {
	var q AddRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	if q.CSR == "" {
		reg, err := f.registry()
		if err != nil {
			return q.ID, nil, err
		}
		if q.Life != 0 {
			return q.ID, nil, badRequest("life_seconds without csr")
		}
		return q.ID, struct{}{}, reg.Add(r.Context(), registry.Device{ID: q.ID, Groups: q.Groups, Attributes: q.Attributes, State: q.State})
	}
	c, err := f.issue(r, identity.Order{ID: q.ID, Kind: pki.Device, Groups: q.Groups, Attributes: q.Attributes, State: q.State, Must: identity.BeNew}, q.CSR, q.Life)
	return q.ID, c, err
}

func (f *Fleet) issuer(must identity.Must) change {
	return func(r *http.Request) (string, any, error) {
		var q SignRequest
		if err := decode(r, &q); err != nil {
			return "", nil, err
		}
		c, err := f.issue(r, identity.Order{ID: q.ID, Kind: pki.Device, Must: must}, q.CSR, q.Life)
		return q.ID, c, err
	}
}

func (f *Fleet) issueOperator(r *http.Request) (string, any, error) {
	var q SignRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	c, err := f.issue(r, identity.Order{ID: q.ID, Kind: pki.Operator}, q.CSR, q.Life)
	return q.ID, c, err
}

// operatorRequest is the body of a request to revoke an operator.
type operatorRequest struct {
	Name   string `json:"name"`
	Reason string `json:"reason,omitempty"`
}

func (f *Fleet) revokeOperator(r *http.Request) (string, any, error) {
	var q operatorRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	reg, err := f.registry()
	if err != nil {
		return q.Name, nil, err
	}
	reason, err := reasonOf(q.Reason)
	if err != nil {
		return q.Name, nil, err
	}
	return q.Name, struct{}{}, reg.Revoke(r.Context(), reason, operatorPrefix+q.Name)
}

func reasonOf(s string) (pki.Reason, error) {
	if s == "" {
		return pki.Unspecified, nil
	}
	reason, err := pki.ParseReason(s)
	if err != nil {
		return 0, badRequest("read request: %v", err)
	}
	if reason == pki.CertificateHold {
		return 0, badRequest("reason %v: disable the device instead", reason)
	}
	return reason, nil
}

func (f *Fleet) revoke(r *http.Request, st *stream) (string, int, error) {
	var q RevokeRequest
	if err := decode(r, &q); err != nil {
		return "", 0, err
	}
	reg, err := f.registry()
	if err != nil {
		return "", 0, err
	}
	reason, err := reasonOf(q.Reason)
	if err != nil {
		return "", 0, err
	}
	if q.Serial == "" {
		done, err := f.apply(r.Context(), st, "revoke", q.Selection, func(ctx context.Context, ids ...string) error {
			return reg.Revoke(ctx, reason, ids...)
		})
		return q.Selection.String(), done, err
	}
	if len(q.IDs) > 0 || q.Query != nil || q.All {
		return "", 0, badRequest("read request: serial stands alone")
	}
	what := fmt.Sprintf("certificate %.60q", q.Serial)
	if err := reg.RevokeCertificate(r.Context(), q.Serial, reason); err != nil {
		return what, 0, err
	}
	return what, 1, nil
}

// purge forgets devices. One that is gone after a first attempt, and was there before, is done.
func (f *Fleet) purge(r *http.Request, st *stream) (string, int, error) {
	var s Selection
	if err := decode(r, &s); err != nil {
		return "", 0, err
	}
	reg, err := f.registry()
	if err != nil {
		return s.String(), 0, err
	}
	there := make(map[string]bool)
	done, err := f.apply(r.Context(), st, "purge", s, func(ctx context.Context, ids ...string) error {
		if len(ids) == 1 && there[ids[0]] {
			if _, state := reg.Groups(ids[0]); state == "" {
				return nil
			}
		}
		for _, id := range ids {
			if _, state := reg.Groups(id); state != "" {
				there[id] = true
			}
		}
		return reg.Purge(ctx, ids...)
	})
	return s.String(), done, err
}
