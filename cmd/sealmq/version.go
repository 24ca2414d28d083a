package main

import (
	"fmt"
	"runtime"

	"github.com/sealmq/sealmq"
	"github.com/spf13/cobra"
)

func newVersionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Long: `  sealmq version

Print the version of this program: a release, or the commit that was built, and
the version of Go and the system it was built for. sealmq --version does the same.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

func versionLine() string {
	return fmt.Sprintf("sealmq %s %s %s/%s\n", sealmq.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
