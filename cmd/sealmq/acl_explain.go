package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/policy"
)

// aclClientFlags say who is asked about.
type aclClientFlags struct {
	device, user, operator, connected string
	anonymous                         bool

	clientID, listener, transport, tls, address string
	groups, with                                []string
}

func (f *aclClientFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.device, "device", "", "a device by its `NAME`; its groups are those of the registry")
	fl.StringVar(&f.user, "user", "", "a user with a password, by `NAME`")
	fl.StringVar(&f.operator, "operator", "", "an operator by `NAME`")
	fl.BoolVar(&f.anonymous, "anonymous", false, "a client without a name")
	fl.StringVar(&f.connected, "client", "", "a client that is connected, by its `IDENTIFIER`, with all that is known of it")
	fl.StringVar(&f.clientID, "client-id", "", "client `IDENTIFIER`; of a device its name, if it is not given")
	fl.StringSliceVar(&f.groups, "group", nil, "`GROUP`s in place of those of the registry")
	fl.StringVar(&f.listener, "listener", "", "`NAME` of the listener")
	fl.StringVar(&f.transport, "transport", "tls", "`TRANSPORT`: tls, tcp, wss or ws")
	fl.StringVar(&f.tls, "tls", "1.3", "`VERSION` of TLS, or none")
	fl.StringVar(&f.address, "address", "", "IP `ADDRESS` of the client")
	fl.StringArrayVar(&f.with, "with", nil, "another `ATTRIBUTE`, as in an assertion: 'cert.ou = sensors', 'jwt.groups = [ops, dev]'")
}

// text is the client as an assertion has it in its braces, or the identifier of one that is connected.
func (f *aclClientFlags) text(cmd *cobra.Command) (text, connected string, err error) {
	var who []string
	for _, x := range []struct{ attributes, name string }{
		{"device", f.device}, {"user", f.user}, {"operator", f.operator}, {"client", f.connected},
	} {
		if x.name == "" {
			continue
		}
		switch x.attributes {
		case "operator":
			who = append(who, attributeText("user", x.name)+" kind = operator method = certificate")
		case "client":
			connected = x.name
			who = append(who, "")
		default:
			who = append(who, attributeText(x.attributes, x.name))
		}
	}
	if f.anonymous {
		who = append(who, "method = anonymous")
	}
	if len(who) != 1 {
		return "", "", withExit(exitUsage, errors.New("say who: one of --device, --user, --operator, --anonymous and --client"),
			cmd.CommandPath()+" --device pump-17 publish pump-17/temp")
	}
	if connected != "" {
		for _, name := range []string{"client-id", "group", "listener", "transport", "tls", "address", "with"} {
			if cmd.Flags().Changed(name) {
				return "", "", usagef("--%s does not go with --client: of a client that is connected everything is known", name)
			}
		}
		return "", connected, nil
	}
	parts := who
	for _, x := range [][2]string{
		{"client_id", f.clientID}, {"listener", f.listener}, {"transport", f.transport}, {"tls", f.tls}, {"address", f.address},
	} {
		if x[1] != "" {
			parts = append(parts, attributeText(x[0], x[1]))
		}
	}
	if len(f.groups) > 0 {
		parts = append(parts, attributeText("groups", f.groups...))
	}
	text = strings.Join(append(parts, f.with...), " ")
	if _, err := policy.ParseIdentity(text); err != nil {
		var all policy.Errors
		if errors.As(err, &all) && len(all) > 0 {
			return "", "", withExit(exitUsage, errors.New(all[0].Text), all[0].Advice)
		}
		return "", "", withExit(exitUsage, err)
	}
	return text, "", nil
}

// attributeText is an attribute as policy.ParseIdentity reads it.
func attributeText(name string, values ...string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
	}
	return name + " = [" + strings.Join(quoted, ", ") + "]"
}

