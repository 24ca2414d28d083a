package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// selectFlags choose devices, beside the ids among the arguments.
type selectFlags struct {
	group    string
	state    string
	expiring span
	all      bool
	yes      bool
}

func (s *selectFlags) addQuery(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.group, "group", "", "those of a `GROUP`")
	cmd.Flags().StringVar(&s.state, "state", "", "those in a `STATE`: active, pending, disabled, quarantined, revoked")
	cmd.Flags().Var(&s.expiring, "expiring", "those whose last certificate ends within a `TIME` such as 30d, or has ended")
}

func (s *selectFlags) add(cmd *cobra.Command) {
	s.addQuery(cmd)
	cmd.Flags().BoolVar(&s.all, "all", false, "all devices")
	cmd.Flags().BoolVar(&s.yes, "yes", false, "do not ask before something is done to many")
}

// query is what the flags ask for. Without any it is empty.
func (s *selectFlags) query(pattern string) (q control.Query, err error) {
	q = control.Query{Group: s.group, ID: pattern}
	if s.state != "" {
		if q.State, err = registry.ParseState(s.state); err != nil {
			return q, withExit(exitUsage, fmt.Errorf("--state: %w", err))
		}
	}
	if s.expiring > 0 {
		q.ExpiringBefore = time.Now().Add(time.Duration(s.expiring))
	}
	return q, nil
}

// selection turns arguments and flags into the devices to work on.
func (s *selectFlags) selection(cmd *cobra.Command, args []string) (control.Selection, error) {
	q, err := s.query("")
	if err != nil {
		return control.Selection{}, err
	}
	narrowed := q != control.Query{}
	ways := 0
	for _, given := range []bool{len(args) > 0, narrowed, s.all} {
		if given {
			ways++
		}
	}
	switch {
	case ways == 0:
		return control.Selection{}, withExit(exitUsage, errors.New("name the devices"), cmd.CommandPath()+" pump-17", cmd.CommandPath()+" --group sensors")
	case ways > 1:
		return control.Selection{}, usagef("ids, --all, and --group with --state and --expiring do not go together")
	case s.all:
		return control.Selection{All: true}, nil
	case narrowed:
		return control.Selection{Query: &q}, nil
	}
	if err := checkIDs(args); err != nil {
		return control.Selection{}, err
	}
	slices.Sort(args)
	return control.Selection{IDs: slices.Compact(args)}, nil
}

// checkIDs finds arguments that are no ids.
func checkIDs(ids []string) error {
	for _, id := range ids {
		if err := pki.CheckID(id); err != nil {
			return withExit(exitUsage, err)
		}
	}
	return nil
}

// ids are the devices of a selection.
func ids(ctx context.Context, c *control.Client, s control.Selection) ([]string, error) {
	if len(s.IDs) > 0 {
		return s.IDs, nil
	}
	q := control.Query{}
	if s.Query != nil {
		q = *s.Query
	}
	var found []string
	err := c.Devices(ctx, q, func(d registry.Device) error {
		found = append(found, d.ID)
		return nil
	})
	return found, err
}

// sure asks whether an action shall be done to devices that are not named one by one.
func (s *selectFlags) sure(cmd *cobra.Command, c *control.Client, verb string, sel control.Selection) error {
	if len(sel.IDs) > 0 || s.yes {
		return nil
	}
	n, err := ids(cmd.Context(), c, sel)
	if err != nil {
		return err
	}
	if len(n) == 0 {
		return errNoDevice
	}
	return confirm(cmd, false, fmt.Sprintf("%s %s?", verb, count(len(n), "device")))
}

// errNoDevice: no device is what was asked for.
var errNoDevice = withExit(exitFailure, errors.New("there is no such device"), "sealmq device list")

// count is a number with what is counted: 1 device, 2 devices.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
