//go:build !unix

package control

import (
	"context"
	"fmt"
	"net"
	"runtime"
)

func listen(string) (net.Listener, error) { return nil, unsupported() }

func dial(context.Context, string) (net.Conn, error) { return nil, unsupported() }

func unsupported() error {
	return fmt.Errorf("control socket: %w on %s", ErrNotSupported, runtime.GOOS)
}
