package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/registry"
)

// transferFormat is the format of a file: what the flag says, else what its name ends with, else CSV.
func transferFormat(given, name string) (registry.Format, error) {
	switch {
	case given == string(registry.CSV) || given == string(registry.JSONL):
		return registry.Format(given), nil
	case given != "":
		return "", usagef("--format %q is none of csv, jsonl", given)
	}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".jsonl", ".ndjson", ".json":
		return registry.JSONL, nil
	}
	return registry.CSV, nil
}

func newDeviceImportCmd() *cobra.Command {
	var (
		f             fleetFlags
		update, check bool
		format        string
	)
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Add many devices",
		Long: `  sealmq device import fleet.csv               with a line of names: id,groups,attr.site
  sealmq device import fleet.csv --check       what would be wrong with it
  sealmq device import fleet.csv --update      changes those that there are, too
  sealmq device renew --group new --out b/     certificates for them, afterwards

Add many devices, 200,000 at most. A CSV file has a line of column names: id, and any
of groups (several with ; between them), state, note and attr.NAME. JSON lines have a
device each, as list --json prints them. When anything is wrong, nothing is
changed.`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := transferFormat(format, args[0])
			if err != nil {
				return err
			}
			in := cmd.InOrStdin()
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return onFiles(err)
				}
				defer file.Close()
				in = file
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				m := newMeter(cmd, "imported")
				out, err := c.Import(ctx, in, control.ImportRequest{Format: kind, Update: update, Check: check}, m.show)
				m.end()
				switch {
				case errors.Is(err, registry.ErrExists):
					return withHint(onFleet(f.data, err), "--update changes those that there are")
				case err != nil:
					return err
				case check:
					fmt.Fprintf(cmd.OutOrStdout(), "%s: nothing is wrong\n", args[0])
				default:
					fmt.Fprintf(cmd.OutOrStdout(), "imported %s\n", count(out.Done, "device"))
				}
				return nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&update, "update", false, "change devices that there are")
	cmd.Flags().BoolVar(&check, "check", false, "only look for mistakes")
	cmd.Flags().StringVar(&format, "format", "", "`FORMAT` of the file: csv or jsonl (default: by its name)")
	return cmd
}

func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return withExit(exitUsage, errors.New("name one file"), cmd.CommandPath()+" fleet.csv")
	}
	return nil
}

// withHint adds a hint to an error.
func withHint(err error, hint string) error {
	var e *exitError
	if errors.As(err, &e) {
		return &exitError{e.code, e.err, append(e.hints, hint), e.bare}
	}
	return withExit(exitFailure, err, hint)
}

func newDeviceExportCmd() *cobra.Command {
	var (
		f           fleetFlags
		s           selectFlags
		format, out string
	)
	cmd := &cobra.Command{
		Use:   "export [PATTERN]",
		Short: "Write the devices in a form that import reads",
		Long: `  sealmq device export >fleet.csv                 for a spreadsheet
  sealmq device export --out fleet.jsonl          with their certificates
  sealmq device export --group hall-3 'pump-*'    some of them

Write the devices in a form that import reads. Private keys are not among it: the
broker does not have them.`,
		Args: atMostOne("pattern"),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := transferFormat(format, out)
			if err != nil {
				return err
			}
			q, err := s.query(strings.Join(args, ""))
			if err != nil {
				return err
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				w := cmd.OutOrStdout()
				if out == "" {
					return c.Export(ctx, w, kind, q)
				}
				return writeWhole(out, func(w io.Writer) error { return c.Export(ctx, w, kind, q) })
			})
		},
	}
	f.add(cmd)
	s.addQuery(cmd)
	cmd.Flags().StringVar(&format, "format", "", "`FORMAT`: csv or jsonl (default: by the name of the file, else csv)")
	cmd.Flags().StringVar(&out, "out", "", "`FILE` to write (default: standard output)")
	return cmd
}

// writeWhole writes a file that is not there yet; when that fails there is none.
func writeWhole(name string, write func(io.Writer) error) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return onFiles(err)
	}
	if err = errors.Join(write(file), file.Sync(), file.Close()); err != nil {
		os.Remove(name)
	}
	return err
}
