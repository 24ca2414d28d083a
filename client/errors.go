package client

import (
	"errors"
	"fmt"

	"github.com/sealmq/sealmq/mqtt"
)

// Errors that callers branch on.
var (
	// ErrClosed: the client has been disconnected by its own side.
	ErrClosed = errors.New("client closed")
	// ErrConnectionLost is wrapped by what Err returns when the network, not the
	// server, ended the connection.
	ErrConnectionLost = errors.New("connection lost")
	// ErrSessionLost is what became of an unacknowledged message when the server
	// no longer knew the session.
	ErrSessionLost = errors.New("session lost at the server")
	// ErrTimeout is wrapped when the server did not answer within AckTimeout.
	ErrTimeout = errors.New("no answer from the server")
)

// ServerError is the server's no: a refused CONNECT, or its DISCONNECT. It
// unwraps to the [mqtt.ReasonCode].
type ServerError struct {
	Packet          mqtt.Type // CONNACK, DISCONNECT
	Code            mqtt.ReasonCode
	Reason          string // the server's reason string, possibly empty
	ServerReference string // where else to go, with UseAnotherServer and ServerMoved
}

func (e *ServerError) Error() string {
	what := "refused by the server"
	if e.Packet == mqtt.DISCONNECT {
		what = "disconnected by the server"
	}
	s := fmt.Sprintf("%s: %v (0x%02X)", what, e.Code, uint8(e.Code))
	if e.Reason != "" {
		s += fmt.Sprintf(": %q", e.Reason)
	}
	if e.ServerReference != "" {
		s += fmt.Sprintf(": use %q", e.ServerReference)
	}
	return s
}

func (e *ServerError) Unwrap() error { return e.Code }

func serverError(t mqtt.Type, code mqtt.ReasonCode, p *mqtt.Properties) *ServerError {
	return &ServerError{Packet: t, Code: code, Reason: string(p.ReasonString), ServerReference: string(p.ServerReference)}
}
