// Package control is how the owner of a machine steers the broker that runs there: HTTP with JSON bodies over a unix
// socket in the broker's data folder, which only that user (and root) can open. Server is the broker's side, Client the
// side of the commands. When no broker runs, Local gives a Client that does the same within its process, on a Fleet that
// the command has opened. The package also holds what a backup of a data folder is (WriteBackup, OpenBackup, Restore).
//
// Bodies are strict: an unknown field is an error. What fails is answered with a status from 400 on and an Error. Fields
// may be added to answers within v1; none changes its meaning. DESIGN.md lists the paths, and tells how actions over many
// devices are answered.
//
// Private keys do not travel: CSRs come in, certificates go out. Each change is logged with the user who asked for it.
//
// A Server starts a goroutine that accepts, one for each connection (at most MaxConns), and one that watches the store's
// state; Close waits for all of them.
package control

import (
	"encoding/json"
	"fmt"
	"time"
)

// SocketName is the socket's name in the data folder, and StoreName that of the folder of the durable store.
const (
	SocketName = "control.sock"
	StoreName  = "store"
)

// The states of Health.
const (
	OK       = "ok"       // everything works
	Degraded = "degraded" // the store refuses changes: messages that must be kept are not taken
)

// Health says how a broker is.
type Health struct {
	State   string    `json:"state"`          // OK or Degraded
	Why     string    `json:"why,omitempty"`  // of Degraded
	Since   time.Time `json:"since"`          // when the state began, to about a second
	Version string    `json:"version"`        // of the program
	Uptime  float64   `json:"uptime_seconds"` // since the server was made
	PID     int       `json:"pid"`            // of the broker's process
	// Trouble are sentences about what needs somebody's attention, though everything still works: a certificate that could
	// not be renewed, a revocation list that is out of date.
	Trouble []string `json:"trouble,omitempty"`
	// Setup is what commands want to know of its configuration.
	Setup *Setup `json:"setup,omitempty"`
}

// Setup is the part of a broker's configuration that commands go by. It must not be changed.
type Setup struct {
	Policy    string      `json:"policy"`              // the file, as an absolute path
	Mosquitto bool        `json:"mosquitto,omitempty"` // it is an ACL file of Mosquitto
	Listeners []Listening `json:"listeners"`
}

// Listening is an open listener.
type Listening struct {
	Name      string `json:"name"`
	Address   string `json:"address"` // host:port
	TLS       bool   `json:"tls,omitempty"`
	WebSocket bool   `json:"websocket,omitempty"`
	Enroll    bool   `json:"enroll,omitempty"` // for enrolment and renewal alone
}

// Failures are handshakes that failed, and CONNECTs that were refused, since the broker has started.
type Failures struct {
	Counts map[string]uint64 `json:"counts"` // by cause
	// Recent are the last ones, the newest first, as transport.Failure has them.
	Recent []json.RawMessage `json:"recent,omitempty"`
}

// BackupRequest asks for a backup of the data folder.
type BackupRequest struct {
	To          string `json:"to"`           // absolute path on the broker's machine; missing or an empty folder
	WithoutKeys bool   `json:"without_keys"` // leaves out files with private keys
}

// KickRequest asks to end the connection of a client. Its session stays when it outlives its connection.
type KickRequest struct {
	ClientID string `json:"client_id"`
}

// hinted is an error that knows a way out.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }
func (h *hinted) Hint() string  { return h.hint }

func hintf(hint, format string, a ...any) error {
	return &hinted{fmt.Errorf(format, a...), hint}
}
