package control

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
)

// ca adds the paths about the CA, server certificates, and the audit.
func (p *routes) ca(f *Fleet) {
	p.get("/v1/ca", f.caStatus)
	p.post("/v1/ca/renew", f.caRenew)
	p.post("/v1/ca/csr", f.caCSR)
	p.post("/v1/ca/accept", f.caAccept)
	p.post("/v1/ca/announce", f.caAnnounce)
	p.post("/v1/ca/switch", f.caForced((*identity.Service).Switch))
	p.post("/v1/ca/switch-back", f.caPlain((*identity.Service).SwitchBack))
	p.post("/v1/ca/retire", f.caForced((*identity.Service).Retire))
	p.post("/v1/ca/withdraw", f.caPlain((*identity.Service).Withdraw))
	p.add("GET", "/v1/crl", f.crl)
	p.get("/v1/certificates", f.certificates)
	p.post("/v1/certificates/renew", f.renewCertificates)
	p.get("/v1/audit", f.audit)
}

func (f *Fleet) caStatus(*http.Request) (any, error) {
	service, err := f.identity()
	if err != nil {
		return nil, err
	}
	return CAStatus{Folder: filepath.Join(f.Data, "ca"), Status: service.Status()}, nil
}

func (f *Fleet) caRenew(r *http.Request) (string, any, error) {
	var q renewCARequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	service, err := f.identity()
	if err != nil {
		return "", nil, err
	}
	names, err := service.RenewIssuing(r.Context(), q.All)
	if names == nil {
		names = []string{}
	}
	return strings.Join(names, " "), renewedAnswer{names}, err
}

func (f *Fleet) caCSR(r *http.Request) (string, any, error) {
	var q nameRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	service, err := f.identity()
	if err != nil {
		return q.Name, nil, err
	}
	if q.Name != "broker" && q.Name != "device" {
		return q.Name, nil, badRequest("name %.40q: broker or device wanted", q.Name)
	}
	csr, err := service.IssuingCSR(q.Name)
	return q.Name, csrAnswer{string(csr)}, err
}

func (f *Fleet) caAccept(r *http.Request) (string, any, error) {
	var q acceptRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	service, err := f.identity()
	if err != nil {
		return "", nil, err
	}
	certs, err := pki.ParseCertificates([]byte(q.Certificates))
	if err != nil {
		return "", nil, badRequest("read certificates: %v", err)
	}
	return "", struct{}{}, service.Accept(r.Context(), certs)
}

func (f *Fleet) caAnnounce(r *http.Request) (string, any, error) {
	var q AnnounceRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	service, err := f.identity()
	if err != nil {
		return "", nil, err
	}
	how := pki.Announcement{WithoutOldKey: q.WithoutOldKey}
	switch {
	case q.RootFile == "" && (q.RootKey != "" || q.Keep):
		return "", nil, badRequest("root_key and keep belong to root_file")
	case q.RootFile != "":
		if !filepath.IsAbs(q.RootFile) {
			return "", nil, badRequest("root_file %.200q: not an absolute path", q.RootFile)
		}
		if program := strings.HasPrefix(q.RootKey, "exec:") || strings.HasPrefix(q.RootKey, "pkcs11:"); !program && !filepath.IsAbs(strings.TrimPrefix(q.RootKey, "file:")) {
			return "", nil, badRequest("root_key: exec:, pkcs11: or an absolute path wanted")
		}
		root, err := pki.LoadRoot(q.RootFile, q.RootKey, pki.KeyOptions{})
		if err != nil {
			return "", nil, err
		}
		root.Keep = q.Keep
		how.Root = &root
	}
	return q.RootFile, struct{}{}, service.Announce(r.Context(), how)
}

// caPlain is a step of a rollover.
func (f *Fleet) caPlain(step func(*identity.Service, context.Context) error) change {
	return func(r *http.Request) (string, any, error) {
		if err := decode(r, &struct{}{}); err != nil {
			return "", nil, err
		}
		service, err := f.identity()
		if err != nil {
			return "", nil, err
		}
		return "", struct{}{}, step(service, r.Context())
	}
}

// caForced is a step of a rollover that can be forced.
func (f *Fleet) caForced(step func(*identity.Service, context.Context, bool) error) change {
	return func(r *http.Request) (detail string, v any, err error) {
		var q forceRequest
		if err := decode(r, &q); err != nil {
			return "", nil, err
		}
		service, err := f.identity()
		if err != nil {
			return "", nil, err
		}
		if q.Force {
			detail = "forced"
		}
		return detail, struct{}{}, step(service, r.Context(), q.Force)
	}
}

func (f *Fleet) crl(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	service, err := f.identity()
	if e := readBody(w, rc, r, maxBody); e != nil {
		err = e
	}
	if err != nil {
		reply(w, rc, nil, err)
		return
	}
	der, _ := service.CRL()
	if der == nil {
		reply(w, rc, nil, errors.New("the revocation list cannot be signed: "+strings.Join(service.Trouble(), "; ")))
		return
	}
	_ = rc.SetWriteDeadline(time.Now().Add(streamTimeout))
	w.Header().Set("Content-Type", "application/pkix-crl")
	_, _ = w.Write(der)
}

func (f *Fleet) certificates(*http.Request) (any, error) {
	if f.Certificates == nil {
		return nil, noBroker()
	}
	all := f.Certificates()
	if all == nil {
		all = []ServerCertificate{}
	}
	return all, nil
}

func (f *Fleet) renewCertificates(r *http.Request) (string, any, error) {
	var q certificatesRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	if f.RenewCertificates == nil {
		return "", nil, noBroker()
	}
	n, err := f.RenewCertificates(r.Context(), q.Names)
	return strings.Join(q.Names, " "), countAnswer{n}, err
}

func (f *Fleet) audit(r *http.Request) (any, error) {
	if f.Audit == nil {
		return nil, lacks("audit")
	}
	return f.Audit(r.Context())
}
