package sealmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
)

// Reload puts cfg in force without interrupting connections. Everything is
// checked and loaded before anything changes; after an error the old
// configuration is in force. Certificates, hosts, limits, anonymous and ways of
// authentication apply to connections accepted from then on, the policy to all. A listener whose address or transport
// settings change is opened anew; connections of one that is gone live on until
// they end. The data folder, the store, the tables [ca], [devices], [enroll] and [acme], the
// memory budgets, the bounds on sessions and retained messages in total, the
// number of tracked addresses, the interval of $SYS and the log's format stay as
// they were at start: a change of them is an error.
func (s *Server) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.Effective()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return net.ErrClosed
	}
	if err := s.fixed(cfg); err != nil {
		return err
	}
	if s.needsCA(cfg) && s.fleet.Load() == nil {
		folder, err := s.openFolder(cfg)
		if err != nil {
			return err
		}
		if err := s.openFleet(cfg, folder); err != nil {
			return err
		}
		if s.running {
			s.tend(s.fleet.Load())
		}
		if s.control != nil {
			s.control.SetFleet(s.controlled())
		}
	}
	rules, err := s.permissions.load(cfg)
	if err != nil {
		return err
	}
	fresh, set, err := s.prepare(cfg)
	if err != nil {
		return err
	}
	ways, err := s.planWays(cfg)
	if err != nil {
		return err
	}
	if !s.open { // nothing to keep
		set.Apply()
		s.authentication.use(ways)
		s.swapPolicy(rules)
		s.listeners, s.cfg = fresh, cfg
		return s.door.configure(cfg.Gate)
	}
	if err := s.swap(fresh); err != nil {
		ways.close()
		return err
	}
	s.show()
	set.Apply()
	s.authentication.use(ways)
	s.swapPolicy(rules)
	s.cfg = cfg
	s.tell()
	if err := s.door.configure(cfg.Gate); err != nil { // Validate has seen it
		return err
	}
	if s.level != nil {
		setLevel(s.level, cfg.Log)
	}
	for _, w := range cfg.Warnings() {
		s.log.Warn(w)
	}
	return nil
}

// fixed reports every change that needs a restart.
func (s *Server) fixed(cfg Config) error {
	var errs []error
	restart := func(key string, changed bool) {
		if changed {
			errs = append(errs, fmt.Errorf("%s: a change needs a restart", key))
		}
	}
	restart("data", cfg.Data != s.cfg.Data)
	restart("memory", cfg.Memory != s.cfg.Memory)
	restart("store", cfg.Store != s.cfg.Store)
	restart("ca", cfg.CA != s.cfg.CA)
	restart("devices", cfg.Devices != s.cfg.Devices)
	restart("enroll", cfg.Enroll != s.cfg.Enroll)
	restart("acme", !reflect.DeepEqual(cfg.ACME, s.cfg.ACME))
	restart("durable_wills", cfg.Broker.DurableWills != s.cfg.Broker.DurableWills)
	restart("preauth_memory", cfg.Broker.PreAuthMemory != s.cfg.Broker.PreAuthMemory)
	restart("outbound_memory", cfg.Broker.OutboundMemory != s.cfg.Broker.OutboundMemory)
	restart("max_sessions", cfg.Broker.MaxSessions != s.cfg.Broker.MaxSessions)
	restart("max_retained_messages", cfg.Broker.MaxRetained != s.cfg.Broker.MaxRetained)
	restart("max_retained_bytes", cfg.Broker.MaxRetainedBytes != s.cfg.Broker.MaxRetainedBytes)
	restart("sys_interval", cfg.Broker.SysInterval != s.cfg.Broker.SysInterval)
	restart("gate.tracked_addresses", cfg.Gate.TrackedAddresses != s.cfg.Gate.TrackedAddresses)
	restart("log.format", s.level != nil && cfg.Log.Format != s.cfg.Log.Format)
	return errors.Join(errs...)
}

// swap replaces the listeners by fresh ones. Those whose sockets can stay, stay
// and take over terms and certificates. If a socket cannot be opened, those that
// were closed for it are opened again.
func (s *Server) swap(fresh []*listener) error {
	type pair struct{ old, now *listener }
	var (
		kept   []pair
		opened []*listener
		gone   = slices.Clone(s.listeners)
		result []*listener
	)
	for _, l := range fresh {
		i := slices.IndexFunc(gone, func(o *listener) bool { return reflect.DeepEqual(o.cfg.Config, l.cfg.Config) })
		if i < 0 {
			opened = append(opened, l)
			result = append(result, l)
			continue
		}
		kept = append(kept, pair{gone[i], l})
		result = append(result, gone[i])
		gone = slices.Delete(gone, i, i+1)
	}

	// Only addresses that change hands are closed before.
	var closed []*listener
	for _, o := range gone {
		if slices.ContainsFunc(opened, func(l *listener) bool { return samePort(o.cfg.Address, l.cfg.Address) }) {
			o.close()
			closed = append(closed, o)
		}
	}
	for i, l := range opened {
		err := l.listen(s.door, s.log)
		if err == nil {
			continue
		}
		for _, before := range opened[:i] {
			before.close()
		}
		for _, o := range closed {
			again := newListener(o.cfg, nil)
			again.certs = o.certs
			if e := again.listen(s.door, s.log); e != nil {
				err = errors.Join(err, fmt.Errorf("back to the old configuration: %w", e))
				continue
			}
			s.listeners[slices.Index(s.listeners, o)] = again
			s.retired = append(s.retired, o)
			s.accept(again)
		}
		s.show()
		return err
	}

	for _, p := range kept {
		p.old.cfg = p.now.cfg
		p.old.setTerms(p.now.cfg)
	}
	for _, o := range gone {
		o.close()
	}
	for _, l := range opened {
		s.accept(l)
		s.announce(l)
	}
	s.listeners = result
	s.retired = append(s.prune(), gone...)
	return nil
}

// prune forgets retired listeners without connections.
func (s *Server) prune() []*listener {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	return slices.DeleteFunc(s.retired, func(l *listener) bool { return l.wait(done) == nil })
}

func samePort(a, b string) bool {
	_, p, err := net.SplitHostPort(a)
	_, q, err2 := net.SplitHostPort(b)
	return err == nil && err2 == nil && p == q && p != "0"
}
