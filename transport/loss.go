package transport

import (
	"crypto/tls"
	"fmt"
)

// smallRecord is what every device takes: the smallest buffer that TLS knows.
const smallRecord = 512

// States of conn.large: no record of more than smallRecord bytes was sent yet,
// one was, the client has said something since.
const (
	noLarge uint32 = iota
	sentLarge
	tookLarge
)

// heard notes that the client has said something.
func (c *conn) heard() {
	if c.large.Load() == sentLarge {
		c.large.Store(tookLarge)
	}
}

// LostError is the end of an established connection, as Handler.Closed gets it,
// where more can be said of it than Err does.
type LostError struct {
	Cause Cause
	Err   error
}

func (e *LostError) Error() string {
	x, _ := Explain(e.Cause)
	return fmt.Sprintf("%v: %s (%s)", e.Err, x.What, x.Code)
}

func (e *LostError) Unwrap() error { return e.Err }

// Refused returns the cause and what to do about it.
func (e *LostError) Refused() (cause, hint string) { return string(e.Cause), hintOf(e.Cause) }

// explainLoss recognises a device that broke off because of its first large
// record: small TLS libraries send no alert then. Those that speak TLS 1.3 have
// large buffers, or say what they have.
func (c *conn) explainLoss(err error) error {
	if err == nil || !isReset(err) || c.large.Load() != sentLarge || c.tls.ConnectionState().Version != tls.VersionTLS12 {
		return err
	}
	return &LostError{CauseRecordTooBig, err}
}
