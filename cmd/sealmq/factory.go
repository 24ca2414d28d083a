package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/pki"
)

func newFactoryCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "factory",
		Short: "Let in devices with certificates of their maker",
		Long: `  sealmq factory challenge                                          a code for its CA to sign
  sealmq factory add acme --ca acme-ca.pem --proof proof.csr        from then on its devices are known
  sealmq factory list
  sealmq factory remove acme

Let in devices with certificates of their maker: one that shows a certificate of a
factory CA is registered when it is seen first.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFactoryChallengeCmd(), newFactoryAddCmd(), newFactoryListCmd(), newFactoryRemoveCmd())
	return cmd
}

func newFactoryChallengeCmd() *cobra.Command {
	var f fleetFlags
	cmd := &cobra.Command{
		Use:   "challenge",
		Short: "Get a code that a factory CA signs to be registered",
		Long: `  sealmq factory challenge

Get a code that a factory CA signs to be registered: whoever has its key proves it
with a CSR or certificate whose common name is the code. It is good for an hour.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				code, until, err := c.FactoryChallenge(ctx)
				if err != nil {
					return err
				}
				w := cmd.OutOrStdout()
				fmt.Fprintf(w, "%s\n\nGood until %s. Where the CA's key is:\n", code, moment(until))
				fmt.Fprintf(w, "  %s\n", commandLine("openssl", "req", "-new", "-key", "ca.key", "-subj", "/CN="+code, "-out", "proof.csr"))
				fmt.Fprintf(w, "Then:\n  %s\n", withData(self(), f.data, "factory", "add", "NAME", "--ca", "ca.pem", "--proof", "proof.csr"))
				return nil
			})
		},
	}
	f.add(cmd)
	return cmd
}

