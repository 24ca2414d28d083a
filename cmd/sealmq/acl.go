package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/policy"
)

func newAclCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "acl",
		Short: "Say who may do what, and why",
		Long: `  sealmq acl explain --device pump-17 subscribe 'dt/#'    may it, why, and what would allow it
  sealmq acl why pump-17                                  what was refused lately
  sealmq acl test                                         are the assertions true
  sealmq acl diff old.policy new.policy                   what a change changes
  sealmq acl lint                                         what looks wrong
  sealmq acl format --write                               the file in its usual form
  sealmq acl starter >new.policy                          the one that a broker begins with

Say who may do what, and why. The policy is that of the running broker; while none
runs the one that --config names, else the file policy in the data folder.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAclExplainCmd(), newAclWhyCmd(), newAclTestCmd(), newAclDiffCmd(), newAclLintCmd(), newAclFormatCmd(), newAclStarterCmd())
	return cmd
}

// policyFlags say which policy file is meant.
type policyFlags struct {
	data, config string
	mosquitto    bool
}

func (f *policyFlags) add(cmd *cobra.Command) {
	dataFlag(cmd, &f.data)
	cmd.Flags().StringVar(&f.config, "config", "", "configuration `FILE` of the broker, which may name a policy")
	mosquittoFlag(cmd, &f.mosquitto)
}

func mosquittoFlag(cmd *cobra.Command, mosquitto *bool) {
	cmd.Flags().BoolVar(mosquitto, "mosquitto", false, "the named file is an ACL file of Mosquitto")
}

// settle reads the configuration, if one is named, for its data folder and its policy.
func (f *policyFlags) settle(cmd *cobra.Command) (cfg sealmq.Config, err error) {
	if f.config != "" {
		if cfg, err = loadConfig(f.config); err != nil {
			return cfg, err
		}
		if !cmd.Flags().Changed("data") {
			f.data = cfg.Data
		}
	}
	cfg.Data = f.data
	return cfg, nil
}

// read reads the policy file among the arguments, or that of the configuration.
func (f *policyFlags) read(cmd *cobra.Command, args []string) (*control.PolicyFile, error) {
	cfg, err := f.settle(cmd)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		if f.config == "" && !f.mosquitto { // what the running broker goes by, wherever that is
			if setup := running(f.data); setup != nil {
				return readPolicy(cmd, setup.Policy, setup.Mosquitto)
			}
		}
		return configuredPolicy(cfg, f.mosquitto)
	}
	return readPolicy(cmd, args[0], f.mosquitto)
}

// running is how the broker is set up that runs on a data folder; nil if none does.
func running(data string) *control.Setup {
	c, err := control.Dial(data)
	if err != nil {
		return nil
	}
	defer c.Close()
	h, err := c.Health(context.Background())
	if err != nil {
		return nil
	}
	return h.Setup
}

// configuredPolicy reads the policy file of a configuration.
func configuredPolicy(cfg sealmq.Config, mosquitto bool) (*control.PolicyFile, error) {
	if mosquitto && cfg.ACLFile == "" {
		return nil, withExit(exitUsage, errors.New("--mosquitto is about a file, and none is named"))
	}
	f, err := sealmq.ReadPolicy(cfg)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, fs.ErrNotExist) && cfg.Policy == "" && cfg.ACLFile == "":
		return nil, withExit(exitFile, err, "name a file, or the data folder with --data; its policy is made when the broker starts first")
	case errors.Is(err, fs.ErrNotExist):
		return nil, withExit(exitFile, err, "the configuration names it; another is named by the command")
	}
	return nil, withExit(exitFile, err)
}

// readPolicy reads a policy file; "-" is what comes from stdin.
func readPolicy(cmd *cobra.Command, path string, mosquitto bool) (*control.PolicyFile, error) {
	var text []byte
	var err error
	name := path
	if path == "-" && cmd != nil {
		name = "stdin"
		text, err = readSmall(path, cmd.InOrStdin())
	} else {
		text, err = readSmall(path)
	}
	if err != nil {
		return nil, withExit(exitFile, err)
	}
	return &control.PolicyFile{Name: name, Text: string(text), Mosquitto: mosquitto}, nil
}

// compilePolicy reads a policy for a command. What is wrong in it is shown as file:line, ready for editors.
func compilePolicy(f *control.PolicyFile) (*policy.Policy, error) {
	p, err := f.Compile()
	return p, onPolicy(f, err)
}

func onPolicy(f *control.PolicyFile, err error) error {
	var all policy.Errors
	if !errors.As(err, &all) {
		return err
	}
	return &exitError{code: exitFailure, bare: true, err: fmt.Errorf("%w\nsealmq: %s: %s", err, f.Name, count(len(all), "mistake"))}
}

func newAclTestCmd() *cobra.Command {
	var f policyFlags
	cmd := &cobra.Command{
		Use:   "test [FILE]",
		Short: "Test the assertions of a policy",
		Long: `  sealmq acl test                  the broker's policy
  sealmq acl test new.policy       a file, before it takes the other's place

Test the assertions of a policy: its lines assert allow and assert deny. A file
whose assertions are not true is not put in force.

Exit codes: 0 all hold, 1 one does not, or the file has mistakes, 3 it cannot be read.`,
		Args: atMostOne("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := f.read(cmd, args)
			if err != nil {
				return err
			}
			p, err := compilePolicy(file)
			if err != nil {
				return err
			}
			if file.Text == "" {
				return withExit(exitFailure, fmt.Errorf("%s is empty: nobody could do anything, and no broker takes it", file.Name))
			}
			n := 0
			for _, d := range p.File().Decls {
				if d.Assert != nil {
					n++
				}
			}
			failed := p.Test()
			if len(failed) == 0 {
				verb := "hold"
				if n == 1 {
					verb = "holds"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s %s\n", file.Name, count(n, "assertion"), verb)
				return nil
			}
			lines := make([]string, len(failed))
			for i, x := range failed {
				lines[i] = x.Error()
			}
			return &exitError{code: exitFailure, bare: true, err: fmt.Errorf("%s\nsealmq: %s: %d of %s failed",
				strings.Join(lines, "\n"), file.Name, len(failed), count(n, "assertion"))}
		},
	}
	f.add(cmd)
	return cmd
}

func newAclLintCmd() *cobra.Command {
	var f policyFlags
	cmd := &cobra.Command{
		Use:   "lint [FILE]",
		Short: "Find what looks wrong in a policy",
		Long: `  sealmq acl lint                       the broker's policy
  sealmq acl lint new.policy            a file
  sealmq acl lint --mosquitto aclfile   an ACL file of Mosquitto

Find what looks wrong in a policy that has no mistakes: rules without effect, # for
everybody, publishing to $SYS and $pki, placeholders without value, groups without
policy, devices that cannot renew their certificates.

Exit codes: 0 nothing does, 1 something does, or the file has mistakes, 3 it cannot
be read.`,
		Args: atMostOne("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := f.read(cmd, args)
			if err != nil {
				return err
			}
			p, err := compilePolicy(file)
			if err != nil {
				return err
			}
			found := p.Lint()
			for _, x := range found {
				fmt.Fprintln(cmd.OutOrStdout(), x)
			}
			if len(found) > 0 {
				return withExit(exitFailure, fmt.Errorf("%s: %s", file.Name, count(len(found), "finding")))
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func newAclStarterCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "starter",
		Short: "Print the policy that a broker begins with",
		Long: `  sealmq acl starter >sealmq-data/policy     begin anew

Print the policy that a broker begins with: devices have topics of their own, and
operators everything.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), policy.Starter())
			return err
		},
	}
}
