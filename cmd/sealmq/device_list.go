package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/registry"
)

func newDeviceListCmd() *cobra.Command {
	var (
		f      fleetFlags
		s      selectFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "list [PATTERN]",
		Short: "List the devices",
		Long: `  sealmq device list                                  all
  sealmq device list 'pump-*' --state disabled        by id, with * and ?, and by state
  sealmq device list --group hall-3 --expiring 30d    whose last certificate ends soon
  sealmq device list --json | jq -r .id               an object a line, for programs

List the devices, by id.`,
		Args: atMostOne("pattern"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := s.query(strings.Join(args, ""))
			if err != nil {
				return err
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				if asJSON {
					e := json.NewEncoder(cmd.OutOrStdout())
					return c.Devices(ctx, q, func(d registry.Device) error { return e.Encode(d) })
				}
				return listDevices(ctx, cmd, c, q)
			})
		},
	}
	f.add(cmd)
	s.addQuery(cmd)
	jsonFlag(cmd, &asJSON, "print each device as a JSON object in a line")
	return cmd
}

func jsonFlag(cmd *cobra.Command, asJSON *bool, about string) {
	cmd.Flags().BoolVar(asJSON, "json", false, about)
}

// printJSON prints one value for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func atMostOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef("%s takes one %s, got %d", cmd.CommandPath(), what, len(args))
		}
		return nil
	}
}

func listDevices(ctx context.Context, cmd *cobra.Command, c *control.Client, q control.Query) error {
	now := time.Now()
	t := table(cmd.OutOrStdout(), "ID", "STATE", "GROUPS", "CERTIFICATE", "LAST SEEN")
	n := 0
	err := c.Devices(ctx, q, func(d registry.Device) error {
		n++
		t.row(d.ID, string(d.State), strings.Join(d.Groups, ","), certificateColumn(&d, now), seenColumn(d.Seen, now))
		return nil
	})
	if err != nil {
		return err
	}
	if n == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "sealmq: no devices")
		return nil
	}
	return t.flush()
}

// columns prints rows under a heading.
type columns struct {
	*tabwriter.Writer
	err error
}

func table(w io.Writer, heading ...string) *columns {
	c := &columns{Writer: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	c.row(heading...)
	return c
}

func (c *columns) row(cells ...string) {
	for i, cell := range cells {
		if cells[i] = printable(cell); cells[i] == "" {
			cells[i] = "-"
		}
	}
	_, err := fmt.Fprintln(c, strings.Join(cells, "\t"))
	c.err = errors.Join(c.err, err)
}

func (c *columns) flush() error { return errors.Join(c.err, c.Flush()) }

// lastCertificate is the active one that ends last, nil if there is none.
func lastCertificate(d *registry.Device) *registry.Certificate {
	var last *registry.Certificate
	for i, c := range d.Certificates {
		if c.State == registry.CertActive && (last == nil || c.NotAfter.After(last.NotAfter)) {
			last = &d.Certificates[i]
		}
	}
	return last
}

func certificateColumn(d *registry.Device, now time.Time) string {
	c := lastCertificate(d)
	switch {
	case c == nil:
		return "none"
	case !c.NotAfter.After(now):
		return "ended " + c.NotAfter.Format(time.DateOnly)
	}
	return "until " + c.NotAfter.Format(time.DateOnly)
}

// daysTo counts the days until t, the one that has begun included.
func daysTo(t, now time.Time) string { return count(int((t.Sub(now)+day-1)/day), "day") }

func seenColumn(s registry.Seen, now time.Time) string {
	if s.At.IsZero() {
		return "never"
	}
	return ago(now.Sub(s.At))
}

// ago is a time that has passed, in its largest unit.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d days ago", d/day)
}

func newDeviceShowCmd() *cobra.Command {
	var f fleetFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show what is known of a device, and what to do about it",
		Long: `  sealmq device show pump-17
  sealmq device show pump-17 --json     everything, for programs

Show what is known of a device, and what to do about it.`,
		Args: oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				d, err := c.Device(ctx, args[0])
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), d)
				}
				return showDevice(cmd.OutOrStdout(), &d, time.Now(), func(words ...string) string {
					return withData(self(), f.data, append([]string{"device"}, words...)...)
				})
			})
		},
	}
	f.add(cmd)
	jsonFlag(cmd, &asJSON, "print everything as JSON")
	return cmd
}

