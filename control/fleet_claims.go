package control

import (
	"net/http"
	"time"

	"github.com/sealmq/sealmq/enroll"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// claims adds the paths about claims and factory CAs.
func (p *routes) claims(f *Fleet) {
	p.get("/v1/claims", f.claims)
	p.postMuch("/v1/claims/create", maxList, f.createClaim)
	p.post("/v1/claims/revoke", f.revokeClaim)
	p.get("/v1/factories", f.factories)
	p.post("/v1/factories/challenge", f.challenge)
	p.postMuch("/v1/factories/add", maxList, f.addFactory)
	p.post("/v1/factories/remove", f.removeFactory)
}

// nameRequest is the body of a request about one claim or factory CA.
type nameRequest struct {
	Name string `json:"name"`
}

// challengeAnswer is a code, and when it ends.
type challengeAnswer struct {
	Code    string    `json:"code"`
	Expires time.Time `json:"expires"`
}

func (f *Fleet) enroll() (*enroll.Service, error) {
	if f.Enroll == nil {
		return nil, lacks("enrolment")
	}
	return f.Enroll, nil
}

func claimOf(c enroll.Claim) Claim {
	return Claim{ID: c.ID, Kind: string(c.Kind), Note: c.Note, Created: c.Created, Expires: c.Expires, Revoked: c.Revoked, Uses: c.Uses, Used: c.Used,
		IDs: c.IDs, Pattern: c.Pattern, Groups: c.Groups, Attributes: c.Attributes, Approve: c.Approve, RatePerHour: c.RatePerHour}
}

func (f *Fleet) claims(*http.Request) (any, error) {
	e, err := f.enroll()
	if err != nil {
		return nil, err
	}
	all := []Claim{}
	for _, c := range e.Claims() {
		all = append(all, claimOf(c))
	}
	return all, nil
}

func (f *Fleet) createClaim(r *http.Request) (string, any, error) {
	var q ClaimRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	e, err := f.enroll()
	if err != nil {
		return q.ID, nil, err
	}
	ttl, err := seconds("ttl_seconds", q.TTL)
	if err != nil {
		return q.ID, nil, err
	}
	c := enroll.Claim{ID: q.ID, Note: q.Note, Uses: q.Uses, IDs: q.IDs, Pattern: q.Pattern, Groups: q.Groups, Attributes: q.Attributes,
		Approve: q.Approve, RatePerHour: q.RatePerHour}
	if ttl != 0 {
		c.Expires = time.Now().Add(ttl)
	}
	if q.CSR == "" {
		token, made, err := e.Create(r.Context(), c)
		return made.ID, &ClaimCreated{Claim: claimOf(made), Token: token}, err
	}
	issued, made, err := e.CreateCertificate(r.Context(), c, []byte(q.CSR))
	if err != nil {
		return q.ID, nil, err
	}
	return made.ID, &ClaimCreated{Claim: claimOf(made), Certificate: certificateOf(issued)}, nil
}

func (f *Fleet) revokeClaim(r *http.Request) (string, any, error) {
	var q nameRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	e, err := f.enroll()
	if err != nil {
		return q.Name, nil, err
	}
	return q.Name, struct{}{}, e.RevokeClaim(r.Context(), q.Name)
}

func factoryOf(f enroll.Factory) Factory {
	return Factory{Name: f.Name, CA: string(certificatePEM(f.DER)), IDFrom: string(f.IDFrom), Prefix: f.Prefix, Groups: f.Groups,
		Attributes: f.Attributes, State: string(f.State), MaxPerHour: f.MaxPerHour, Serials: f.Serials, OnlyEnroll: f.OnlyEnroll,
		Fingerprint: pki.Fingerprint(f.CA), Subject: f.CA.Subject.String(), NotAfter: f.CA.NotAfter, Registered: f.Registered}
}

func (f *Fleet) factories(*http.Request) (any, error) {
	e, err := f.enroll()
	if err != nil {
		return nil, err
	}
	all := []Factory{}
	for _, one := range e.Factories() {
		all = append(all, factoryOf(one))
	}
	return all, nil
}

func (f *Fleet) challenge(r *http.Request) (string, any, error) {
	if err := decode(r, &struct{}{}); err != nil {
		return "", nil, err
	}
	e, err := f.enroll()
	if err != nil {
		return "", nil, err
	}
	code, expires, err := e.Challenge(r.Context())
	return "", challengeAnswer{code, expires}, err
}

func (f *Fleet) addFactory(r *http.Request) (string, any, error) {
	var q FactoryRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	e, err := f.enroll()
	if err != nil {
		return q.Name, nil, err
	}
	certs, err := pki.ParseCertificates([]byte(q.CA))
	if err != nil {
		return q.Name, nil, badRequest("read ca: %v", err)
	}
	if len(certs) != 1 {
		return q.Name, nil, badRequest("read ca: %d certificates, one wanted", len(certs))
	}
	made, err := e.RegisterFactory(r.Context(), enroll.Factory{Name: q.Name, CA: certs[0], IDFrom: enroll.IDFrom(q.IDFrom), Prefix: q.Prefix,
		Groups: q.Groups, Attributes: q.Attributes, State: registry.State(q.State), MaxPerHour: q.MaxPerHour, Serials: q.Serials,
		OnlyEnroll: q.OnlyEnroll}, []byte(q.Proof))
	if err != nil {
		return q.Name, nil, err
	}
	return made.Name, factoryOf(made), nil
}

func (f *Fleet) removeFactory(r *http.Request) (string, any, error) {
	var q nameRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	e, err := f.enroll()
	if err != nil {
		return q.Name, nil, err
	}
	return q.Name, struct{}{}, e.RemoveFactory(r.Context(), q.Name)
}
