package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
)

func newReloadCmd() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the running broker read its files again",
		Long: `  sealmq reload                            the broker on ./sealmq-data
  sealmq reload --data /var/lib/sealmq     another

Have the running broker read configuration, certificates and policy again, as
SIGHUP does. When anything is wrong with them nothing changes, and what is wrong
is printed.

Exit codes: 0 they are in force, 1 they are not, 3 no broker runs there.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := control.Dial(data)
			if err != nil {
				return onControl(data, err)
			}
			defer c.Close()
			if err := c.Reload(cmd.Context()); err != nil {
				return onControl(data, fmt.Errorf("reload: the old configuration stays in force\n%w", err))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "configuration, certificates and policy are in force as the files say")
			return err
		},
	}
	dataFlag(cmd, &data)
	return cmd
}
