package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/pki"
)

func newCASignIssuingCmd() *cobra.Command {
	var (
		root           rootFlags
		out            string
		passphraseFile string
	)
	cmd := &cobra.Command{
		Use:   "sign-issuing CSR... --root FILE --key KEY",
		Short: "Sign issuing CAs, on the machine that has the root",
		Long: `  sealmq ca sign-issuing --root root.pem --key root.key broker.csr device.csr
  sealmq ca sign-issuing --root root.pem --key root.key device.csr --out signed/

Sign issuing CAs, on the machine that has the root: broker.csr becomes broker.pem,
device.csr becomes device.pem. No data folder is needed. Of a CSR only key and subject
are taken.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || root.root == "" {
				return withExit(exitUsage, errors.New("name CSRs and the root"), cmd.CommandPath()+" --root root.pem --key root.key broker.csr device.csr")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var (
				files []pki.File
				lines []string
			)
			r, err := root.load(pki.KeyOptions{Passphrase: passphrase(cmd, passphraseFile)})
			if err != nil {
				return err
			}
			for _, arg := range args {
				name := strings.TrimSuffix(filepath.Base(arg), ".csr")
				if !slices.Contains(issuingNames(), name) {
					return usagef("%s: broker.csr or device.csr wanted", arg)
				}
				b, err := readSmall(arg)
				if err != nil {
					return onFiles(err)
				}
				csr, err := pki.ParseCSR(b)
				if err != nil {
					return onFiles(fmt.Errorf("read %s: %w", arg, err))
				}
				cert, err := pki.SignIssuing(r, name, csr, pki.Config{})
				if err != nil {
					return onFiles(fmt.Errorf("%s: %w", arg, err))
				}
				files = append(files, pki.File{Name: name + ".pem", Content: []byte(encodePEM("CERTIFICATE", cert.Raw))})
				lines = append(lines, fmt.Sprintf("%s: %s, until %s", filepath.Join(out, name+".pem"), printable(cert.Subject.CommonName), cert.NotAfter.Format(time.DateOnly)))
			}
			if err := writeFiles(out, files); err != nil {
				return onFiles(err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), strings.Join(lines, "\n"))
			return nil
		},
	}
	cmd.Flags().StringVar(&root.root, "root", "", "`FILE` with the root's certificate")
	cmd.Flags().StringVar(&root.key, "key", "", "its `KEY`: a file, or exec: or pkcs11:")
	cmd.Flags().StringVar(&out, "out", ".", "`FOLDER` to write")
	passphraseFlag(cmd, &passphraseFile)
	return cmd
}

func newCAImportCmd() *cobra.Command {
	var (
		f    fleetFlags
		root rootFlags
		keep bool
	)
	cmd := &cobra.Command{
		Use:   "import FILE --key KEY",
		Short: "Make the certificate authority below a root that exists",
		Long: `  sealmq ca import root.pem --key root.key             the key is used once
  sealmq ca import root.pem --key root.key --keep      and kept in the CA folder
  sealmq ca import root.pem --key 'pkcs11:...'         or is in a token

Make the certificate authority below a root that exists, before the first start of the
broker. The root must be one that small TLS libraries accept: what is wrong with it
is said.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return withExit(exitUsage, errors.New("name the root's certificate"), cmd.CommandPath()+" root.pem --key root.key")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root.root = args[0]
			keys := f.keys(cmd)
			r, err := root.load(keys)
			if err != nil {
				return err
			}
			r.Keep = keep
			a, err := createUnder(f.data, r, pki.Config{Keys: keys})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "CA           below %s, made in %s\nfingerprint  %s\n\nThe broker can be started: %s\n",
				printable(a.Root().Subject.CommonName), caDir(f.data), pki.Fingerprint(a.Root()), withData(self(), f.data, "serve"))
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&root.key, "key", "", "the root's `KEY`: a file, or exec: or pkcs11:")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the key in the CA folder")
	return cmd
}

// createUnder makes the CA of a data folder below a root.
func createUnder(data string, root pki.Root, cfg pki.Config) (*pki.Authority, error) {
	if err := makeData(data); err != nil {
		return nil, err
	}
	a, err := pki.CreateUnder(caDir(data), root, cfg)
	return a, onNewCA(data, err)
}

// onNewCA explains why a CA cannot be made.
func onNewCA(data string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return withExit(exitFile, fmt.Errorf("%s has a certificate authority already", data),
			"another data folder with --data, or another root for this one: sealmq ca announce")
	}
	return onData(data, err)
}

func newCAEncryptCmd() *cobra.Command {
	var f fleetFlags
	cmd := &cobra.Command{
		Use:   "encrypt",
		Short: "Encrypt the CA's keys with a passphrase",
		Long: `  sealmq ca encrypt                              asks for it
  sealmq ca encrypt --passphrase-file secret     the first line of a file

Encrypt the CA's keys with a passphrase. From then on the broker needs it to issue, and
commands while none runs: --passphrase-file, or the environment variable
` + passphraseEnv + `. Keys of programs and tokens stay as they are.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			get, err := newPassphrase(cmd, f.passphraseFile)
			if err != nil {
				return err
			}
			names, err := pki.EncryptKeys(caDir(f.data), pki.Config{Keys: pki.KeyOptions{Passphrase: get}})
			return reportKeys(cmd, f.data, "encrypted", names, err)
		},
	}
	f.add(cmd)
	return cmd
}

func newCADecryptCmd() *cobra.Command {
	var f fleetFlags
	cmd := &cobra.Command{
		Use:   "decrypt",
		Short: "Undo encrypt",
		Long: `  sealmq ca decrypt                              asks for the passphrase
  sealmq ca decrypt --passphrase-file secret     the first line of a file

Undo encrypt: the keys are in plain files again, which only their owner may read.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := pki.DecryptKeys(caDir(f.data), pki.Config{Keys: f.keys(cmd)})
			return reportKeys(cmd, f.data, "decrypted", names, err)
		},
	}
	f.add(cmd)
	return cmd
}

func reportKeys(cmd *cobra.Command, data, done string, paths []string, err error) error {
	for _, path := range paths {
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", done, path)
	}
	if len(paths) == 0 && err == nil {
		fmt.Fprintf(cmd.OutOrStdout(), "no key had to be %s\n", done)
	}
	return onData(data, err)
}
