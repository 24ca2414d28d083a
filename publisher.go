package sealmq

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// Bounds of the server of revocation lists: it answers strangers.
const (
	publisherConns   = 256
	publisherTimeout = 10 * time.Second
	publisherHeader  = 8 << 10
)

// openPublisher serves revocation lists and roots where the configuration says. The caller holds mu.
func (s *Server) openPublisher() error {
	addr := s.cfg.CA.PublishAddress
	if addr == "" {
		return nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("ca.publish_address: %w", err)
	}
	s.publisher = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f := s.fleet.Load()
			if f == nil {
				http.NotFound(w, r)
				return
			}
			f.identity.Handler().ServeHTTP(w, r)
		}),
		ReadTimeout: publisherTimeout, WriteTimeout: publisherTimeout, IdleTimeout: publisherTimeout, MaxHeaderBytes: publisherHeader,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
	}
	s.log.Info("publishing revocation lists", "address", l.Addr().String())
	s.tasks.Go(func() { _ = s.publisher.Serve(netutil.LimitListener(l, publisherConns)) })
	return nil
}

// closePublisher ends it, with the answers under way.
func (s *Server) closePublisher() {
	if s.publisher != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.publisher.Shutdown(ctx) != nil {
			s.publisher.Close()
		}
	}
}
