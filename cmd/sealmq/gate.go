package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/gate"
)

func newGateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gate",
		Short: "Say who is kept out, and keep somebody out",
		Long: `  sealmq gate list                                     who is kept out, and until when
  sealmq gate ban 203.0.113.0/24 --for 1d --note scan  keep a network out
  sealmq gate unban 203.0.113.9                        let an address in again
  sealmq gate stats                                    how many came, and how many were refused

Say which addresses and networks the running broker keeps out, and change that.
Addresses whose connections fail too often are banned for a time by themselves.
A ban keeps new connections out; those that are open stay.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGateListCmd(), newGateBanCmd(), newGateUnbanCmd(), newGateStatsCmd())
	return cmd
}

// onGate asks the broker that runs on a data folder.
func onGate(cmd *cobra.Command, data string, f func(context.Context, *control.Client) error) error {
	c, err := control.Dial(data)
	if err != nil {
		return onControl(data, err)
	}
	defer c.Close()
	if err := f(cmd.Context(), c); err != nil {
		return onControl(data, err)
	}
	return nil
}

func newGateListCmd() *cobra.Command {
	var data string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the bans in force",
		Long: `  sealmq gate list
  sealmq gate list --json     everything, for programs

List the bans in force, those that last longest first.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onGate(cmd, data, func(ctx context.Context, c *control.Client) error {
				all, err := c.Bans(ctx)
				if err != nil {
					return err
				}
				return printAll(cmd, asJSON, "bans", all, []string{"WHO", "UNTIL", "WHY"}, func(b *control.Ban) []string {
					return []string{whoColumn(b.Prefix), moment(b.Until), whyColumn(b)}
				})
			})
		},
	}
	dataFlag(cmd, &data)
	jsonFlag(cmd, &asJSON, "print everything as JSON")
	return cmd
}

func newGateBanCmd() *cobra.Command {
	var data, note string
	var d span
	cmd := &cobra.Command{
		Use:   "ban PREFIX",
		Short: "Keep an address or a network out",
		Long: `  sealmq gate ban 203.0.113.9                            until it is ended
  sealmq gate ban 203.0.113.0/24 --for 1d --note scan    a network, for a day
  sealmq gate ban 2001:db8:77::/48

Keep an address or a network out, also one of gate.exempt. At most an IPv4 /8 or an
IPv6 /16. The ban outlives a restart. Connections that are open stay.`,
		Args: onePrefix,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := prefix(args[0])
			if err != nil {
				return err
			}
			return onGate(cmd, data, func(ctx context.Context, c *control.Client) error {
				b, err := c.Ban(ctx, control.BanRequest{Prefix: p, For: d.seconds(), Note: note})
				if err != nil {
					return err
				}
				until := "until it is ended"
				if !b.Until.IsZero() {
					until = "until " + moment(b.Until)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "banned %s %s\n", whoColumn(b.Prefix), until)
				return err
			})
		},
	}
	dataFlag(cmd, &data)
	cmd.Flags().Var(&d, "for", "`TIME` that the ban lasts, such as 5m or 30d (default: until it is ended)")
	cmd.Flags().StringVar(&note, "note", "", "`TEXT` for the list of bans")
	return cmd
}

func newGateUnbanCmd() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "unban PREFIX",
		Short: "Let an address or a network in again",
		Long: `  sealmq gate unban 203.0.113.9
  sealmq gate unban 0.0.0.0/0         everybody of IPv4

End the bans of an address or a network, and of what lies in it, those made by hand
and the others, and forget the failures there. Bans of wider networks stay, and are
told.`,
		Args: onePrefix,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := prefix(args[0])
			if err != nil {
				return err
			}
			return onGate(cmd, data, func(ctx context.Context, c *control.Client) error {
				u, err := c.Unban(ctx, control.UnbanRequest{Prefix: p})
				if err != nil {
					return err
				}
				for _, b := range u.Ended {
					fmt.Fprintf(cmd.OutOrStdout(), "no longer banned: %s\n", whoColumn(b.Prefix))
				}
				switch {
				case len(u.Ended) == 0 && len(u.Left) == 0:
					fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: nothing is banned there: %s\n", whoColumn(p))
				case len(u.Ended) == 0:
					fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: %s is not banned by itself\n", whoColumn(p))
				}
				for _, b := range u.Left {
					fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: still banned with %s: %s\n", whoColumn(b.Prefix), withData(self(), data, "gate", "unban", whoColumn(b.Prefix)))
				}
				return nil
			})
		},
	}
	dataFlag(cmd, &data)
	return cmd
}

