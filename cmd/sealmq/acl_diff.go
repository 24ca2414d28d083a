package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/policy"
	"github.com/sealmq/sealmq/registry"
)

func newAclDiffCmd() *cobra.Command {
	var (
		f         fleetFlags
		with      []string
		both, old bool
	)
	cmd := &cobra.Command{
		Use:   "diff [OLD] NEW",
		Short: "Say what a change of the policy changes",
		Long: `  sealmq acl diff new.policy                       against the broker's policy file
  sealmq acl diff old.policy new.policy            one file against another
  sealmq acl diff --from-mosquitto aclfile new.policy
  sealmq acl diff new.policy --with 'user = alice jwt.groups = ops'

Say what a change of the policy changes: what the devices and operators that are
registered may do after it and not before, or the other way round. The clients that
the assertions of both files name are asked about too, an anonymous one, and those of
--with. A line is a rule's change, for however many clients. Requests are made of what
the rules speak of; times of day and rates are not tried.

Exit codes: 0 nothing changes, 1 something does, or a file has mistakes, 3 one cannot
be read.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return withExit(exitUsage, fmt.Errorf("%s takes one or two files, got %d", cmd.CommandPath(), len(args)), cmd.CommandPath()+" new.policy")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			newer, err := readPolicy(cmd, args[len(args)-1], both)
			if err != nil {
				return err
			}
			var older *control.PolicyFile
			if len(args) == 2 {
				older, err = readPolicy(cmd, args[0], both || old)
			} else {
				if old {
					return usagef("--from-mosquitto is about OLD, which is not named")
				}
				older, err = (&policyFlags{data: f.data, config: f.config}).read(cmd, nil)
			}
			if err != nil {
				return err
			}
			was, err := compilePolicy(older)
			if err != nil {
				return err
			}
			is, err := compilePolicy(newer)
			if err != nil {
				return err
			}
			return withDevices(cmd, &f, func(ctx context.Context, c *control.Client) error {
				return diffPolicies(ctx, cmd, c, was, is, with)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&with, "with", nil, "another `CLIENT` to ask about, as in an assertion: 'user = alice groups = [ops]'")
	cmd.Flags().BoolVar(&both, "mosquitto", false, "the named files are ACL files of Mosquitto")
	cmd.Flags().BoolVar(&old, "from-mosquitto", false, "OLD is an ACL file of Mosquitto, NEW a policy")
	return cmd
}

func diffPolicies(ctx context.Context, cmd *cobra.Command, c *control.Client, was, is *policy.Policy, with []string) error {
	clients, err := registered(ctx, c)
	switch {
	case isUnsupported(err):
		fmt.Fprintln(cmd.ErrOrStderr(), "sealmq: note: there is no registry of devices here")
	case err != nil:
		return err
	}
	for _, text := range with {
		id, err := policy.ParseIdentity(text)
		if err != nil {
			return withExit(exitUsage, fmt.Errorf("--with: %w", err))
		}
		clients = append(clients, id)
	}
	clients = append(clients, asserted(was, is)...)
	clients = append(clients, policy.Identity{Method: "anonymous"})
	changes := policy.Diff(was, is, slices.Values(clients), nil)
	for _, x := range changes {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), printable(x.String())); err != nil {
			return err
		}
	}
	if len(changes) > 0 {
		return withExit(exitFailure, fmt.Errorf("%s; %s asked about", count(len(changes), "change"), count(len(clients), "client")))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: nothing changes; %s asked about\n", count(len(clients), "client"))
	return nil
}

// isUnsupported tells whether an answer is that the part asked for is not there.
func isUnsupported(err error) bool {
	e := (*control.Error)(nil)
	return errors.As(err, &e) && e.Code == control.CodeUnsupported
}

// registered are the devices and operators that may connect, or may do so again, as they would be on a listener with TLS.
func registered(ctx context.Context, c *control.Client) ([]policy.Identity, error) {
	var all []policy.Identity
	err := c.Devices(ctx, control.Query{}, func(d registry.Device) error {
		if d.State != registry.Revoked {
			all = append(all, control.IdentityOf(&d))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	operators, err := c.Operators(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range operators {
		if d.State != registry.Revoked {
			all = append(all, control.IdentityOf(&d))
		}
	}
	return all, nil
}

// asserted are the clients that the assertions of policies name.
func asserted(policies ...*policy.Policy) []policy.Identity {
	var all []policy.Identity
	seen := map[string]bool{}
	for _, p := range policies {
		for _, d := range p.File().Decls {
			if d.Assert == nil || len(d.Assert.Identity) == 0 {
				continue
			}
			var parts []string
			for _, a := range d.Assert.Identity {
				parts = append(parts, attributeText(a.Key, a.Values...))
			}
			text := strings.Join(parts, " ")
			if id, err := policy.ParseIdentity(text); err == nil && !seen[text] {
				seen[text] = true
				all = append(all, id)
			}
		}
	}
	return all
}
