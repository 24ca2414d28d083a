package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/store/disk"
)

func newBackupCmd() *cobra.Command {
	var (
		data        string
		withoutKeys bool
	)
	cmd := &cobra.Command{
		Use:   "backup DIR",
		Short: "Copy the data folder, while the broker runs too",
		Long: `  sealmq backup /mnt/backup/$(date +%F)       of ./sealmq-data, into a folder that it makes
  sealmq backup --data /var/lib/sealmq DIR    of another data folder
  sealmq backup --without-keys DIR            what may leave the machine

Copy the data folder into DIR, which must be missing or empty: the store as of
one moment (sessions, queues, retained messages), the CA, the certificates and
all keys. A running broker goes on meanwhile and writes the copy itself, with the
rights of its user. Files have mode 0600.

Whoever has the keys can make identities that the broker accepts: keep a backup
as you keep them, or leave them out with --without-keys and keep them elsewhere.`,
		Args: oneFolder("backup"),
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			b, err := makeBackup(cmd, data, control.BackupRequest{To: to, WithoutKeys: withoutKeys})
			if err != nil {
				return err
			}
			describe := "no store"
			if b.Store {
				describe = "the store"
			}
			keys := "keys included: keep it where only you can read it"
			if withoutKeys {
				keys = fmt.Sprintf("without %d files with keys", len(b.Omitted))
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s%c holds %s and %d other files, %s\n", filepath.Clean(args[0]), filepath.Separator, describe, len(b.Files), keys)
			fmt.Fprintf(w, "\nTo go back to it:\n  %s\n", commandLine(append(self(), "restore", filepath.Clean(args[0]), "--data", data)...))
			return nil
		},
	}
	dataFlag(cmd, &data)
	cmd.Flags().BoolVar(&withoutKeys, "without-keys", false, "leave out files with private keys")
	return cmd
}

// oneFolder takes the one argument of a command that needs a folder.
func oneFolder(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return withExit(exitUsage, errors.New("name one folder"), "sealmq "+command+" DIR")
		}
		return nil
	}
}

// makeBackup asks the running broker, or copies the folder when none runs.
func makeBackup(cmd *cobra.Command, data string, q control.BackupRequest) (control.Backup, error) {
	c, err := control.Dial(data)
	switch {
	case err == nil:
		defer c.Close()
		b, err := c.Backup(cmd.Context(), q)
		return b, onControl(data, err)
	case !errors.Is(err, control.ErrNotRunning) && !errors.Is(err, control.ErrNotSupported):
		return control.Backup{}, onControl(data, err)
	}
	if fi, err := os.Stat(data); err != nil {
		return control.Backup{}, onData(data, err)
	} else if !fi.IsDir() {
		return control.Backup{}, withExit(exitFile, fmt.Errorf("%s is not a folder", data))
	}
	b, err := control.WriteBackup(data, q.To, control.BackupOptions{
		Checkpoint: checkpointOf(filepath.Join(data, control.StoreName)), WithoutKeys: q.WithoutKeys, Version: sealmq.Version()})
	return b, onStore(data, err)
}

// checkpointOf copies a store that no broker has open; nil when there is none.
func checkpointOf(dir string) func(string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return func(to string) error {
		s, err := disk.Open(dir, disk.Config{}, disk.Options{})
		if err != nil {
			return err
		}
		return errors.Join(s.Backup(to), s.Close())
	}
}
