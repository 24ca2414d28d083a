package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
)

func newClaimCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "claim",
		Short: "Let devices enrol themselves",
		Long: `  sealmq claim create --qr                           a token for one device, for a day
  sealmq claim create --uses 500 --ids 'pump-*'      for many
  sealmq claim list                                  which there are
  sealmq claim revoke 3f2a9c01                       no device enrols with it any more

Let devices enrol themselves: with a claim, a token or a certificate, a device asks
the broker over MQTT for a certificate of its own, on a listener with enroll = true.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newClaimCreateCmd(), newClaimListCmd(), newClaimRevokeCmd())
	return cmd
}

// claimFlags are those of claim create.
type claimFlags struct {
	fleet       fleetFlags
	address     addressFlags
	ttl         span
	uses, rate  int
	ids         []string
	groups      []string
	attrs       []string
	note        string
	approve     bool
	qr, asJSON  bool
	certificate string
}

func newClaimCreateCmd() *cobra.Command {
	var o claimFlags
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token, or a certificate, with which devices enrol",
		Long: `  sealmq claim create                                        a token for one device, for a day
  sealmq claim create --ttl 5m --qr                          to be scanned now
  sealmq claim create --uses 500 --ids 'pump-*' --group new  for a batch
  sealmq claim create --certificate factory/ --uses 10000 --ttl 52w --approve

Make a token, or with --certificate a certificate and its key, with which devices
enrol. A token is good on a listener with enroll = true alone, which there is only if
the configuration names one, and is shown only here. The QR code holds the broker's
address (--port is that of such a listener), the fingerprint of its root and the token:

  mqtts://broker.lan:8883?ca=FINGERPRINT&token=TOKEN`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.create(cmd) },
	}
	o.fleet.add(cmd)
	cmd.Flags().IntVar(&o.uses, "uses", 0, "`NUMBER` of devices that may enrol with it (default: a token 1, a certificate any)")
	cmd.Flags().Var(&o.ttl, "ttl", "`TIME` that it is good for, such as 5m or 30d (default: a token 24h, a certificate 365d)")
	cmd.Flags().StringArrayVar(&o.ids, "ids", nil, "`PATTERN` with * and ? of ids that may enrol, or an id; an id may be repeated")
	cmd.Flags().StringArrayVar(&o.groups, "group", nil, "`GROUP` of the devices, may be repeated")
	cmd.Flags().StringArrayVar(&o.attrs, "attr", nil, "`NAME=VALUE` to be kept with the devices, may be repeated")
	cmd.Flags().StringVar(&o.note, "note", "", "`TEXT` for the list of claims")
	cmd.Flags().BoolVar(&o.approve, "approve", false, "each device waits until it is let in: sealmq device enable ID")
	cmd.Flags().IntVar(&o.rate, "rate", 0, "`NUMBER` of devices in an hour (default: the broker's)")
	cmd.Flags().BoolVar(&o.qr, "qr", false, "draw the token as a QR code on a terminal, and write claim-ID.png")
	cmd.Flags().StringVar(&o.certificate, "certificate", "", "make a certificate instead of a token, into this `FOLDER`")
	o.address.add(cmd)
	jsonFlag(cmd, &o.asJSON, "print the claim as JSON")
	return cmd
}

