package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/pki"
)

func newCAAnnounceCmd() *cobra.Command {
	var (
		f fleetFlags
		q control.AnnounceRequest
	)
	cmd := &cobra.Command{
		Use:   "announce",
		Short: "Replace the root, step 1: make the next one known",
		Long: `  sealmq ca announce                                         a new root is made
  sealmq ca announce --root root.pem --root-key root.key     or this one takes over

Replace the root, step 1: make the next one known. From then on devices are told
both; nothing else changes. The root's key must be in the CA folder for that.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (q.RootFile == "") != (q.RootKey == "") {
				return usagef("--root and --root-key go together")
			}
			if q.Keep && q.RootFile == "" {
				return usagef("--keep is for --root")
			}
			for _, p := range []*string{&q.RootFile, &q.RootKey} {
				if err := absolute(p); err != nil {
					return err
				}
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				if err := c.AnnounceCA(ctx, q); err != nil {
					return onRootKey(err, f.data, "or, if it is lost: --without-old-key")
				}
				fmt.Fprintf(cmd.OutOrStdout(), "announced: devices are told the next root\n\nHow many know it, and then:\n  %s\n  %s\n",
					withData(self(), f.data, "ca", "status"), withData(self(), f.data, "ca", "switch"))
				return nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&q.RootFile, "root", "", "`FILE` with the root that takes over (default: one is made)")
	cmd.Flags().StringVar(&q.RootKey, "root-key", "", "its `KEY`: a file, or exec: or pkcs11:")
	cmd.Flags().BoolVar(&q.Keep, "keep", false, "keep its key in the CA folder")
	cmd.Flags().BoolVar(&q.WithoutOldKey, "without-old-key", false, "go on although the old root's key is lost: each device must know the new root before the switch")
	return cmd
}

// absolute makes a path absolute that a broker with another working folder reads; references to programs and tokens stay.
func absolute(ref *string) error {
	if *ref == "" || strings.HasPrefix(*ref, "exec:") || strings.HasPrefix(*ref, "pkcs11:") {
		return nil
	}
	abs, err := filepath.Abs(strings.TrimPrefix(*ref, "file:"))
	*ref = abs
	return err
}

// caStep is a step of a rollover, with --force if it can be forced.
type caStep struct {
	use, short, long, done string
	force                  string // help of --force; empty: none
	do                     func(ctx context.Context, c *control.Client, force bool) error
}

func (s caStep) command() *cobra.Command {
	var (
		f     fleetFlags
		force bool
	)
	cmd := &cobra.Command{
		Use: s.use, Short: s.short, Long: s.long, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				err := s.do(ctx, c, force)
				if errors.Is(err, pki.ErrNotSeen) {
					return withExit(exitFailure, err, "who does not: "+withData(self(), f.data, "ca", "status"), "--force locks those out that do not")
				}
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), s.done)
				return nil
			})
		},
	}
	f.add(cmd)
	if s.force != "" {
		cmd.Flags().BoolVar(&force, "force", false, s.force)
	}
	return cmd
}

func newCASwitchCmd() *cobra.Command {
	return caStep{
		use: "switch", short: "Replace the root, step 2: let the new one's CAs issue",
		long: `  sealmq ca switch     after announce; back with switch-back

Replace the root, step 2: let the new one's CAs issue. Devices that know the old root
alone still accept the broker, because the old root has signed the new broker CA.`,
		done: "switched: the new root's CAs issue; renew the devices' certificates, then: sealmq ca retire", force: "also if devices would not accept the broker any more",
		do: func(ctx context.Context, c *control.Client, force bool) error { return c.SwitchCA(ctx, force) },
	}.command()
}

func newCASwitchBackCmd() *cobra.Command {
	return caStep{
		use: "switch-back", short: "Undo switch",
		long: `  sealmq ca switch-back

Undo switch: the old root's CAs issue again. What the new ones issued stays valid.`,
		done: "switched back: the old root's CAs issue",
		do:   func(ctx context.Context, c *control.Client, _ bool) error { return c.SwitchBackCA(ctx) },
	}.command()
}

func newCARetireCmd() *cobra.Command {
	return caStep{
		use: "retire", short: "Replace the root, step 3: end the trust in the old one",
		long: `  sealmq ca retire             refused while devices are not known to have the new root
  sealmq ca retire --force     although some are not: they are locked out

Replace the root, step 3: end the trust in the old one. Certificates of its device CA
are refused from then on. Its files stay in the CA folder, under retired-FINGERPRINT.`,
		done: "retired: the new root is the only one", force: "also if devices are not known to have the new root",
		do: func(ctx context.Context, c *control.Client, force bool) error { return c.RetireCA(ctx, force) },
	}.command()
}

func newCAWithdrawCmd() *cobra.Command {
	return caStep{
		use: "withdraw", short: "Undo announce",
		long: `  sealmq ca withdraw

Undo announce: the next root is not going to be one.`,
		done: "withdrawn: the present root stays",
		do:   func(ctx context.Context, c *control.Client, _ bool) error { return c.WithdrawCA(ctx) },
	}.command()
}

// rootFlags name a root that exists already.
type rootFlags struct {
	root, key string
}

// load reads the root. root is a file, or a folder with root.pem and root.key, of a CA or a data folder.
func (r *rootFlags) load(keys pki.KeyOptions) (pki.Root, error) {
	cert, key := r.root, r.key
	for _, dir := range []string{r.root, filepath.Join(r.root, "ca")} {
		if exists(filepath.Join(dir, "root.pem")) {
			cert, key = filepath.Join(dir, "root.pem"), cmp.Or(r.key, filepath.Join(dir, "root.key"))
			break
		}
	}
	if key == "" {
		return pki.Root{}, usagef("where is the key of %s? Say --root-key", cert)
	}
	root, err := pki.LoadRoot(cert, key, keys)
	if err != nil {
		return root, onFiles(err)
	}
	return root, nil
}
