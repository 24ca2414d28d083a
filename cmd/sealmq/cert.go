package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
)

func newCertCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Look after the broker's own certificates",
		Long: `  sealmq cert list                          which it shows, from where, until when
  sealmq cert renew                         all of them, before their time
  sealmq cert renew broker.example.org      that of a name

Look after the broker's own certificates. They are renewed without this.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCertListCmd(), newCertRenewCmd())
	return cmd
}

func newCertListCmd() *cobra.Command {
	var f fleetFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the certificates that the broker shows",
		Long: `  sealmq cert list
  sealmq cert list --json     everything, for programs

List the certificates that the broker shows. What keeps a newer one from being used
is printed below.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				all, err := c.ServerCertificates(ctx)
				if err != nil {
					return err
				}
				err = printAll(cmd, asJSON, "certificates", all, []string{"SOURCE", "ISSUER", "UNTIL", "LISTENERS", "NAMES"}, func(s *control.ServerCertificate) []string {
					until := ""
					if !s.NotAfter.IsZero() {
						until = s.NotAfter.Format(time.DateOnly)
					}
					return []string{s.Source, s.Issuer, until, strings.Join(s.Listeners, ","), strings.Join(s.Names, " ")}
				})
				for _, s := range all {
					if s.Trouble != "" && !asJSON {
						fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: %s: %s\n", printable(cmp.Or(s.File, strings.Join(s.Names, " "))), printable(s.Trouble))
					}
				}
				return err
			})
		},
	}
	f.add(cmd)
	jsonFlag(cmd, &asJSON, "print everything as JSON")
	return cmd
}

func newCertRenewCmd() *cobra.Command {
	var f fleetFlags
	cmd := &cobra.Command{
		Use:   "renew [NAME...]",
		Short: "Renew certificates of the broker before their time",
		Long: `  sealmq cert renew                         all of them
  sealmq cert renew broker.example.org      that of a name

Renew certificates of the broker before their time, those of its own CA and of ACME;
those in files are read again. Connections stay.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				n, err := c.RenewServerCertificates(ctx, args...)
				if err != nil {
					return err
				}
				if n == 0 {
					return withExit(exitFailure, fmt.Errorf("no certificate has %s", strings.Join(args, " or ")), "sealmq cert list")
				}
				fmt.Fprintf(cmd.OutOrStdout(), "renewed %s\n", count(n, "certificate"))
				return nil
			})
		},
	}
	f.add(cmd)
	return cmd
}
