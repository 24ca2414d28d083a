package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/store/disk"
	"github.com/sealmq/sealmq/store/disk/fsys"
)

func newRestoreCmd() *cobra.Command {
	var (
		data  string
		force bool
	)
	cmd := &cobra.Command{
		Use:   "restore DIR",
		Short: "Make a data folder from a backup",
		Long: `  sealmq restore /mnt/backup/2026-03-01                    into ./sealmq-data
  sealmq restore DIR --data /var/lib/sealmq                 into another folder
  sealmq restore DIR --data /var/lib/sealmq --force         what is there is moved aside

Make a data folder from a backup that sealmq backup made. Every file of the backup
is checked first; nothing is changed when one is damaged. The broker must not run.

What came after the backup is not in it: messages that clients have acknowledged
since may reach them once more, and sessions are as they were then.`,
		Args: oneFolder("restore"),
		RunE: func(cmd *cobra.Command, args []string) error {
			from := filepath.Clean(args[0])
			if _, err := occupied(data, force); err != nil { // before the long work
				return err
			}
			b, err := control.OpenBackup(from)
			if err != nil {
				return onFiles(err)
			}
			if b.Store {
				if err := soundStore(filepath.Join(from, control.StoreName)); err != nil {
					return err
				}
			}
			aside, err := vacate(data, force)
			if err != nil {
				return err
			}
			if err := b.Restore(from, data); err != nil {
				if aside != "" {
					err = errors.Join(err, os.Rename(aside, data))
				}
				return onData(data, err)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s%c is as on %s\n", filepath.Clean(data), filepath.Separator, b.Made.Local().Format(time.DateTime))
			if aside != "" {
				fmt.Fprintf(w, "what was there is now %s%c\n", aside, filepath.Separator)
			}
			if len(b.Omitted) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: warning: the backup was made without keys; before the broker starts, put back:\n")
				for _, f := range b.Omitted {
					fmt.Fprintf(cmd.ErrOrStderr(), "  %s\n", filepath.Join(data, filepath.FromSlash(f)))
				}
			}
			return nil
		},
	}
	dataFlag(cmd, &data)
	cmd.Flags().BoolVar(&force, "force", false, "move a data folder that exists aside")
	return cmd
}

// soundStore refuses a store with problems.
func soundStore(dir string) error {
	var first disk.Problem
	sum, err := disk.Check(dir, func(p disk.Problem) {
		if first == (disk.Problem{}) {
			first = p
		}
	})
	if err == nil && sum.Problems > 0 {
		return withExit(exitFile, fmt.Errorf("the store in the backup is not sound: %s", first),
			"use another backup; everything that is wrong: "+commandLine(append(self(), "check", "--data", filepath.Dir(dir))...))
	}
	return onStore(filepath.Dir(dir), err)
}

// occupied tells whether there is something in the data folder that must be moved aside, and refuses what must not.
func occupied(data string, force bool) (bool, error) {
	switch c, err := control.Dial(data); {
	case err == nil:
		c.Close()
		return false, withExit(exitFile, fmt.Errorf("a broker is running on %s", data), "end it first")
	case !errors.Is(err, control.ErrNotRunning) && !errors.Is(err, control.ErrNotSupported):
		return false, onControl(data, err)
	}
	entries, err := os.ReadDir(data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, onData(data, err)
	case len(entries) == 0:
		return false, nil
	}
	if dir := filepath.Join(data, control.StoreName); exists(dir) {
		lock, err := fsys.Lock(dir)
		if err != nil {
			return false, onStore(data, err)
		}
		lock.Close()
	}
	if !force {
		return true, withExit(exitFile, fmt.Errorf("the data folder %s is not empty", data),
			"restore into another folder, or say --force to move it aside")
	}
	return true, nil
}

// vacate makes room for a data folder, and returns where what was there is now.
func vacate(data string, force bool) (aside string, err error) {
	if full, err := occupied(data, force); err != nil || !full {
		return "", err
	}
	data = filepath.Clean(data)
	base := data + ".old-" + time.Now().Format("20060102-150405")
	aside = base
	for n := 2; exists(aside); n++ {
		aside = fmt.Sprintf("%s-%d", base, n)
	}
	if err := os.Rename(data, aside); err != nil {
		return "", withExit(exitFile, fmt.Errorf("move the data folder aside: %w", err), "empty it yourself, or restore into another folder")
	}
	return aside, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
