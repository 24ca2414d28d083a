package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/pki"
)

func newCACmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Look after the certificate authority",
		Long: `  sealmq ca status         its CAs, their ends, and who knows which root
  sealmq ca renew          sign issuing CAs that are due again
  sealmq ca encrypt        its keys, with a passphrase
  sealmq ca announce       begin to replace the root; see docs/handbook/ca.md

Look after the certificate authority.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newCAStatusCmd(), newCARenewCmd(), newCACSRCmd(), newCAAcceptCmd(), newCASignIssuingCmd(), newCAImportCmd(),
		newCAAnnounceCmd(), newCASwitchCmd(), newCASwitchBackCmd(), newCARetireCmd(), newCAWithdrawCmd(),
		newCAEncryptCmd(), newCADecryptCmd(),
	)
	return cmd
}

func newCAStatusCmd() *cobra.Command {
	var f fleetFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the certificate authority is",
		Long: `  sealmq ca status
  sealmq ca status --json     everything, for programs

Say how the certificate authority is: its CAs, and while a root replaces another, how
many devices know which.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if waiting(f.data) {
				return onWaiting(f.data, pki.ErrWaiting)
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				s, err := c.CA(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), s)
				}
				return showCA(cmd.OutOrStdout(), s, f.data)
			})
		},
	}
	f.add(cmd)
	jsonFlag(cmd, &asJSON, "print everything as JSON")
	return cmd
}

func showCA(w io.Writer, s *control.CAStatus, data string) error {
	fmt.Fprintf(w, "folder  %s\n\n", s.Folder)
	t := table(w, "CA", "NAME", "UNTIL", "FINGERPRINT")
	var due []string
	for _, c := range s.CAs {
		until := c.NotAfter.Format(time.DateOnly)
		if c.Due {
			until += " (due)"
			due = append(due, c.Name)
		}
		t.row(c.Name, c.Subject, until, c.Fingerprint)
	}
	if err := t.flush(); err != nil {
		return err
	}
	ca := func(words ...string) string { return withData(self(), data, append([]string{"ca"}, words...)...) }
	if s.State != pki.Steady && s.State != "" {
		fmt.Fprintf(w, "\nThe root is being replaced: %s.\n", s.State)
		t := table(w, "ROOT", "UNTIL", "KNOWN TO", "FINGERPRINT")
		for i, r := range s.Roots {
			known := "" // the old root is what devices began with
			if i == len(s.Roots)-1 {
				known = fmt.Sprintf("%d of %s", r.Seen, count(s.Devices, "device"))
			}
			t.row(r.Subject, r.NotAfter.Format(time.DateOnly), known, r.Fingerprint)
		}
		if err := t.flush(); err != nil {
			return err
		}
		next := [][2]string{{ca("switch"), "lets the new root's CAs issue"}, {ca("withdraw"), "goes back"}}
		if s.State == pki.Switched {
			next = [][2]string{{ca("retire"), "ends the trust in the old root"}, {ca("switch-back"), "goes back"}}
		}
		fmt.Fprintln(w)
		for _, n := range next {
			fmt.Fprintf(w, "  %-40s %s\n", n[0], n[1])
		}
	}
	for _, name := range due {
		if name == "root" {
			fmt.Fprintf(w, "\nLess than a third of the root's life remains: replace it.\n  %s\n", ca("announce"))
			continue
		}
		fmt.Fprintf(w, "\nLess than a third of the %s CA's life remains: have it signed again.\n  %s\n", name, ca("renew"))
	}
	return nil
}

// caDir is the folder of the CA in a data folder.
func caDir(data string) string { return filepath.Join(data, "ca") }

// waiting tells whether the CA has asked a root elsewhere for its certificates, and does not have them yet.
func waiting(data string) bool {
	return exists(filepath.Join(caDir(data), "device.csr")) && !exists(filepath.Join(caDir(data), "root.pem"))
}

func onWaiting(data string, err error) error {
	return withExit(exitFile, err,
		"where the root is: "+commandLine("sealmq", "ca", "sign-issuing", "--root", "root.pem", "--key", "root.key", filepath.Join(caDir(data), "broker.csr"), filepath.Join(caDir(data), "device.csr")),
		"then here: "+withData(self(), data, "ca", "accept", "root.pem", "broker.pem", "device.pem"))
}