func newAclExplainCmd() *cobra.Command {
	var (
		f      fleetFlags
		who    aclClientFlags
		q      control.ExplainRequest
		file   string
		acl    bool
		at     string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "explain [flags] publish|subscribe|receive TOPIC",
		Short: "Say whether a client may do something, and why",
		Long: `  sealmq acl explain --device pump-17 subscribe 'dt/#'
  sealmq acl explain --device pump-17 --qos 1 --size 2000 publish dt/pump-17/temp
  sealmq acl explain --user alice --with 'jwt.groups = ops' receive dt/secret/x
  sealmq acl explain --client pump-17/logger publish x      one that is connected
  sealmq acl explain --device pump-17 --policy new.policy publish x

Say whether a client may do something, which rule decides, and what would allow it.
A running broker answers by the policy in force; while none runs, and with --policy,
a file is asked. A rate is taken for not used up.

Exit codes: 0 it may, 1 it may not, 2 wrong flags or arguments, 3 there is no answer:
a file is missing or wrong, or no such client is connected.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return withExit(exitUsage, fmt.Errorf("%s takes an action and a topic, got %q", cmd.CommandPath(), args),
					cmd.CommandPath()+" --device pump-17 publish pump-17/temp")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Action, q.Topic = args[0], args[1]
			var err error
			switch {
			case q.Action != "publish" && q.Action != "subscribe" && q.Action != "receive":
				return usagef("%q is no action: publish, subscribe and receive are", q.Action)
			case q.QoS > 2:
				return usagef("--qos: there is no QoS %d", q.QoS)
			case q.Size < 0:
				return usagef("--size: a payload of %d bytes", q.Size)
			case acl && file == "":
				return usagef("--mosquitto goes with --policy")
			}
			if at != "" {
				if q.Time, err = time.Parse(time.RFC3339, at); err != nil {
					return usagef("--time: %q is no time such as 2026-01-05T10:00:00Z", at)
				}
			}
			if q.Client, q.ClientID, err = who.text(cmd); err != nil {
				return err
			}
			if file != "" {
				if q.Policy, err = readPolicy(cmd, file, acl); err != nil {
					return err
				}
			}
			a, err := explain(cmd, &f, q)
			if err != nil {
				return undecided(err)
			}
			return printExplanation(cmd, &a, asJSON)
		},
	}
	f.add(cmd)
	who.add(cmd)
	fl := cmd.Flags()
	fl.Uint8Var(&q.QoS, "qos", 0, "`QOS`: 0, 1 or 2")
	fl.BoolVar(&q.Retain, "retain", false, "the message is retained")
	fl.IntVar(&q.Size, "size", 0, "payload in `BYTES`")
	fl.StringVar(&at, "time", "", "`TIME` of the request; now, if it is not given")
	fl.StringVar(&file, "policy", "", "`FILE` to answer by, in place of the policy in force")
	fl.BoolVar(&acl, "mosquitto", false, "the file of --policy is an ACL file of Mosquitto")
	jsonFlag(cmd, &asJSON, "print the answer as JSON")
	return cmd
}

// explain asks the broker, or a file if one is named or no broker runs.
func explain(cmd *cobra.Command, f *fleetFlags, q control.ExplainRequest) (a control.ExplainAnswer, err error) {
	err = withDevices(cmd, f, func(ctx context.Context, c *control.Client) (err error) {
		if q.ClientID != "" && !c.Running() {
			return withExit(exitFile, fmt.Errorf("client %q: %w", q.ClientID, control.ErrNotRunning), "ask about a device or user by its name")
		}
		if q.Policy == nil && !c.Running() {
			if q.Policy, err = (&policyFlags{data: f.data, config: f.config}).read(cmd, nil); err != nil {
				return err
			}
		}
		if q.Policy != nil { // its mistakes are shown better here
			if _, err := compilePolicy(q.Policy); err != nil {
				return err
			}
		}
		a, err = c.Explain(ctx, q)
		return err
	})
	return a, err
}

// undecided is the error of a question without an answer, whose exit code must not be that of a denial.
func undecided(err error) error {
	if exitCode(err) != exitFailure {
		return err
	}
	if e := (*exitError)(nil); errors.As(err, &e) {
		return &exitError{code: exitFile, err: e.err, hints: e.hints, bare: e.bare}
	}
	return withExit(exitFile, err)
}

// printExplanation prints an answer; a denial is the exit code.
func printExplanation(cmd *cobra.Command, a *control.ExplainAnswer, asJSON bool) (err error) {
	if asJSON {
		err = printJSON(cmd.OutOrStdout(), a)
	} else {
		e := policy.Explanation{Allowed: a.Allowed, Reason: a.Reason, Fix: a.Fix}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n  for %s\n", printable(e.String()), printable(a.Client))
		for _, n := range a.Notes {
			fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: note: %s\n", printable(n))
		}
	}
	if err == nil && !a.Allowed {
		err = withExit(exitFailure, errors.New("")) // it has been said
	}
	return err
}

// withDevices is fleetFlags.with, on a data folder without CA too: then no device is known.
func withDevices(cmd *cobra.Command, f *fleetFlags, do func(context.Context, *control.Client) error) error {
	c, end, err := f.connect(cmd)
	if errors.Is(err, pki.ErrNoCA) {
		c = control.Local(&control.Fleet{})
		end, err = func() error { c.Close(); return nil }, nil
	}
	if err != nil {
		return onFleet(f.data, err)
	}
	return onFleet(f.data, errors.Join(do(cmd.Context(), c), end()))
}
