package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/pki"
)

func newDeviceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "device",
		Short: "Give devices their identities, and take them away",
		Long: `  sealmq device add pump-17                    a certificate, with snippets to use it
  sealmq device list --expiring 30d            whose certificate ends soon
  sealmq device renew pump-17                  another certificate
  sealmq device revoke pump-17                 its end, at once and for good

Give devices their identities, and take them away. A running broker is asked, and
acts on it at once; while none runs, the data folder is changed.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newDeviceAddCmd(), newDeviceSignCmd(), newDeviceListCmd(), newDeviceShowCmd(), newDeviceRenewCmd(),
		newDeviceDisableCmd(), newDeviceEnableCmd(), newDeviceQuarantineCmd(), newDeviceRevokeCmd(), newDevicePurgeCmd(),
		newDeviceImportCmd(), newDeviceExportCmd(),
	)
	return cmd
}

// action is what a command does to devices.
type action struct {
	use, short, long string
	verb             string // "disable"
	done             string // "disabled"
	running, stopped string // what follows from it, while a broker runs and while none does
	flags            func(*cobra.Command)
	do               func(context.Context, *control.Client, control.Selection, func(control.Progress)) (control.Outcome, error)
}

func (a action) command() *cobra.Command {
	var (
		f fleetFlags
		s selectFlags
	)
	cmd := &cobra.Command{
		Use:   a.use,
		Short: a.short,
		Long:  a.long,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := s.selection(cmd, args)
			if err != nil {
				return err
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				if err := s.sure(cmd, c, a.verb, sel); err != nil {
					return err
				}
				m := newMeter(cmd, a.done)
				out, err := a.do(ctx, c, sel, m.show)
				m.end()
				if out.Done > 0 {
					a.report(cmd, c, sel, out.Done)
				} else if err == nil {
					err = errNoDevice
				}
				return err
			})
		},
	}
	f.add(cmd)
	s.add(cmd)
	if a.flags != nil {
		a.flags(cmd)
	}
	return cmd
}

// report says in one line what has happened.
func (a action) report(cmd *cobra.Command, c *control.Client, sel control.Selection, n int) {
	what := count(n, "device")
	if len(sel.IDs) == 1 {
		what = sel.IDs[0]
	}
	effect := a.stopped
	if c.Running() {
		effect = a.running
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s%s\n", a.done, what, effect)
}

func newDeviceDisableCmd() *cobra.Command {
	return action{
		use: "disable ID...", short: "Keep devices from connecting, for the time being",
		long: `  sealmq device disable pump-17            until: sealmq device enable pump-17
  sealmq device disable --group hall-3     those of a group

Keep devices from connecting, for the time being. Connections that stand are
closed, sessions and what waits in them are kept as they are.`,
		verb: "disable", done: "disabled",
		running: ": connections are closed, sessions wait", stopped: "; no broker is running",
		do: func(ctx context.Context, c *control.Client, s control.Selection, p func(control.Progress)) (control.Outcome, error) {
			return c.Disable(ctx, s, p)
		},
	}.command()
}

func newDeviceEnableCmd() *cobra.Command {
	return action{
		use: "enable ID...", short: "Let devices connect that are pending, disabled or quarantined",
		long: `  sealmq device enable pump-17             also the approval of one that waits for it
  sealmq device enable --state pending     of all that wait

Let devices connect that are pending, disabled or quarantined. A revoked one stays
revoked.`,
		verb: "enable", done: "enabled",
		do: func(ctx context.Context, c *control.Client, s control.Selection, p func(control.Progress)) (control.Outcome, error) {
			return c.Enable(ctx, s, p)
		},
	}.command()
}

func newDeviceQuarantineCmd() *cobra.Command {
	return action{
		use: "quarantine ID...", short: "Let devices do little more than renew their certificates",
		long: `  sealmq device quarantine pump-17     until: sealmq device enable pump-17

Let devices do little more than renew their certificates: they connect, and may
use the topics $pki/# and quarantine/ID/# alone.`,
		verb: "quarantine", done: "quarantined",
		running: ": connections are closed, and come back for little more than renewal", stopped: "; no broker is running",
		do: func(ctx context.Context, c *control.Client, s control.Selection, p func(control.Progress)) (control.Outcome, error) {
			return c.Quarantine(ctx, s, p)
		},
	}.command()
}