func (o *claimFlags) request() (control.ClaimRequest, error) {
	attributes, err := pairs("--attr", o.attrs)
	if err != nil {
		return control.ClaimRequest{}, err
	}
	q := control.ClaimRequest{Note: o.note, TTL: o.ttl.seconds(), Uses: o.uses, Groups: o.groups, Attributes: attributes, Approve: o.approve, RatePerHour: o.rate}
	for _, id := range o.ids {
		switch {
		case !strings.ContainsAny(id, `*?[\`):
			if err := checkNewID(id); err != nil {
				return q, err
			}
			q.IDs = append(q.IDs, id)
		case q.Pattern != "":
			return q, usagef("--ids: one pattern, got %q and %q", q.Pattern, id)
		default:
			q.Pattern = id
		}
	}
	return q, nil
}

func (o *claimFlags) check(cmd *cobra.Command) error {
	switch {
	case o.uses < 0 || o.uses == 0 && o.certificate == "" && cmd.Flags().Changed("uses"):
		return usagef("--uses %d is less than one device", o.uses)
	case o.rate < 0:
		return usagef("--rate %d is negative", o.rate)
	case o.qr && o.certificate != "":
		return usagef("--qr is for tokens, not for --certificate")
	case o.qr && o.asJSON:
		return usagef("--qr and --json do not go together")
	}
	o.address.enroll = o.certificate == ""
	return o.address.check(o.fleet.data)
}

func (o *claimFlags) create(cmd *cobra.Command) error {
	q, err := o.request()
	if err != nil {
		return err
	}
	if err := o.check(cmd); err != nil {
		return err
	}
	return o.fleet.with(cmd, func(ctx context.Context, c *control.Client) error {
		if o.certificate != "" {
			return o.createCertificate(ctx, cmd, c, q)
		}
		ca, err := c.CA(ctx)
		if err != nil {
			return err
		}
		made, err := c.CreateClaim(ctx, q)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if o.asJSON {
			return printJSON(w, made)
		}
		var roots []string
		for _, r := range ca.Roots {
			roots = append(roots, r.Fingerprint)
		}
		link := o.address.qrURL(roots, "token", made.Token)
		fmt.Fprintf(w, "token    %s\n", made.Token)
		describeClaim(w, &made.Claim)
		fmt.Fprintf(w, "link     %s\n\nThe token is shown only here.\n", link)
		if o.address.nowhere {
			fmt.Fprintln(cmd.ErrOrStderr(), "sealmq: warning: no listener of the running broker is for enrolment, so that the token opens nothing; one needs: enroll = true")
		}
		if o.qr {
			return writeTokenQR(cmd, made.ID, link)
		}
		return nil
	})
}

func describeClaim(w io.Writer, c *control.Claim) {
	fmt.Fprintf(w, "claim    %s, until %s, for %s\n", c.ID, moment(c.Expires), claimScope(c))
	if c.Approve {
		fmt.Fprintf(w, "approval each device waits for: sealmq device enable ID\n")
	}
}

// claimScope says for whom a claim is.
func claimScope(c *control.Claim) string {
	n := "any number of devices"
	if c.Uses > 0 {
		n = count(c.Uses, "device")
	}
	if who := claimIDs(c); who != "" {
		n += ": " + who
	}
	return n
}

// claimIDs are the ids that a claim is for, "" if it is for all.
func claimIDs(c *control.Claim) string {
	who := slices.Clone(c.IDs)
	if len(who) > 3 {
		who = []string{fmt.Sprintf("%d named ones", len(who))}
	}
	if c.Pattern != "" {
		who = append(who, c.Pattern)
	}
	return strings.Join(who, ", ")
}

func writeTokenQR(cmd *cobra.Command, id, link string) error {
	if isTerminal(cmd.OutOrStdout()) {
		fmt.Fprintln(cmd.OutOrStdout())
		if err := drawQR(cmd.OutOrStdout(), link); err != nil {
			return err
		}
	}
	png, err := qrPNG(link)
	if err != nil {
		return err
	}
	name := "claim-" + folderFor(id) + ".png"
	if err := writeNew(name, png, true); err != nil {
		return onFiles(err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "The QR code is in %s.\n", name)
	return nil
}

func (o *claimFlags) createCertificate(ctx context.Context, cmd *cobra.Command, c *control.Client, q control.ClaimRequest) error {
	var made *control.ClaimCreated
	order := func(csr string) (*control.Certificate, error) {
		q.CSR = csr
		var err error
		if made, err = c.CreateClaim(ctx, q); err != nil {
			return nil, err
		}
		if made.Certificate == nil {
			return nil, errors.New("the broker made no certificate")
		}
		return made.Certificate, nil
	}
	i := &issuance{client: c, flags: &bundleFlags{address: o.address}, takeBackAll: func(ctx context.Context) error { return c.RevokeClaim(ctx, made.ID) }}
	done, err := i.issue(ctx, "claim", o.certificate, order)
	if err != nil {
		return err
	}
	if o.asJSON {
		return printJSON(cmd.OutOrStdout(), made)
	}
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s is ready, valid until %s\n\n", done.target, done.Bundle.Leaf.NotAfter.Format(time.DateOnly))
	describeClaim(w, &made.Claim)
	return nil
}

func newClaimListCmd() *cobra.Command {
	var f fleetFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the claims",
		Long: `  sealmq claim list
  sealmq claim list --json     everything, for programs

List the claims. Tokens are not among it: the broker does not have them.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				all, err := c.Claims(ctx)
				if err != nil {
					return err
				}
				return printAll(cmd, asJSON, "claims", all, []string{"ID", "KIND", "USED", "UNTIL", "FOR", "NOTE"}, func(c *control.Claim) []string {
					used := strconv.Itoa(c.Used)
					if c.Uses > 0 {
						used += " of " + strconv.Itoa(c.Uses)
					}
					until := moment(c.Expires)
					if !c.Expires.After(time.Now()) {
						until += " (ended)"
					}
					return []string{c.ID, c.Kind, used, until, cmp.Or(claimIDs(c), "any"), c.Note}
				})
			})
		},
	}
	f.add(cmd)
	jsonFlag(cmd, &asJSON, "print everything as JSON")
	return cmd
}

// printAll prints a list as JSON or as a table; an empty one as an empty JSON list, or a line on stderr.
func printAll[T any](cmd *cobra.Command, asJSON bool, what string, all []T, heading []string, row func(*T) []string) error {
	if asJSON {
		if all == nil {
			all = []T{}
		}
		return printJSON(cmd.OutOrStdout(), all)
	}
	if len(all) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "sealmq: no "+what)
		return nil
	}
	t := table(cmd.OutOrStdout(), heading...)
	for i := range all {
		t.row(row(&all[i])...)
	}
	return t.flush()
}

func newClaimRevokeCmd() *cobra.Command {
	var f fleetFlags
	cmd := &cobra.Command{
		Use:   "revoke ID...",
		Short: "End claims",
		Long: `  sealmq claim revoke 3f2a9c01

End claims: no device enrols with them any more. Those that did stay.`,
		Args: named("claim", "3f2a9c01"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				for _, id := range args {
					if err := c.RevokeClaim(ctx, id); err != nil {
						return err
					}
					fmt.Fprintf(cmd.OutOrStdout(), "revoked claim %s: devices that enrolled with it stay\n", id)
				}
				return nil
			})
		},
	}
	f.add(cmd)
	return cmd
}

// named asks for one argument or more.
func named(what, example string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return withExit(exitUsage, errors.New("name the "+what), cmd.CommandPath()+" "+example)
		}
		return nil
	}
}