// onRootKey says how it goes on where the root's key is not.
func onRootKey(err error, data string, hints ...string) error {
	if errors.Is(err, pki.ErrNoRootKey) {
		return withExit(exitFile, err, append([]string{"put it back as " + filepath.Join(caDir(data), "root.key") + " for the moment"}, hints...)...)
	}
	return err
}

func newCARenewCmd() *cobra.Command {
	var f fleetFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Have issuing CAs signed again by the root",
		Long: `  sealmq ca renew           those of which less than a third of their life remains
  sealmq ca renew --all     all of them

Have issuing CAs signed again by the root, with the keys and names that they have:
no device has to be touched. The root's key must be in the CA folder for that; where
it is not, "sealmq ca csr" makes a request that is signed elsewhere.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				names, err := c.RenewCA(ctx, all)
				if err != nil {
					return onRootKey(err, f.data, "or let the root sign elsewhere: "+withData(self(), f.data, "ca", "csr", "device"))
				}
				if len(names) == 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "no CA is due")
					return nil
				}
				fmt.Fprintf(cmd.OutOrStdout(), "renewed the %s CA\n", strings.Join(names, " and the "))
				return nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "also those that are not due")
	return cmd
}

// issuingNames are the CAs below the root.
func issuingNames() []string { return []string{"broker", "device"} }

func newCACSRCmd() *cobra.Command {
	var f fleetFlags
	var out string
	cmd := &cobra.Command{
		Use:   "csr broker|device",
		Short: "Ask a root that is elsewhere to sign an issuing CA again",
		Long: `  sealmq ca csr device >device.csr      then, where the root is: sealmq ca sign-issuing

Ask a root that is elsewhere to sign an issuing CA again, with the key and name that
it has.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(issuingNames(), args[0]) {
				return withExit(exitUsage, errors.New("name an issuing CA: broker or device"), cmd.CommandPath()+" device")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if waiting(f.data) {
				return printFile(cmd, filepath.Join(caDir(f.data), args[0]+".csr"), out)
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				csr, err := c.IssuingCSR(ctx, args[0])
				if err != nil {
					return err
				}
				return printOrWrite(cmd, []byte(csr), out)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&out, "out", "", "`FILE` to write (default: standard output)")
	return cmd
}

func printFile(cmd *cobra.Command, name, out string) error {
	b, err := readSmall(name)
	if err != nil {
		return onFiles(err)
	}
	return printOrWrite(cmd, b, out)
}

func printOrWrite(cmd *cobra.Command, b []byte, out string) error {
	if out != "" {
		return onFiles(writeNew(out, b, false))
	}
	_, err := cmd.OutOrStdout().Write(b)
	return err
}

func newCAAcceptCmd() *cobra.Command {
	var f fleetFlags
	cmd := &cobra.Command{
		Use:   "accept FILE...",
		Short: "Take the certificates that a root elsewhere has made",
		Long: `  sealmq ca accept root.pem broker.pem device.pem     after sealmq init --offline-root
  sealmq ca accept device.pem                         after sealmq ca csr device

Take the certificates that a root elsewhere has made. What small TLS libraries would
not accept is refused, with the reason, and nothing is changed.`,
		Args: named("files", "root.pem broker.pem device.pem"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all strings.Builder
			for _, name := range args {
				text, err := readCertificates(name)
				if err != nil {
					return err
				}
				all.WriteString(text + "\n")
			}
			if waiting(f.data) {
				certs, err := pki.ParseCertificates([]byte(all.String()))
				if err != nil {
					return err
				}
				a, err := pki.Accept(caDir(f.data), certs, pki.Config{Keys: f.keys(cmd)})
				if err != nil {
					return onData(f.data, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "CA           below %s\nfingerprint  %s\n\nThe broker can be started: %s\n",
					printable(a.Root().Subject.CommonName), pki.Fingerprint(a.Root()), withData(self(), f.data, "serve"))
				return nil
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				if err := c.AcceptCA(ctx, all.String()); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "accepted: it is in force")
				return nil
			})
		},
	}
	f.add(cmd)
	return cmd
}
