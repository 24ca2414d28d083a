package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/config"
)

func newCheckCmd() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "check [CONFIG]",
		Short: "Check a configuration file, or the store of a data folder",
		Long: `Check a configuration file and print what it amounts to, or, with --data, read
everything in the store of a data folder or a backup and say what is wrong.

  sealmq check sealmq.toml              every error at once, or every key with its value
  sealmq check                          what the broker does without a configuration
  sealmq check sealmq.toml >/dev/null   only errors and warnings
  sealmq check --data sealmq-data       the store, while no broker runs on it
  sealmq check --data BACKUP            the same of a backup

Nothing is changed and nothing is listened on. The files that the configuration
names are read too: a certificate must fit its key, and what a policy asserts must be
true. What is wrong with a store is told with what it means and what helps.

Exit codes: 0 good, 1 errors were found, 3 the file or the store cannot be read.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%s takes one file, got %q", cmd.CommandPath(), args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("data") {
				if len(args) > 0 {
					return usagef("%s takes a file or --data, not both", cmd.CommandPath())
				}
				return checkStore(cmd, data)
			}
			cfg := config.Default()
			if len(args) == 1 {
				var err error
				if cfg, err = loadConfig(args[0]); err != nil {
					return err
				}
			}
			if err := checkPolicy(cfg); err != nil {
				return err
			}
			for _, w := range cfg.Warnings() {
				fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: warning: %s\n", w)
			}
			return cfg.WriteTOML(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data `FOLDER` or backup whose store is checked")
	return cmd
}

// checkPolicy reads the policy of a configuration, if it names one or there is one in the data folder.
func checkPolicy(cfg config.Config) error {
	if cfg.Policy == "" && cfg.ACLFile == "" && !exists(sealmq.PolicyFile(cfg.Effective().Data)) {
		return nil
	}
	if _, err := sealmq.LoadPolicy(cfg); err != nil {
		var h interface{ Hint() string }
		if errors.As(err, &h) {
			return withExit(exitFailure, err, h.Hint())
		}
		return withExit(exitFailure, err)
	}
	return nil
}

// loadConfig reads a configuration file for a command. What is wrong in it is shown as file:line, ready for editors.
func loadConfig(path string) (config.Config, error) {
	cfg, err := config.Load(path)
	if err == nil {
		return cfg, nil
	}
	var lines interface{ Unwrap() []error }
	if !errors.As(err, &lines) {
		return cfg, withExit(exitFile, err)
	}
	n := len(lines.Unwrap())
	s := "s"
	if n == 1 {
		s = ""
	}
	return cfg, &exitError{code: exitFailure, bare: true, err: fmt.Errorf("%w\nsealmq: %s: %d error%s",
		err, strings.TrimSpace(path), n, s)}
}
