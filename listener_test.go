package sealmq

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/gate"
	"github.com/sealmq/sealmq/transport"
)

// A handshake that failed is a warning; of who only looks, or says nothing, the log is silent.
func TestHandshakesThatFailed(t *testing.T) {
	var log bytes.Buffer
	s := &Server{
		door: newDoorway(t, gate.Config{}, emptyCupboard()).door, failures: transport.NewFailures(nil),
		log: slog.New(slog.NewTextHandler(&log, nil)), stop: t.Context(),
	}
	const internalError = 80
	for _, e := range []*transport.HandshakeError{
		{Cause: transport.CauseOther, Alert: userCanceled}, {Cause: transport.CauseNothingSent, Alert: -1}, {Cause: transport.CauseClosed, Alert: -1},
		{Cause: transport.CauseOther, Alert: internalError},
	} {
		e.Addr, e.Err = "192.0.2.1:4711", errors.New("failed")
		s.refused("tls", e)
		if told := strings.Contains(log.String(), "tls handshake refused"); told != (e.Alert == internalError) {
			t.Errorf("%s, alert %d: logged %v", e.Cause, e.Alert, told)
		}
	}
	if n := len(s.failures.Recent(10)); n != 4 {
		t.Errorf("%d are kept", n)
	}
}
