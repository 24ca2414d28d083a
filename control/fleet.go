package control

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"

	"github.com/sealmq/sealmq/enroll"
	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/registry"
)

// Fleet is what commands about devices, the CA, claims and certificates work on: that of a running broker (Options.Fleet),
// or one that a command has opened itself (Local). It must not be modified or copied once passed in. What is nil answers with 404 and a hint.
type Fleet struct {
	Identity *identity.Service
	Registry *registry.Registry
	Enroll   *enroll.Service

	Data string       // the data folder, shown in answers
	Log  *slog.Logger // who changed what; nil: nothing is logged

	// Audit judges the fleet: an audit.Report as JSON.
	Audit func(context.Context) (json.RawMessage, error)
	// Certificates are the server certificates in force.
	Certificates func() []ServerCertificate
	// RenewCertificates renews those that have one of the names, or all without names, and returns how many it renewed.
	RenewCertificates func(ctx context.Context, names []string) (int, error)

	imports sync.Mutex // one at a time: they may be large
}

// Progress of an action over many devices.
type Progress struct {
	Done  int `json:"done"`
	Total int `json:"total"`
}
