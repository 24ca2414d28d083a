package identity

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// stamp tells one state of a file from another.
type stamp struct {
	size int64
	at   time.Time
}

// operator registers the certificate in DATA/operator, which pki issues without a registry: so it can be revoked before it
// is used first, and is let in where only registered ones are. One that was ended stays ended.
func (s *Service) operator(ctx context.Context) {
	_, path, _ := s.Folder().OperatorFiles()
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var is stamp
	if err == nil {
		if is = (stamp{fi.Size(), fi.ModTime()}); is == s.operatorFile || is.size > maxCertificate {
			return
		}
		err = s.registerFile(ctx, path)
	}
	if err != nil && s.o.Registry.Ready() == nil {
		s.o.Log.LogAttrs(ctx, slog.LevelWarn, "the operator's certificate is not registered", slog.String("file", path), slog.Any("error", err))
	}
	if err == nil || s.o.Registry.Ready() == nil { // told once
		s.operatorFile = is
	}
}

// maxCertificate bounds the file of an operator's certificate, in bytes.
const maxCertificate = 64 << 10

func (s *Service) registerFile(ctx context.Context, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	chain, err := pki.ParseCertificates(b)
	if err != nil {
		return err
	}
	id := registry.IDOf(chain[0])
	if kind, _ := registry.Split(id); kind != pki.Operator {
		return errors.New("it is no operator's")
	}
	serial := serialOf(chain[0].SerialNumber)
	if d, ok := s.o.Registry.Get(id); ok {
		for _, c := range d.Certificates {
			if c.Serial == serial {
				return nil
			}
		}
	}
	err = s.o.Registry.Issued(registry.As(ctx, "the data folder"), id, chain[0])
	if errors.Is(err, registry.ErrEnded) || errors.Is(err, registry.ErrRevoked) || errors.Is(err, registry.ErrKey) {
		return nil
	}
	return err
}