func newGateStatsCmd() *cobra.Command {
	var data string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Say how many connections came, and how many were refused",
		Long: `  sealmq gate stats
  sealmq gate stats --json     everything, for programs

Say how many connections are open, how many were refused for which reason, and which
failures there were before a CONNECT was accepted, all since the broker started.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onGate(cmd, data, func(ctx context.Context, c *control.Client) error {
				s, err := c.GateStats(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), s)
				}
				return writeGateStats(cmd.OutOrStdout(), s)
			})
		},
	}
	dataFlag(cmd, &data)
	jsonFlag(cmd, &asJSON, "print everything as JSON")
	return cmd
}

// writeGateStats prints one screen. What has not happened is not listed.
func writeGateStats(w io.Writer, s control.GateStats) error {
	fmt.Fprintf(w, "%-14s %d, %d of them in the handshake, %d before CONNECT\n", "connections", s.Open, s.Handshakes, s.Connects)
	fmt.Fprintf(w, "%-14s %d admitted, %d refused\n", "came", s.Verdicts[admitted], refusedOf(s))
	fmt.Fprintf(w, "%-14s %d in force, %d made by failures\n", "bans", s.Bans, s.Banned)
	if s.MemoryLimit > 0 {
		fmt.Fprintf(w, "%-14s %s of %s, %s\n", "memory", size(s.MemoryUsed), size(s.MemoryLimit), s.Level)
	} else {
		fmt.Fprintf(w, "%-14s %s, no limit\n", "memory", size(s.MemoryUsed))
	}
	list := func(all map[string]uint64, what string) {
		for _, word := range slices.Sorted(maps.Keys(all)) {
			if n := all[word]; n > 0 && word != admitted {
				fmt.Fprintf(w, "%14d %s: %s\n", n, what, word)
			}
		}
	}
	list(s.Verdicts, "connections refused")
	list(s.Failures, "connections failed")
	if s.Untracked > 0 {
		fmt.Fprintf(w, "%14d connections counted in fewer places, for want of room: raise gate.tracked_addresses\n", s.Untracked)
	}
	if s.Unkept > 0 {
		fmt.Fprintf(w, "%14d failures were not kept, for want of room\n", s.Unkept)
	}
	return nil
}

const admitted = "admitted"

// refusedOf is how many connections were refused.
func refusedOf(s control.GateStats) (n uint64) {
	for word, k := range s.Verdicts {
		if word != admitted {
			n += k
		}
	}
	return n
}

// gateRow is the line of the front door in the status.
func gateRow(s control.GateStats) [2]string {
	text := fmt.Sprintf("%d open, %d in the handshake, %d before CONNECT; %d refused, %d bans", s.Open, s.Handshakes, s.Connects, refusedOf(s), s.Bans)
	if s.Level != gate.Calm.String() {
		text += "; memory is short: " + s.Level
	}
	return [2]string{"front door", text}
}

func onePrefix(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s takes one address or network, got %d", cmd.CommandPath(), len(args))
	}
	return nil
}

func prefix(text string) (netip.Prefix, error) {
	p, err := gate.ParsePrefix(text)
	if err != nil {
		return p, withExit(exitUsage, err, "an address such as 203.0.113.9, or a network such as 203.0.113.0/24 or 2001:db8::/48")
	}
	return p, nil
}

// whoColumn is an address or a network.
func whoColumn(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func whyColumn(b *control.Ban) string {
	switch {
	case !b.Manual:
		if b.Times > 1 {
			return fmt.Sprintf("failures, the first %s; its ban number %d", b.Cause, b.Times)
		}
		return "failures, the first " + b.Cause
	case b.Note != "":
		return "by hand: " + strings.TrimSpace(b.Note)
	}
	return "by hand"
}
