package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/doctor"
	"github.com/sealmq/sealmq/transport"
)

// defaultCA is the CA file that counts when none is named and it lies here.
const defaultCA = "ca.pem"

func newDoctorCmd() *cobra.Command {
	var o doctor.Options
	var passwordFile string
	var asJSON bool
	var wait attendant
	cmd := &cobra.Command{
		Use:   "doctor URL | doctor --listen ADDRESS",
		Short: "Find out why a client does not get through to a broker",
		Long: `  sealmq doctor mqtts://broker.lan --cafile ca.pem                     as anybody
  sealmq doctor mqtts://broker.lan --cafile ca.pem --cert cert.pem --key key.pem
                                                                       as a device
  sealmq doctor wss://broker.lan/mqtt --username me --password-file pw
  sealmq doctor mqtts://broker.lan --json                              for programs
  sealmq doctor --listen :8884                                         be the broker, and
                                                                       see what a device does

Find out why a client does not get through to a broker, any broker: address, TCP,
TLS, the broker's certificate, the client's own, CONNECT, and a message there and
back. A line each: ok, or what is wrong and what mends it. Without --cafile the file
ca.pem of this folder counts; else, as in pub and sub, the operator's certificate in
the data folder, unless --cert is given; else what the operating system trusts.

About a dozen short connections are made, some of which the broker logs as refused.
With --id, or a certificate that fixes the id, a client at work loses its connection
and its session to this one.

With --listen, clients are taken as the broker of the data folder would take them, up
to CONNECT, which is refused; what each of them did is printed, until Ctrl-C. --cert
and --key then name another certificate to show, and --cafile the CAs of clients.

Exit codes:
  0        the client gets through; there may be warnings
  1        a step failed that is not listed here
  2        wrong flags or arguments
  3        a file is missing, unreadable or wrong
  4        the broker cannot be reached
  5        certificate verify failed, or the certificate is for another name
  6        the TLS handshake failed, or the broker refused the client certificate
  7        the broker hung up, or does not answer
  8        the message did not come back, or may not be published (--topic)
  9        the topic may not be subscribed (--topic)
  128-162  the broker refused the connection: the MQTT 5 reason code`,
		Args: func(cmd *cobra.Command, args []string) error {
			if wait.address != "" && len(args) > 0 {
				return usagef("--listen takes no URL: clients come to it")
			}
			if wait.address == "" && len(args) != 1 {
				return withExit(exitUsage, fmt.Errorf("%s takes one URL, got %d", cmd.CommandPath(), len(args)), cmd.CommandPath()+" mqtts://localhost")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait.address != "" {
				return wait.run(cmd, o, asJSON)
			}
			o.URL = args[0]
			if u, err := client.ParseURL(o.URL); err == nil && u.TLS && o.CAFile == "" {
				doctorFiles(&o, wait.data, cmd.Flags().Changed("data"))
			}
			if passwordFile != "" {
				b, err := readSmall(passwordFile, cmd.InOrStdin())
				if err != nil {
					return onFiles(err)
				}
				o.Password = bytes.TrimRight(b, "\r\n")
			}
			if !asJSON {
				o.OnStep = func(s doctor.Step) { printStep(cmd.OutOrStdout(), s) }
			}
			r := doctor.Examine(cmd.Context(), o)
			if cmd.Context().Err() != nil {
				return withExit(exitFailure, errors.New("interrupted"))
			}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), r); err != nil {
					return err
				}
			}
			return verdict(r)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.CAFile, "cafile", "", "PEM `FILE` of the CAs that the broker's certificate may come from")
	f.StringVar(&o.Cert, "cert", "", "PEM `FILE` of the client certificate")
	f.StringVar(&o.Key, "key", "", "PEM `FILE` of its private key")
	f.StringVar(&o.ClientID, "id", "", "client `ID` (default: the broker chooses)")
	f.StringVar(&o.Username, "username", "", "user `NAME`")
	f.StringVar(&passwordFile, "password-file", "", "`FILE` with the password; - is stdin")
	f.StringVar(&o.ALPN, "tls-alpn", "", "`PROTOCOL` to ask for by ALPN")
	f.StringVar(&o.Topic, "topic", "", "`TOPIC` of the message that should come back (default: one of its own below doctor/)")
	f.BoolVar(&o.InsecureName, "insecure-name", false, "go on if the certificate is for another name")
	f.BoolVar(&o.Insecure, "insecure", false, "go on whatever is wrong with the broker's certificate")
	f.BoolVar(&o.SendCredentials, "insecure-yes-send-credentials", false, "send a password even so, or without TLS")
	f.DurationVar(&o.Timeout, "timeout", 30*time.Second, "`TIME` that all of it may take")
	jsonFlag(cmd, &asJSON, "print the report as JSON; with --listen an object a line")
	f.StringVar(&wait.address, "listen", "", "wait for clients at `ADDRESS` (host:port or :port) in place of a broker")
	f.BoolVar(&wait.webSocket, "ws", false, "with --listen: MQTT over WebSocket")
	f.BoolVar(&wait.plain, "no-tls", false, "with --listen: without TLS")
	dataFlag(cmd, &wait.data)
	f.SortFlags = false
	return cmd
}

