package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/registry"
)

func newOperatorCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "Give people and programs certificates that see everything",
		Long: `  sealmq operator add alice           files for sealmq sub, pub and others
  sealmq operator list                who there is
  sealmq operator revoke alice        the end of it

Give people and programs certificates that see everything: an operator may publish
and subscribe to any topic, with any client id.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newOperatorAddCmd(), newOperatorListCmd(), newOperatorRevokeCmd())
	return cmd
}

func newOperatorAddCmd() *cobra.Command {
	var (
		f    fleetFlags
		b    bundleFlags
		life span
	)
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Issue a certificate to an operator",
		Long: `  sealmq operator add alice                       into the folder alice/
  sealmq operator add alice --for p12             also for a phone or a browser

Issue a certificate to an operator, as device add does for devices. For one that
there is, it is another one.`,
		Args: oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if err := checkNewID(name); err != nil {
				return err
			}
			if err := b.check(f.data); err != nil {
				return err
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				i, err := b.issuance(cmd, c)
				if err != nil {
					return err
				}
				done, err := i.issue(ctx, name, cmp.Or(b.out, folderFor(name)), func(csr string) (*control.Certificate, error) {
					return c.IssueOperator(ctx, control.SignRequest{ID: name, CSR: csr, Life: life.seconds()})
				})
				if err != nil {
					return err
				}
				return done.report(cmd, i)
			})
		},
	}
	f.add(cmd)
	b.operator = true
	b.add(cmd, "`FOLDER` to write (default: the operator's name)")
	lifeFlag(cmd, &life)
	return cmd
}

func newOperatorListCmd() *cobra.Command {
	var f fleetFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the operators",
		Long: `  sealmq operator list
  sealmq operator list --json     everything, for programs

List the operators.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				all, err := c.Operators(ctx)
				if err != nil {
					return err
				}
				now := time.Now()
				return printAll(cmd, asJSON, "operators", all, []string{"NAME", "STATE", "CERTIFICATE", "LAST SEEN"}, func(d *registry.Device) []string {
					return []string{strings.TrimPrefix(d.ID, "operator/"), string(d.State), certificateColumn(d, now), seenColumn(d.Seen, now)}
				})
			})
		},
	}
	f.add(cmd)
	jsonFlag(cmd, &asJSON, "print everything as JSON")
	return cmd
}

func newOperatorRevokeCmd() *cobra.Command {
	var f fleetFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke NAME...",
		Short: "End operators and their certificates for good",
		Long: `  sealmq operator revoke alice --reason key-compromise

End operators and their certificates for good. A running broker closes their
connections within a second.

Reasons: ` + strings.Join(reasonNames(), ", ") + `.`,
		Args: named("operator", "alice"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkReason(reason); err != nil {
				return err
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				for _, name := range args {
					err := c.RevokeOperator(ctx, name, reason)
					if errors.Is(err, registry.ErrUnknown) {
						return withExit(exitFailure, err, "those that there are: "+withData(self(), f.data, "operator", "list"))
					}
					if err != nil {
						return err
					}
					effect := "no broker is running"
					if c.Running() {
						effect = "connections are closed"
					}
					fmt.Fprintf(cmd.OutOrStdout(), "revoked operator %s: the certificates have ended, %s\n", name, effect)
				}
				return nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "`REASON` in the revocation list (default: unspecified)")
	return cmd
}
