package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/spf13/cobra"
)

func newInitCmd() *cobra.Command {
	var (
		data  string
		hosts []string
	)
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the CA and the certificates of a broker",
		Long: `  sealmq init                                        for the names of this machine
  sealmq init --host broker.lan --host 203.0.113.7   and for these
  sealmq init --data /var/lib/sealmq                 in another folder

Make the CA and the certificates of a broker, and keep those that exist. sealmq
serve does the same: init is needed only to give the broker further names.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, created, err := pki.InitFolder(data, pki.Config{})
			if err != nil {
				return onData(data, err)
			}
			if err := f.AddHosts(hosts); err != nil {
				return onData(data, err)
			}
			server, _, err := f.Server()
			if err != nil {
				return onData(data, err)
			}
			if _, err := f.Operator(); err != nil {
				return onData(data, err)
			}
			root := f.CA().Root()
			verb := "found"
			if created {
				verb = "made"
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "CA           %s, %s in %s\n", root.Subject.CommonName, verb, filepath.Join(data, "ca"))
			fmt.Fprintf(out, "fingerprint  %s\n", pki.Fingerprint(root))
			fmt.Fprintf(out, "broker       valid until %s for", server.Leaf.NotAfter.Format(time.DateOnly))
			for _, h := range server.Leaf.DNSNames {
				fmt.Fprintf(out, " %s", h)
			}
			ca, _, _ := f.OperatorFiles()
			fmt.Fprintf(out, "\noperator     %s%c\n", filepath.Dir(ca), filepath.Separator)
			if created {
				fmt.Fprintf(out, "\nMove %s to a safe place offline: the broker never needs it.\n", filepath.Join(data, "ca", "root.key"))
			}
			return nil
		},
	}
	dataFlag(cmd, &data)
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "`NAME` or address that clients will use, may be repeated")
	return cmd
}
