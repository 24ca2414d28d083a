package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pki"
)

// initFlags are those of init.
type initFlags struct {
	fleet   fleetFlags
	hosts   []string
	under   rootFlags
	keep    bool
	offline bool
	encrypt bool
}

func newInitCmd() *cobra.Command {
	var o initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the CA and the certificates of a broker",
		Long: `  sealmq init                                        for the names of this machine
  sealmq init --host broker.lan --host 203.0.113.7   and for these
  sealmq init --data /var/lib/sealmq --encrypt       in another folder, with encrypted keys
  sealmq init --under root.pem --root-key root.key   below a root that exists
  sealmq init --offline-root                         below one that is elsewhere, by CSR

Make the CA, the certificates and the policy of a broker, and keep what exists. sealmq
serve does the same: init is needed only to give the broker further names, or to
choose where its root is.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.fleet.add(cmd)
	cmd.Flags().StringArrayVar(&o.hosts, "host", nil, "`NAME` or address that clients will use, may be repeated")
	cmd.Flags().StringVar(&o.under.root, "under", "", "`ROOT` that the CA is made below: a certificate, or a folder with root.pem and root.key")
	cmd.Flags().StringVar(&o.under.key, "root-key", "", "the `KEY` of that root: a file, or exec: or pkcs11:")
	cmd.Flags().BoolVar(&o.keep, "keep-root-key", false, "keep the key of that root in the CA folder")
	cmd.Flags().BoolVar(&o.offline, "offline-root", false, "make CSRs for a root that is elsewhere")
	cmd.Flags().BoolVar(&o.encrypt, "encrypt", false, "encrypt the CA's keys with a passphrase; the broker needs it to issue")
	return cmd
}

func (o *initFlags) check() error {
	switch {
	case o.offline && len(o.hosts) > 0:
		return usagef("--host comes after the root has signed: once more init, without --offline-root")
	case o.offline && o.under.root != "":
		return usagef("--offline-root and --under do not go together")
	case o.under.root == "" && (o.under.key != "" || o.keep):
		return usagef("--root-key and --keep-root-key are for --under")
	}
	return nil
}

func (o *initFlags) run(cmd *cobra.Command) error {
	if err := o.check(); err != nil {
		return err
	}
	data := o.fleet.data
	cfg, err := o.config(cmd)
	if err != nil {
		return err
	}
	if waiting(data) {
		return onWaiting(data, pki.ErrWaiting)
	}
	made := false
	switch {
	case o.offline:
		return o.prepare(cmd, cfg)
	case o.under.root != "":
		root, err := o.under.load(pki.KeyOptions{Passphrase: passphrase(cmd, o.fleet.passphraseFile)})
		if err != nil {
			return err
		}
		root.Keep = o.keep
		if _, err := createUnder(data, root, cfg); err != nil {
			return err
		}
		made = true
	}
	f, created, err := pki.InitFolder(data, cfg)
	if err != nil {
		return onFleet(data, err)
	}
	if o.encrypt && !created && !made {
		return withExit(exitFile, fmt.Errorf("%s has a certificate authority already", data), withData(self(), data, "ca", "encrypt"))
	}
	if err := f.CA().OpenKeys(); err != nil { // serve can do without
		return onFleet(data, err)
	}
	if err := f.AddHosts(o.hosts); err != nil {
		return onData(data, err)
	}
	server, _, err := f.Server()
	if err != nil {
		return onData(data, err)
	}
	if _, err := f.Operator(); err != nil {
		return onData(data, err)
	}
	if _, err := sealmq.MakePolicy(data); err != nil {
		return onData(data, err)
	}
	verb := "found"
	if created || made {
		verb = "made"
	}
	w := cmd.OutOrStdout()
	describeFolder(w, f, verb)
	fmt.Fprintf(w, "broker       valid until %s for", server.Leaf.NotAfter.Format(time.DateOnly))
	for _, h := range server.Leaf.DNSNames {
		fmt.Fprintf(w, " %s", h)
	}
	ca, _, _ := f.OperatorFiles()
	fmt.Fprintf(w, "\noperator     %s%c\n", filepath.Dir(ca), filepath.Separator)
	if file := sealmq.PolicyFile(data); exists(file) {
		fmt.Fprintf(w, "policy       %s\n", file)
	}
	if created {
		fmt.Fprintf(w, "\nMove %s to a safe place offline: the broker never needs it.\n", filepath.Join(caDir(data), "root.key"))
	}
	return nil
}

func describeFolder(w io.Writer, f *pki.Folder, verb string) {
	root := f.CA().Root()
	fmt.Fprintf(w, "CA           %s, %s in %s\n", printable(root.Subject.CommonName), verb, caDir(f.Path()))
	fmt.Fprintf(w, "fingerprint  %s\n", pki.Fingerprint(root))
}

// config says how keys are reached and made.
func (o *initFlags) config(cmd *cobra.Command) (cfg pki.Config, err error) {
	cfg.Keys.Passphrase = passphrase(cmd, o.fleet.passphraseFile)
	if o.encrypt {
		cfg.Seal = true
		cfg.Keys.Passphrase, err = newPassphrase(cmd, o.fleet.passphraseFile)
	}
	return cfg, err
}

// prepare makes the requests for a root that is elsewhere.
func (o *initFlags) prepare(cmd *cobra.Command, cfg pki.Config) error {
	data := o.fleet.data
	if err := makeData(data); err != nil {
		return err
	}
	if err := pki.Prepare(caDir(data), cfg); err != nil {
		return onNewCA(data, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s\n\nSign both where the root is, and bring the answers back:\n  %s\n  %s\n",
		filepath.Join(caDir(data), "broker.csr"), filepath.Join(caDir(data), "device.csr"),
		commandLine("sealmq", "ca", "sign-issuing", "--root", "root.pem", "--key", "root.key", "broker.csr", "device.csr"),
		withData(self(), data, "ca", "accept", "root.pem", "broker.pem", "device.pem"))
	return nil
}

// makeData makes the data folder if it is missing.
func makeData(data string) error { return onData(data, os.MkdirAll(data, 0o700)) }