// doctorFiles finds the CA, and the client certificate, where none is named.
func doctorFiles(o *doctor.Options, data string, given bool) {
	folder := filepath.Join(data, "operator")
	switch {
	case isFile(defaultCA) && !given:
		o.CAFile = defaultCA
	case o.Cert == "" && o.Key == "" && (given || exists(folder)):
		o.CAFile, o.Cert, o.Key = filepath.Join(folder, "ca.pem"), filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	}
}

// printStep prints a step as a line, and below it what mends it.
func printStep(w io.Writer, s doctor.Step) {
	word := map[doctor.Status]string{doctor.OK: "ok", doctor.Warning: "warn", doctor.Failed: "FAIL"}[s.Status]
	name := strings.ReplaceAll(s.Name, "_", " ")
	fmt.Fprintf(w, "%-4s  %-18s  %s", word, name, printable(s.Text))
	if about := strings.TrimSpace(string(s.Cause) + " " + s.Doc); about != "" {
		fmt.Fprintf(w, " [%s]", about)
	}
	fmt.Fprintln(w)
	if s.Fix != "" {
		fmt.Fprintf(w, "%26s%s\n", "fix: ", printable(s.Fix))
	}
}

// verdict is the first step that failed, as an error with its exit code.
func verdict(r *doctor.Report) error {
	s, failed := r.First()
	if !failed {
		return nil
	}
	e := &exitError{code: exitFor(s), err: errors.New(printable(s.Text)), bare: s.Name == doctor.StepVerify || s.Name == doctor.StepChain}
	if s.Fix != "" {
		e.hints = []string{printable(s.Fix)}
	}
	return e
}

// attendant are the flags of doctor --listen.
type attendant struct {
	address, data    string
	webSocket, plain bool
}

// run takes clients until it is interrupted.
func (w *attendant) run(cmd *cobra.Command, o doctor.Options, asJSON bool) error {
	lo := doctor.ListenOptions{Address: w.address, Cert: o.Cert, Key: o.Key, ClientCA: o.CAFile, WebSocket: w.webSocket, Plain: w.plain}
	switch {
	case (o.Cert == "") != (o.Key == ""):
		return usagef("--cert and --key are needed together")
	case w.plain && (o.Cert != "" || o.CAFile != ""):
		return usagef("certificates on a listener without TLS")
	case !w.plain && o.Cert == "":
		lo.Cert, lo.Key = filepath.Join(w.data, "server", "cert.pem"), filepath.Join(w.data, "server", "key.pem")
		if lo.ClientCA == "" {
			lo.ClientCA = filepath.Join(w.data, "ca", "device.pem")
		}
	}
	lo.OnReady = func(a net.Addr) {
		fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: waiting for clients at %s; Ctrl-C ends it\n", a)
	}
	var failed error
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	lo.OnAttempt = func(a doctor.Attempt) {
		out := cmd.OutOrStdout()
		if asJSON {
			if failed = json.NewEncoder(out).Encode(a); failed != nil {
				stop()
			}
			return
		}
		fmt.Fprintf(out, "%s  %s\n", a.Time.Format(time.TimeOnly), a.Peer)
		for _, s := range a.Steps {
			printStep(out, s)
		}
	}
	if err := doctor.Listen(ctx, lo); err != nil {
		if pe := (*fs.PathError)(nil); errors.As(err, &pe) && o.Cert == "" && !w.plain {
			return withExit(exitFile, err, "say --data FOLDER, or name the broker's certificate with --cert and --key")
		}
		return onFiles(err)
	}
	return failed
}

// exitFor gives a step that failed its exit code.
func exitFor(s doctor.Step) int {
	switch s.Name {
	case doctor.StepURL:
		return exitUsage
	case doctor.StepFiles:
		return exitFile
	case doctor.StepDNS, doctor.StepTCP:
		return exitUnreachable
	case doctor.StepChain, doctor.StepVerify, doctor.StepName, doctor.StepDates:
		return exitVerify
	case doctor.StepTLS, doctor.StepVersions, doctor.StepALPN, doctor.StepClientCert:
		return exitTLSRefused
	}
	switch s.Cause {
	case doctor.CauseHungUp, doctor.CauseSilent, transport.CauseTimeout:
		return exitLost
	case doctor.CauseConnect, doctor.CauseDenied, doctor.CauseLost:
		switch {
		case s.Name == doctor.StepRoundTrip && s.Reason == "subscribe":
			return exitSubscribe
		case s.Name == doctor.StepRoundTrip:
			return exitPublish
		case s.Code >= 128:
			return s.Code
		}
	}
	return exitFailure
}
