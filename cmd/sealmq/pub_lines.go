package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

// lineExpiry is how long the broker keeps the session of 'pub -l' when the
// connection breaks, seconds: what is under way then is neither lost nor doubled.
const lineExpiry = 300

// lineSender publishes a stream of messages over as many connections as it takes.
type lineSender struct {
	o       *pubOptions
	l       *link
	c       *client.Client
	since   time.Time
	slots   chan struct{} // one per message on its way
	settled chan struct{} // one has come to its end
	added   bool          // the session's expiry is ours, not the user's

	mu      sync.Mutex
	again   []*client.Message // to be sent anew: the broker forgot the session
	refused error             // the first refusal
}

// sendLines sends each line of stdin with m's topic and properties.
func (o *pubOptions) sendLines(ctx context.Context, l *link, m *client.Message) error {
	s := &lineSender{
		o: o, l: l,
		slots:   make(chan struct{}, max(o.inflight, 1)),
		settled: make(chan struct{}, 1),
	}
	l.cfg.Session = new(client.Session)
	if l.cfg.Version == mqtt.V5 && m.QoS > 0 && l.cfg.SessionExpiry == 0 && o.expiry == "" {
		l.cfg.SessionExpiry, s.added = lineExpiry, true
	}
	if err := s.connect(ctx); err != nil {
		return l.explain(err)
	}
	err := s.run(ctx, m)
	if err != nil {
		l.cfg.Session.Abandon(err)
		s.end()
		return o.published(l, err)
	}
	if err := s.end(); err != nil {
		return l.explain(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == nil {
		return nil
	}
	return l.refused(exitPublish, s.refused)
}

func (s *lineSender) run(ctx context.Context, m *client.Message) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	lines, failed := readLines(reading, s.o.cmd.InOrStdin())
	for lines != nil || len(s.slots) > 0 {
		take := lines
		if len(s.slots) == cap(s.slots) {
			take = nil
		}
		select {
		case line, ok := <-take:
			if !ok {
				lines = nil
				continue
			}
			next := *m
			next.Payload = line
			s.slots <- struct{}{}
			if err := s.put(ctx, &next); err != nil {
				return err
			}
		case <-s.settled:
		case <-s.c.Done():
			if err := s.reconnect(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := failed(); err != nil {
		return fileError("stdin", err)
	}
	return nil
}

// put queues one message, on the next connection if this one has ended.
func (s *lineSender) put(ctx context.Context, m *client.Message) error {
	for {
		err := s.c.PublishAsync(ctx, m, func(code mqtt.ReasonCode, err error) { s.settle(m, code, err) })
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.c.Err() == nil:
			return err
		}
		if err := s.reconnect(ctx); err != nil {
			return err
		}
	}
}

// settle is the end of one message.
func (s *lineSender) settle(m *client.Message, code mqtt.ReasonCode, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, client.ErrSessionLost) {
		s.again = append(s.again, m)
		return
	}
	if err == nil {
		s.o.report(m, code)
		if code.IsError() && s.refused == nil {
			s.refused = fmt.Errorf("publish %q: refused by the broker: %w", m.Topic, code)
		}
	}
	<-s.slots
	select {
	case s.settled <- struct{}{}:
	default:
	}
}

func (s *lineSender) connect(ctx context.Context) (err error) {
	if s.c, err = s.l.connect(ctx); err != nil {
		return err
	}
	s.since = time.Now()
	if s.added {
		// From here on it is one session, under the id that the broker gave.
		s.l.cfg.ClientID, s.l.cfg.CleanStart = s.c.Server().ClientID, false
	}
	return nil
}

func (s *lineSender) reconnect(ctx context.Context) error {
	for {
		if err := s.l.lost(ctx, s.c, s.since); err != nil {
			return err
		}
		if err := s.connect(ctx); err != nil {
			return err
		}
		if s.resend(ctx) {
			return nil
		}
	}
}

// resend sends anew what the broker forgot; false: the connection has ended again.
func (s *lineSender) resend(ctx context.Context) bool {
	s.mu.Lock()
	again := s.again
	s.again = nil
	s.mu.Unlock()
	for i, m := range again {
		err := s.c.PublishAsync(ctx, m, func(code mqtt.ReasonCode, err error) { s.settle(m, code, err) })
		if err != nil {
			s.mu.Lock()
			s.again = append(append([]*client.Message{}, again[i:]...), s.again...)
			s.mu.Unlock()
			return false
		}
	}
	return true
}

func (s *lineSender) end() error {
	bye := s.o.props.disconnect
	if s.added && !bye.Props.Has(mqtt.PropSessionExpiry) {
		bye.Props.SessionExpiry = 0
		bye.Props.Set(mqtt.PropSessionExpiry)
	}
	return s.c.DisconnectWith(&bye)
}
