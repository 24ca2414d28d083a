package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/control"
)

func newAuditCmd() *cobra.Command {
	var f fleetFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Judge the fleet, the CA and the listeners",
		Long: `  sealmq audit              what is wrong, and the command that mends it
  sealmq audit --json       the same for programs

Judge the fleet, the CA and the listeners: what is wrong and what mends it, which
certificates end when, and with how much cryptography devices connect.

Exit codes: 0 nothing is wrong, 1 something is.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				report, err := c.Audit(ctx)
				if err != nil {
					return err
				}
				return printAudit(cmd, report, asJSON)
			})
		},
	}
	f.add(cmd)
	jsonFlag(cmd, &asJSON, "print the report as JSON")
	return cmd
}

// printAudit prints a report; findings are the exit code.
func printAudit(cmd *cobra.Command, text json.RawMessage, asJSON bool) error {
	var report audit.Report
	if err := json.Unmarshal(text, &report); err != nil {
		return fmt.Errorf("read the report: %w", err)
	}
	var err error
	if asJSON {
		err = printJSON(cmd.OutOrStdout(), &report)
	} else {
		err = report.WriteText(cmd.OutOrStdout())
	}
	if err == nil && len(report.Findings) > 0 {
		err = withExit(exitFailure, errors.New("the audit has "+count(len(report.Findings), "finding")))
	}
	return err
}
