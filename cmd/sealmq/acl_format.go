package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/policy"
)

func newAclFormatCmd() *cobra.Command {
	var (
		f            policyFlags
		write, check bool
	)
	cmd := &cobra.Command{
		Use:   "format [FILE]",
		Short: "Write a policy in its usual form",
		Long: `  sealmq acl format new.policy            print it
  sealmq acl format new.policy --write    change the file
  sealmq acl format new.policy --check    say whether it is so already
  sealmq acl format - <new.policy         what comes from stdin

Write a policy in its usual form: a rule a line, comments where they were. What it
means stays the same.

Exit codes: 0 done, 1 the file has mistakes, or with --check another form, 3 it
cannot be read or written.`,
		Args: atMostOne("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := f.read(cmd, args)
			switch {
			case err != nil:
				return err
			case file.Mosquitto:
				return usagef("format %s: an ACL file of Mosquitto stays as it is", file.Name)
			case write && len(args) == 1 && args[0] == "-":
				return usagef("--write changes a file, not stdin")
			}
			parsed, err := policy.Parse(file.Name, []byte(file.Text))
			if err != nil {
				return onPolicy(file, err)
			}
			text := policy.Format(parsed)
			switch same := string(text) == file.Text; {
			case check && !same:
				return withExit(exitFailure, fmt.Errorf("%s is not in its usual form", file.Name), commandLine("sealmq", "acl", "format", file.Name, "--write"))
			case check, write && same:
				return nil
			case write:
				return onFiles(replaceFile(file.Name, text))
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVarP(&write, "write", "w", false, "change the file")
	cmd.Flags().BoolVar(&check, "check", false, "change and print nothing; the exit code tells")
	cmd.MarkFlagsMutuallyExclusive("write", "check")
	return cmd
}

// replaceFile gives a file another content in one step, or leaves it as it was. Its mode stays, and links are followed.
func replaceFile(path string, content []byte) (err error) {
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return err
	}
	old, err := os.Stat(path)
	if err != nil {
		return err
	}
	t, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(t.Name()) // fails once it is renamed
	_, err = t.Write(content)
	if err == nil {
		err = t.Chmod(old.Mode().Perm())
	}
	if err == nil {
		err = t.Sync()
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return err
	}
	return os.Rename(t.Name(), path)
}
