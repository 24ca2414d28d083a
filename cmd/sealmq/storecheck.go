package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/store/disk"
	"github.com/sealmq/sealmq/store/disk/fsys"
)

// maxProblems is how many problems of a store are told in full.
const maxProblems = 100

// checkStore audits the store of a data folder or of a backup.
func checkStore(cmd *cobra.Command, data string) error {
	stderr := cmd.ErrOrStderr()
	if fi, err := os.Stat(data); err != nil {
		return onData(data, err)
	} else if !fi.IsDir() {
		return withExit(exitFile, fmt.Errorf("%s is not a folder", data))
	}
	if control.IsBackup(data) {
		if _, err := control.OpenBackup(data); err != nil {
			return onFiles(err)
		}
	}
	told := 0
	sum, err := disk.Check(filepath.Join(data, control.StoreName), func(p disk.Problem) {
		if told++; told > maxProblems {
			return
		}
		fmt.Fprintf(stderr, "sealmq: %s\n  means: %s\n  do: %s\n", p, p.Means, p.Do)
	})
	if err != nil {
		return onStore(data, err)
	}
	if told > maxProblems {
		fmt.Fprintf(stderr, "sealmq: and %d more\n", told-maxProblems)
	}
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "store          format %d, written %s, %d changes\n", sum.Format, sum.Written.Local().Format(time.DateTime), sum.Seq)
	fmt.Fprintf(w, "sessions       %d, with %d subscriptions, %d wills, %d QoS 2 identifiers\n", sum.Sessions, sum.Subscriptions, sum.Wills, sum.Received)
	fmt.Fprintf(w, "queued         %d messages, %d stored once for several sessions\n", sum.Queued, sum.Shared)
	fmt.Fprintf(w, "retained       %d messages\n", sum.Retained)
	fmt.Fprintf(w, "left to clean  %d values; the broker does it\n", sum.Leftovers)
	switch sum.Problems {
	case 0:
		fmt.Fprintln(w, "problems       none")
		return nil
	case 1:
		fmt.Fprintln(w, "problems       1")
		return withExit(exitFailure, fmt.Errorf("the store in %s has a problem", data))
	}
	fmt.Fprintf(w, "problems       %d\n", sum.Problems)
	return withExit(exitFailure, fmt.Errorf("the store in %s has %d problems", data, sum.Problems))
}

// onStore is onData for errors of a store that no broker should have open.
func onStore(data string, err error) error {
	var hint interface{ Hint() string }
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fsys.ErrLocked):
		hints := []string{"a running broker can be backed up: sealmq backup DIR; look at that folder instead"}
		if errors.As(err, &hint) {
			hints = append(hints, hint.Hint())
		}
		return withExit(exitFile, err, hints...)
	case errors.Is(err, disk.ErrNoStore):
		return withExit(exitFile, err, "--data names the data folder of a broker that keeps its sessions, or a backup")
	case errors.Is(err, disk.ErrNewer):
		return withExit(exitFile, err, "use the program that wrote it, or a later one")
	}
	return onData(data, err)
}
