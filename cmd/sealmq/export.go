package main

import (
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/store/disk"
)

func newExportCmd() *cobra.Command {
	var data, what string
	all := []disk.Contents{disk.Sessions, disk.Queues, disk.Retained}
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print what the store holds, as JSON lines",
		Long: `  sealmq export --what sessions | jq .client_id               who has a session
  sealmq export --what queues --data BACKUP                   what waits, in a backup
  sealmq export --what retained | jq -r '.topic+" "+.payload'

Print what the store of a data folder or a backup holds, a JSON object a line.
The broker must not run on it: of a running one, export a backup. Payloads that
are no text come in base64 as payload_base64. Nothing is changed.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			parts := all
			if cmd.Flags().Changed("what") {
				if parts = []disk.Contents{disk.Contents(what)}; !slices.Contains(all, parts[0]) {
					return usagef("--what %q is none of sessions, queues, retained", what)
				}
			}
			for _, p := range parts {
				if err := disk.Export(filepath.Join(data, control.StoreName), p, cmd.OutOrStdout()); err != nil {
					return onStore(data, err)
				}
			}
			return nil
		},
	}
	dataFlag(cmd, &data)
	cmd.Flags().StringVar(&what, "what", "", "`PART` to print: sessions, queues or retained (default: all of them)")
	return cmd
}
