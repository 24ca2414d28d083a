//go:build unix

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxSocketPath is the longest path of a unix socket: sun_path less its final zero.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// listen opens the socket of a data folder. A socket that nobody listens on any more is replaced, and so whoever calls
// holds the lock of the folder, if there is one.
func listen(data string) (*net.UnixListener, error) {
	path := filepath.Join(data, SocketName)
	if err := checkPath(path); err != nil {
		return nil, err
	}
	switch fi, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open control socket: %w", err)
	case fi.Mode().Type() != fs.ModeSocket:
		return nil, hintf("move it away", "open control socket %s: something else has that name", path)
	default:
		c, err := net.DialTimeout("unix", path, 5*time.Second)
		if err == nil {
			defer c.Close()
			return nil, hintf("a data folder belongs to one broker: end the other, or use another folder",
				"open control socket %s: a running broker has it%s", path, peerOf(c).where())
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("open control socket: %w", err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("replace control socket of an ended broker: %w", err)
		}
	}
	// Where the mode of the descriptor becomes that of the file, nobody else gets in before the chmod.
	cfg := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
	}}
	l, err := cfg.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return l.(*net.UnixListener), nil
}

// dial connects to the broker of a data folder.
func dial(ctx context.Context, data string) (net.Conn, error) {
	path := filepath.Join(data, SocketName)
	if err := checkPath(path); err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return nil, fmt.Errorf("%w on %s", ErrNotRunning, data)
	case errors.Is(err, fs.ErrPermission):
		return nil, hintf("run the command as the user that runs the broker, or as root", "open %s: %w", path, fs.ErrPermission)
	}
	return nil, fmt.Errorf("reach the broker: %w", err)
}

func checkPath(path string) error {
	if len(path) <= maxSocketPath {
		return nil
	}
	return hintf("a data folder with a shorter path, or one relative to the working directory",
		"control socket %s: the path has %d bytes, and the system takes %d", path, len(path), maxSocketPath)
}