func newDevicePurgeCmd() *cobra.Command {
	return action{
		use: "purge ID...", short: "Forget devices",
		long: `  sealmq device purge pump-17              its id is free for another
  sealmq device purge --state revoked      all that are revoked

Forget devices. Certificates that have not expired are revoked, sessions end with
what waits in them, and the ids may be added again.`,
		verb: "forget", done: "forgotten:",
		running: "; connections and sessions have ended", stopped: "; no broker is running",
		do: func(ctx context.Context, c *control.Client, s control.Selection, p func(control.Progress)) (control.Outcome, error) {
			return c.Purge(ctx, s, p)
		},
	}.command()
}

func newDeviceRevokeCmd() *cobra.Command {
	var f fleetFlags
	var s selectFlags
	var reason, serial string
	cmd := &cobra.Command{
		Use:   "revoke ID...",
		Short: "End devices and their certificates for good",
		Long: `  sealmq device revoke pump-17 --reason key-compromise     it gets in nowhere any more
  sealmq device revoke --serial 4f2a...                    one certificate; the device stays
  sealmq device revoke --group hall-3 --yes                those of a group, without asking

End devices and their certificates for good. A running broker closes their
connections within a second, publishes no will, and keeps their sessions frozen; the
revocation list is signed anew. After purge, the id can be given to another device.

Reasons: ` + strings.Join(reasonNames(), ", ") + `.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := control.RevokeRequest{Serial: strings.ToLower(strings.ReplaceAll(serial, ":", "")), Reason: reason}
			if err := checkReason(reason); err != nil {
				return err
			}
			if serial != "" {
				if none := (selectFlags{yes: s.yes}); len(args) > 0 || s != none {
					return usagef("--serial names the certificate alone")
				}
				if !isHex(q.Serial) {
					return usagef("--serial %q is not hexadecimal", serial)
				}
			} else {
				sel, err := s.selection(cmd, args)
				if err != nil {
					return err
				}
				q.Selection = sel
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				if q.Serial == "" {
					if err := s.sure(cmd, c, "revoke", q.Selection); err != nil {
						return err
					}
				}
				m := newMeter(cmd, "revoked")
				out, err := c.Revoke(ctx, q, m.show)
				m.end()
				switch {
				case out.Done > 0:
					reportRevoked(cmd, c, q, out.Done)
				case err == nil:
					err = errNoDevice
				}
				return err
			})
		},
	}
	f.add(cmd)
	s.add(cmd)
	cmd.Flags().StringVar(&serial, "serial", "", "the certificate with this serial `NUMBER`, instead of devices")
	cmd.Flags().StringVar(&reason, "reason", "", "`REASON` in the revocation list (default: unspecified)")
	return cmd
}

func reportRevoked(cmd *cobra.Command, c *control.Client, q control.RevokeRequest, n int) {
	what, certificates := count(n, "device"), "their certificates have ended"
	switch {
	case q.Serial != "":
		what, certificates = "certificate "+q.Serial, "its device may have others"
	case len(q.IDs) == 1:
		what, certificates = q.IDs[0], "its certificates have ended"
	}
	effect := "no broker is running"
	if c.Running() {
		effect = "connections are closed, sessions frozen"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "revoked %s: %s, %s\n", what, certificates, effect)
}

// reasonNames are the reasons of a revocation.
func reasonNames() []string {
	var names []string
	for _, r := range []pki.Reason{pki.Unspecified, pki.KeyCompromise, pki.Superseded, pki.CessationOfOperation, pki.AffiliationChanged, pki.PrivilegeWithdrawn} {
		names = append(names, r.String())
	}
	return names
}

// checkReason finds a mistake in --reason, which may be left out.
func checkReason(reason string) error {
	if reason == "" {
		return nil
	}
	if _, err := pki.ParseReason(reason); err != nil {
		return withExit(exitUsage, fmt.Errorf("--reason: there is no reason %q", reason), "one of "+strings.Join(reasonNames(), ", "))
	}
	return nil
}

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}