func newFactoryAddCmd() *cobra.Command {
	var (
		f                  fleetFlags
		q                  control.FactoryRequest
		ca, proof, serials string
		attrs              []string
		active             bool
		sources            = []string{"cn", "serial", "san-dns", "san-uri-last"}
	)
	cmd := &cobra.Command{
		Use:   "add NAME --ca FILE --proof FILE",
		Short: "Register a factory CA",
		Long: `  sealmq factory add acme --ca acme-ca.pem --proof proof.csr
  sealmq factory add acme --ca acme-ca.pem --proof proof.csr --id-from serial --prefix acme- --active
  sealmq factory add acme --ca acme-ca.pem --proof proof.csr --only-enroll --serials delivery.txt

Register a factory CA. The proof is a certificate or CSR with the code of "sealmq
factory challenge" as its common name, signed by the CA's key. Its devices wait until
they are let in (sealmq device enable ID), or with --active get in at once.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || ca == "" || proof == "" {
				return withExit(exitUsage, errors.New("name the factory, its CA and the proof"), cmd.CommandPath()+" acme --ca ca.pem --proof proof.csr")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Name = args[0]
			if err := checkNewID(q.Name); err != nil {
				return err
			}
			if q.IDFrom != "" && !slices.Contains(sources, q.IDFrom) {
				return usagef("--id-from %q is none of %s", q.IDFrom, strings.Join(sources, ", "))
			}
			if q.MaxPerHour < 0 {
				return usagef("--rate %d is negative", q.MaxPerHour)
			}
			if active {
				q.State = "active"
			}
			var err error
			if q.Attributes, err = pairs("--attr", attrs); err != nil {
				return err
			}
			if q.CA, err = readCertificates(ca); err != nil {
				return err
			}
			b, err := readSmall(proof)
			if err != nil {
				return onFiles(err)
			}
			q.Proof = string(b)
			if serials != "" {
				if q.Serials, err = readSerials(serials); err != nil {
					return err
				}
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				got, err := c.AddFactory(ctx, q)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "registered factory %s: %s, until %s; its devices are %s when they are seen first\n",
					got.Name, printable(got.Subject), got.NotAfter.Format(time.DateOnly), cmp.Or(got.State, "pending"))
				return nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&ca, "ca", "", "`FILE` with the CA's certificate")
	cmd.Flags().StringVar(&proof, "proof", "", "`FILE` with the certificate or CSR that proves that its key was there")
	cmd.Flags().StringVar(&q.IDFrom, "id-from", "", "`PART` of a device's certificate that is its id: "+strings.Join(sources, ", ")+" (default: cn)")
	cmd.Flags().StringVar(&q.Prefix, "prefix", "", "`TEXT` before the ids of its devices")
	cmd.Flags().StringArrayVar(&q.Groups, "group", nil, "`GROUP` of its devices, may be repeated")
	cmd.Flags().StringArrayVar(&attrs, "attr", nil, "`NAME=VALUE` to be kept with its devices, may be repeated")
	cmd.Flags().BoolVar(&active, "active", false, "its devices get in at once, without approval")
	cmd.Flags().IntVar(&q.MaxPerHour, "rate", 0, "`NUMBER` of new devices in an hour (default: the broker's)")
	cmd.Flags().StringVar(&serials, "serials", "", "`FILE` of serial numbers, hexadecimal, one a line: no other devices are let in")
	cmd.Flags().BoolVar(&q.OnlyEnroll, "only-enroll", false, "its certificates are good for nothing but to get one of ours")
	return cmd
}

// readCertificates reads a file of certificates.
func readCertificates(name string) (string, error) {
	b, err := readSmall(name)
	if err != nil {
		return "", onFiles(err)
	}
	if all, err := pki.ParseCertificates(b); err != nil || len(all) == 0 {
		return "", withExit(exitFile, fmt.Errorf("read %s: %w", name, cmp.Or(err, errors.New("no certificate in it"))))
	}
	return string(b), nil
}

// readSerials reads serial numbers, one a line; "#" begins a comment.
func readSerials(name string) ([]string, error) {
	b, err := readSmall(name)
	if err != nil {
		return nil, onFiles(err)
	}
	var all []string
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		serial := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(line), ":", ""))
		if serial == "" {
			continue
		}
		if !isHex(serial) || len(serial) > 40 {
			return nil, withExit(exitFile, fmt.Errorf("%s:%d: %.50q is no serial number in hexadecimal", name, n, serial))
		}
		all = append(all, serial)
	}
	if len(all) == 0 {
		return nil, withExit(exitFile, fmt.Errorf("read %s: no serial number in it", name))
	}
	return all, nil
}

func newFactoryListCmd() *cobra.Command {
	var f fleetFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the factory CAs",
		Long: `  sealmq factory list
  sealmq factory list --json     everything, for programs

List the factory CAs.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				all, err := c.Factories(ctx)
				if err != nil {
					return err
				}
				return printAll(cmd, asJSON, "factory CAs", all, []string{"NAME", "CA", "UNTIL", "ID FROM", "DEVICES BEGIN"}, func(f *control.Factory) []string {
					return []string{f.Name, f.Subject, f.NotAfter.Format(time.DateOnly), f.Prefix + cmp.Or(f.IDFrom, "cn"), cmp.Or(f.State, "pending")}
				})
			})
		},
	}
	f.add(cmd)
	jsonFlag(cmd, &asJSON, "print everything as JSON")
	return cmd
}

func newFactoryRemoveCmd() *cobra.Command {
	var f fleetFlags
	cmd := &cobra.Command{
		Use:   "remove NAME...",
		Short: "End the trust in factory CAs",
		Long: `  sealmq factory remove acme

End the trust in factory CAs. Devices of theirs that have certificates of ours stay.`,
		Args: named("factory", "acme"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				for _, name := range args {
					if err := c.RemoveFactory(ctx, name); err != nil {
						return err
					}
					fmt.Fprintf(cmd.OutOrStdout(), "removed factory %s: its certificates are refused, devices with certificates of ours stay\n", name)
				}
				return nil
			})
		},
	}
	f.add(cmd)
	return cmd
}