// showDevice prints one screen; command makes a line of sealmq device.
func showDevice(w io.Writer, d *registry.Device, now time.Time, command func(...string) string) error {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-13s %s\n", name, printable(value))
		}
	}
	line("device", d.ID)
	line("state", string(d.State))
	line("groups", strings.Join(d.Groups, ", "))
	var names []string
	for name := range d.Attributes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		line("attribute", name+" = "+d.Attributes[name])
	}
	line("note", d.Note)
	line("added", moment(d.Created))
	line("changed", moment(d.Changed))
	line("last seen", seenLine(d.Seen, now))
	fmt.Fprintln(w)
	if len(d.Certificates) == 0 {
		fmt.Fprintln(w, "no certificates")
	} else {
		t := table(w, "CERTIFICATE", "STATE", "VALID UNTIL", "REMARK")
		for _, c := range d.Certificates {
			t.row(c.Serial, certificateState(&c, now), c.NotAfter.Format(time.DateOnly), certificateNote(&c, d, now))
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	for _, a := range advice(d, now) {
		fmt.Fprintf(w, "\n%s:\n", a.what)
		for _, words := range a.commands {
			fmt.Fprintf(w, "  %s\n", command(words...))
		}
	}
	return nil
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04")
}

func seenLine(s registry.Seen, now time.Time) string {
	if s.At.IsZero() {
		return "never"
	}
	words := []string{moment(s.At) + " (" + ago(now.Sub(s.At)) + ")"}
	if s.Address != "" {
		words = append(words, "from "+s.Address)
	}
	for _, w := range []string{s.TLSVersion, s.Group, s.CipherSuite} {
		if w != "" {
			words = append(words, w)
		}
	}
	if s.Firmware != "" {
		words = append(words, "firmware "+s.Firmware)
	}
	return strings.Join(words, ", ")
}

func certificateState(c *registry.Certificate, now time.Time) string {
	if c.State == registry.CertActive && !c.NotAfter.After(now) {
		return "ended"
	}
	return string(c.State)
}

func certificateNote(c *registry.Certificate, d *registry.Device, now time.Time) string {
	var words []string
	switch {
	case c.State == registry.CertRevoked:
		words = append(words, moment(c.RevokedAt), c.Reason.String())
	case c.State == registry.CertSuperseded:
		words = append(words, moment(c.RevokedAt))
	case c.NotAfter.After(now):
		words = append(words, "ends in "+daysTo(c.NotAfter, now))
	}
	if c.Serial == d.Seen.Serial {
		words = append(words, "used last")
	}
	return strings.Join(words, ", ")
}

// proposal is something to be done about a device.
type proposal struct {
	what     string
	commands [][]string
}

func advice(d *registry.Device, now time.Time) []proposal {
	switch d.State {
	case registry.Pending:
		return []proposal{{"It waits to be let in", [][]string{{"enable", d.ID}, {"purge", d.ID}}}}
	case registry.Disabled:
		return []proposal{{"It may not connect, until", [][]string{{"enable", d.ID}}}}
	case registry.Revoked:
		return []proposal{{"It is gone for good; another one may have the id after", [][]string{{"purge", d.ID}}}}
	}
	var all []proposal
	if d.State == registry.Quarantined {
		all = append(all, proposal{"It may do little more than renew its certificate, until", [][]string{{"enable", d.ID}}})
	}
	renew := [][]string{{"renew", d.ID}}
	switch c := lastCertificate(d); {
	case c == nil:
		all = append(all, proposal{"It has no certificate, and cannot connect", renew})
	case !c.NotAfter.After(now):
		all = append(all, proposal{"Its certificate has ended, and it cannot connect", renew})
	case c.NotAfter.Sub(now) < c.NotAfter.Sub(c.NotBefore)/3:
		all = append(all, proposal{"Its certificate ends in " + daysTo(c.NotAfter, now) + ", and it has not renewed it", renew})
	}
	return all
}
