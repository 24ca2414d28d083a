package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/policy"
)

func newAclWhyCmd() *cobra.Command {
	var (
		f      policyFlags
		last   int
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "why CLIENT",
		Short: "Say what was refused to a client lately, and why",
		Long: `  sealmq acl why pump-17              of the device pump-17
  sealmq acl why pump-17/logger       of one of its clients, by client identifier
  sealmq acl why alice --last 50      of the user alice, the last 50

Say what the running broker has refused to a device, user or client lately: the
newest first, with the rule that decided or is nearest, and what would allow it. The
broker keeps some hundred for each in memory.

Exit codes: 0 done, 3 no broker runs.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return withExit(exitUsage, fmt.Errorf("%s takes one name, got %q", cmd.CommandPath(), args), cmd.CommandPath()+" pump-17")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if last < 1 {
				return usagef("--last: %d is less than 1", last)
			}
			if _, err := f.settle(cmd); err != nil {
				return err
			}
			c, err := control.Dial(f.data)
			if err != nil {
				return onControl(f.data, err)
			}
			defer c.Close()
			all, err := c.Why(cmd.Context(), args[0], last)
			if err != nil {
				return onControl(f.data, err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			if len(all) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: nothing is known that was refused to %s; connections that failed: %s\n",
					printable(args[0]), withData(self(), f.data, "status", "--failures", "20"))
			}
			for _, d := range all {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), denialText(&d)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	dataFlag(cmd, &f.data)
	cmd.Flags().StringVar(&f.config, "config", "", "configuration `FILE` of the broker: its data folder")
	cmd.Flags().IntVarP(&last, "last", "n", 10, "`NUMBER` of refusals that are shown")
	jsonFlag(cmd, &asJSON, "print them as JSON")
	return cmd
}

// denialText is a denial for people, on two lines.
func denialText(d *control.Denial) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s", d.Time.Local().Format(time.DateTime), d.Action)
	if d.Action == "connect" {
		fmt.Fprintf(&b, " as %q", d.ClientID)
	} else {
		fmt.Fprintf(&b, " %q, QoS %d", d.Topic, d.QoS)
		if d.Retain {
			b.WriteString(", retained")
		}
		if d.Size > 0 {
			b.WriteString(", " + count(d.Size, "byte"))
		}
		fmt.Fprintf(&b, ", client %q", d.ClientID)
	}
	if d.Times > 1 {
		fmt.Fprintf(&b, ", %d times", d.Times)
	}
	b.WriteString("\n  ")
	if d.Allowed {
		by := "no rule allowed it"
		if d.Rule != "" {
			by = "by " + d.Rule
		}
		b.WriteString(printable("refused then (" + by + "), allowed since: " + d.Reason))
		return b.String()
	}
	e := policy.Explanation{Reason: d.Reason, Fix: d.Fix}
	b.WriteString(printable(e.String()))
	return b.String()
}
