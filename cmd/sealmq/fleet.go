package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// fleetFlags are those of every command about devices, claims and the CA. Such a command asks the broker that runs on the
// data folder; while none runs, it does the same work on the folder itself.
type fleetFlags struct {
	data           string
	config         string
	passphraseFile string
}

func (f *fleetFlags) add(cmd *cobra.Command) {
	dataFlag(cmd, &f.data)
	cmd.Flags().StringVar(&f.config, "config", "", "configuration `FILE` of the broker: its data folder, and its settings while it does not run")
	passphraseFlag(cmd, &f.passphraseFile)
}

// keys is how the CA's keys are reached while no broker runs.
func (f *fleetFlags) keys(cmd *cobra.Command) pki.KeyOptions {
	return pki.KeyOptions{Passphrase: passphrase(cmd, f.passphraseFile)}
}

// with calls do with a client of the fleet.
func (f *fleetFlags) with(cmd *cobra.Command, do func(context.Context, *control.Client) error) error {
	c, end, err := f.connect(cmd)
	if err != nil {
		return onFleet(f.data, err)
	}
	err = do(cmd.Context(), c)
	return onFleet(f.data, errors.Join(err, end()))
}

func (f *fleetFlags) connect(cmd *cobra.Command) (c *control.Client, end func() error, err error) {
	cfg := sealmq.Config{}
	if f.config != "" {
		if cfg, err = loadConfig(f.config); err != nil {
			return nil, nil, err
		}
		if !cmd.Flags().Changed("data") {
			f.data = cfg.Data
		}
	}
	cfg.Data = f.data
	c, err = control.Dial(f.data)
	if err == nil {
		return c, func() error { c.Close(); return nil }, nil
	}
	if !errors.Is(err, control.ErrNotRunning) && !errors.Is(err, control.ErrNotSupported) {
		return nil, nil, err
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	fleet, closeFleet, err := sealmq.OpenFleet(cfg, f.keys(cmd), log)
	if err != nil {
		return nil, nil, err
	}
	fleet.Log = nil // of what fails here, the error says it all
	c = control.Local(fleet)
	return c, func() error { c.Close(); return closeFleet() }, nil
}

// maxFailuresShown bounds the lines about devices that an action has failed for.
const maxFailuresShown = 20

// onFleet gives an error about the fleet its exit code and its hints.
func onFleet(data string, err error) error {
	var coded *exitError
	var partial *control.PartialError
	switch {
	case err == nil || errors.As(err, &coded):
		return err
	case errors.As(err, &partial):
		return onPartial(partial)
	}
	if errors.Is(err, pki.ErrLocked) {
		return withExit(exitFile, err, "--passphrase-file FILE, or the environment variable "+passphraseEnv)
	}
	var h interface{ Hint() string }
	hinted := errors.As(err, &h) && h.Hint() != ""
	again := withData(self(), data, "device")
	switch {
	case hinted:
	case errors.Is(err, registry.ErrUnknown):
		return withExit(exitFailure, err, "those that there are: "+again+" list")
	case errors.Is(err, registry.ErrRevoked):
		return withExit(exitFailure, err, "it is free for another after: "+again+" purge ID")
	case errors.Is(err, identity.ErrDisabled):
		return withExit(exitFailure, err, again+" enable ID")
	}
	if e := (*control.Error)(nil); errors.As(err, &e) {
		if e.Advice != "" {
			return withExit(exitFailure, err, e.Advice)
		}
		return err
	}
	return onData(data, err)
}

// onPartial names the devices that an action has failed for.
func onPartial(p *control.PartialError) error {
	var hints []string
	if len(p.Failed) == 1 {
		f := p.Failed[0]
		if f.Advice != "" {
			hints = append(hints, f.Advice)
		}
		if f.Line > 0 {
			return withExit(exitFailure, &summary{fmt.Sprintf("%s: line %d: %s", p.What, f.Line, f.Text), p}, hints...)
		}
		return withExit(exitFailure, p, hints...)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d done, %d failed", p.What, p.Done, len(p.Failed))
	for i, f := range p.Failed {
		if i == maxFailuresShown {
			fmt.Fprintf(&b, "\n  and %d more", len(p.Failed)-i)
			break
		}
		name := f.ID
		if f.Line > 0 {
			name = fmt.Sprintf("line %d", f.Line)
		}
		fmt.Fprintf(&b, "\n  %s: %s", name, f.Text)
	}
	return withExit(exitFailure, &summary{b.String(), p})
}

// summary is an error with a text of its own.
type summary struct {
	text string
	err  error
}

func (s *summary) Error() string { return s.text }
func (s *summary) Unwrap() error { return s.err }
