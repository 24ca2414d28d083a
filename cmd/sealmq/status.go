package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/transport"
)

// newOwnerCmds are the commands for whoever owns the machine that a broker runs on.
func newOwnerCmds() []*cobra.Command {
	return []*cobra.Command{newStatusCmd(), newReloadCmd(), newBackupCmd(), newRestoreCmd(), newExportCmd()}
}

func newStatusCmd() *cobra.Command {
	var (
		failures int
		data     string
		asJSON   bool
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the running broker is, with its counters",
		Long: `  sealmq status                            of the broker on ./sealmq-data
  sealmq status --data /var/lib/sealmq     of another
  sealmq status --json                     everything, for programs
  sealmq status --failures 20              with the last 20 connections that failed, and what to do

Say how the broker is that runs on a data folder, with its counters since it
started. It is asked through the socket control.sock in that folder, which only
its user and root can open.

Exit codes: 0 it is well, 1 it is degraded and says why, 3 none runs there.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := control.Dial(data)
			if err != nil {
				return onControl(data, err)
			}
			defer c.Close()
			h, err := c.Health(cmd.Context())
			if err != nil {
				return onControl(data, err)
			}
			s, err := c.Stats(cmd.Context())
			if err != nil {
				return onControl(data, err)
			}
			failed, err := c.Failures(cmd.Context(), failures)
			if err != nil {
				return onControl(data, err)
			}
			door, err := c.GateStats(cmd.Context())
			if e := (*control.Error)(nil); err != nil && !(errors.As(err, &e) && e.Code == control.CodeUnsupported) {
				return onControl(data, err)
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				err = e.Encode(struct {
					Health control.Health `json:"health"`
					control.Stats
					Handshakes control.Failures  `json:"failed_handshakes"`
					Gate       control.GateStats `json:"gate"`
				}{h, s, failed, door})
			} else {
				err = errors.Join(writeStatus(cmd.OutOrStdout(), h, s, door), writeFailures(cmd.OutOrStdout(), failed))
			}
			if err == nil && h.State != control.OK {
				err = withExit(exitFailure, fmt.Errorf("the broker is %s: %s", h.State, h.Why))
			}
			return err
		},
	}
	dataFlag(cmd, &data)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything as JSON")
	cmd.Flags().IntVar(&failures, "failures", 0, "also tell of the last `NUMBER` connections that failed")
	return cmd
}

// writeFailures prints how many handshakes have failed for which cause, and the last ones with what to do.
func writeFailures(w io.Writer, failed control.Failures) error {
	if len(failed.Counts) > 0 {
		fmt.Fprintln(w)
	}
	for _, cause := range slices.Sorted(maps.Keys(failed.Counts)) {
		fmt.Fprintf(w, "%14d connections failed: %s\n", failed.Counts[cause], cause)
	}
	for _, one := range failed.Recent {
		var f transport.Failure
		if err := json.Unmarshal(one, &f); err != nil {
			return err
		}
		fmt.Fprintf(w, "\n%s  %s at %s: %s %s\n", f.Time.Local().Format(time.DateTime), f.Peer, f.Listener, f.Code, f.Cause)
		for _, line := range []string{f.What, f.Error, f.Fix} {
			if line != "" {
				fmt.Fprintf(w, "  %s\n", printable(line))
			}
		}
	}
	return nil
}

// onControl gives an error of a running broker, or of the way to it, its exit code and hints.
func onControl(data string, err error) error {
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return withExit(exitFile, err, "start it with "+withData(self(), data, "serve")+", or say --data FOLDER")
	case errors.Is(err, control.ErrNotSupported):
		return withExit(exitFailure, err)
	}
	if e := (*control.Error)(nil); errors.As(err, &e) {
		if e.Advice != "" {
			return withExit(exitFailure, err, e.Advice)
		}
		return err
	}
	return onFiles(err)
}

// writeStatus prints one screen. Drops and faults that have not happened are not listed.
func writeStatus(w io.Writer, h control.Health, s control.Stats, door control.GateStats) error {
	b, st := s.Broker, s.Store
	state := h.State
	if h.Why != "" {
		state += ": " + h.Why
	}
	rows := [][2]string{
		{"state", state},
		{"since", h.Since.Local().Format(time.DateTime)},
		{"broker", fmt.Sprintf("sealmq %s, process %d, up %s", h.Version, h.PID, time.Duration(h.Uptime*float64(time.Second)).Truncate(time.Second))},
		{"", ""},
		{"clients", fmt.Sprintf("%d connected, %d sessions", b.Online, b.Sessions)},
		{"connects", fmt.Sprintf("%d accepted, %d refused, %d taken over", b.Connected, b.Refused, b.TakenOver)},
		gateRow(door),
		{"subscriptions", fmt.Sprintf("%d, %d different filters", b.Subscriptions, b.Filters)},
		{"retained", strconv.Itoa(b.Retained)},
		{"messages", fmt.Sprintf("%d in, %d out", b.MessagesReceived, b.MessagesSent)},
		{"bytes", fmt.Sprintf("%s in, %s out, %s waiting to be sent", size(int64(b.BytesReceived)), size(int64(b.BytesSent)), size(b.OutboundBytes))},
		{"", ""},
		{"kept", fmt.Sprintf("%d messages, %d of them acknowledged before they were written", st.Messages, st.Elided)},
		{"store", fmt.Sprintf("%d sessions, %s of files, %s free, %s written in %d commits",
			st.Sessions, size(st.DiskBytes), size(st.FreeBytes), size(int64(st.BytesWritten)), st.Commits)},
	}
	for _, r := range rows {
		if r[0] == "" {
			fmt.Fprintln(w)
			continue
		}
		fmt.Fprintf(w, "%-14s %s\n", r[0], r[1])
	}
	for i, t := range h.Trouble {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%-14s %s\n", "attention", t)
	}
	first := true
	for _, c := range []struct {
		n    uint64
		what string
	}{
		{b.DroppedOffline, "QoS 0 messages dropped: the receiver had no connection"},
		{b.DroppedOutbound, "QoS 0 messages dropped: the receiver was too slow (max_outbound_bytes, outbound_memory)"},
		{b.DroppedQueue, "QoS 1 and 2 messages dropped: the queue was full (max_queued_messages, max_queued_bytes)"},
		{b.DroppedExpired, "messages dropped: their expiry had passed"},
		{b.DroppedTooLarge, "messages dropped: larger than the receiver takes"},
		{b.DroppedDenied, "messages dropped: the client may not send or receive them"},
		{b.DroppedFrozen, "messages dropped: the receiver is revoked or disabled"},
		{b.DroppedRequests, "requests of devices dropped: too many at a time"},
		{b.LimitedRate, "times that a client was held back (max_publish_rate, max_publish_bytes)"},
		{b.LimitedFilters, "subscriptions refused: too many in one packet (max_subscribe_filters)"},
		{b.LimitedSubscriptions, "subscriptions refused: the client has too many (max_subscriptions)"},
		{b.LimitedTopicLength, "publications and subscriptions refused: the topic is too long (max_topic_length)"},
		{b.LimitedTopicLevels, "publications and subscriptions refused: too many levels (max_topic_levels)"},
		{b.LimitedUserProperties, "packets refused: too many user properties (max_user_properties, max_user_property_bytes)"},
		{b.LimitedWillDelay, "wills whose delay was cut (max_will_delay)"},
		{b.LimitedRetained, "retained messages refused: there are too many"},
		{b.LimitedSessions, "connections refused: too many sessions (max_sessions, max_sessions_per_principal)"},
		{b.ShedConnects, "anonymous clients refused: memory was short"},
		{b.ShedReplays, "subscriptions without their retained messages: memory was short"},
		{b.ShedPublications, "QoS 0 messages dropped: memory was short"},
		{b.ProtocolFaults, "connections ended: protocol error"},
		{b.KeepAliveTimeouts, "connections ended: silent beyond their keep alive"},
	} {
		if c.n == 0 {
			continue
		}
		if first {
			fmt.Fprintln(w)
			first = false
		}
		fmt.Fprintf(w, "%14d %s\n", c.n, c.what)
	}
	return nil
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 0:
		return "unknown"
	case n < 10<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d GiB", n>>30)
}
