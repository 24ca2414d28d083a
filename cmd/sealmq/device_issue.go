package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// oneID accepts one argument that can be the id of a device.
func oneID(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return withExit(exitUsage, errors.New("name one device"), cmd.CommandPath()+" pump-17")
	}
	return nil
}

// checkNewID refuses what would be an id, but a troublesome one.
func checkNewID(id string) error {
	if err := pki.CheckID(id); err != nil {
		return withExit(exitUsage, err)
	}
	if strings.HasPrefix(id, "-") {
		return usagef("device id %q begins with a hyphen: programs would take it for a flag", id)
	}
	return nil
}

// pairs reads the values NAME=VALUE of a flag.
func pairs(flag string, values []string) (map[string]string, error) {
	if len(values) == 0 {
		return nil, nil
	}
	all := make(map[string]string, len(values))
	for _, v := range values {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, usagef("%s %q is not NAME=VALUE", flag, v)
		}
		all[name] = value
	}
	return all, nil
}

func newDeviceAddCmd() *cobra.Command {
	var (
		f      fleetFlags
		b      bundleFlags
		groups []string
		attrs  []string
		life   span
	)
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Add a device, with a certificate and snippets to use it",
		Long: `  sealmq device add pump-17                              into the folder pump-17/
  sealmq device add pump-17 --out certs/                 into another
  sealmq device add pump-17 --host broker.example.org    for devices that use this name
  sealmq device add pump-17 --for esp-idf --for p12      for these programs

Add a device, with a certificate and snippets to use it. The private key is made
here, written to that folder and kept nowhere else. Nothing is overwritten.`,
		Args: oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			if err := checkNewID(id); err != nil {
				return err
			}
			attributes, err := pairs("--attr", attrs)
			if err != nil {
				return err
			}
			if err := b.check(f.data); err != nil {
				return err
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				i, err := b.issuance(cmd, c)
				if err != nil {
					return err
				}
				order := func(csr string) (*control.Certificate, error) {
					got, err := c.AddDevice(ctx, control.AddRequest{ID: id, Groups: groups, Attributes: attributes, CSR: csr, Life: life.seconds()})
					if errors.Is(err, registry.ErrExists) {
						return nil, withExit(exitFailure, err, "another certificate for it: "+withData(self(), f.data, "device", "renew", id))
					}
					return got, err
				}
				done, err := i.issue(ctx, id, cmp.Or(b.out, folderFor(id)), order)
				if err != nil {
					return err
				}
				return done.report(cmd, i)
			})
		},
	}
	f.add(cmd)
	b.add(cmd, "`FOLDER` to write (default: the device's id)")
	cmd.Flags().StringArrayVar(&groups, "group", nil, "`GROUP` of the device, may be repeated")
	cmd.Flags().StringArrayVar(&attrs, "attr", nil, "`NAME=VALUE` to be kept with the device, may be repeated")
	lifeFlag(cmd, &life)
	return cmd
}

func lifeFlag(cmd *cobra.Command, life *span) {
	cmd.Flags().Var(life, "life", "`TIME` that the certificate is valid, such as 30d (default: as configured, a year)")
}

// issuance makes bundles by the flags of one command.
type issuance struct {
	client   *control.Client
	flags    *bundleFlags
	formats  []format
	password string // of .p12 files
	made     bool   // it is nobody's but ours to tell

	// takeBackAll, if not nil, ends what was issued when it cannot be written; else its certificate is revoked.
	takeBackAll func(context.Context) error
}

func (f *bundleFlags) issuance(cmd *cobra.Command, c *control.Client) (*issuance, error) {
	i := &issuance{client: c, flags: f, formats: f.chosen()}
	if (snippet{formats: i.formats}).has("p12") {
		var err error
		if i.password, i.made, err = f.p12Password(); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// issued is a bundle that has been written.
type issued struct {
	snippet
	target *target
}

// issue makes a key, orders a certificate for it and writes both. When they cannot be written the certificate is revoked,
// and a device that was added for it forgotten.
func (i *issuance) issue(ctx context.Context, id, dir string, order func(csr string) (*control.Certificate, error)) (*issued, error) {
	t, err := reserve(dir, bundleNames(i.formats))
	if err != nil {
		return nil, err
	}
	key, csr, err := newKey()
	if err != nil {
		t.cancel()
		return nil, err
	}
	got, err := order(string(csr))
	if err != nil {
		t.cancel()
		return nil, err
	}
	s := snippet{ID: id, Host: i.flags.address.host, Port: i.flags.address.port, formats: i.formats, password: i.password, legacy: i.flags.legacy,
		Operator: i.flags.operator}
	s.Bundle, err = newBundle(got, key)
	if err == nil {
		var files []pki.File
		if files, err = s.files(); err == nil {
			err = t.write(files)
		}
	}
	if err != nil {
		return nil, i.takeBack(ctx, got, err)
	}
	return &issued{s, t}, nil
}

// takeBack ends a certificate that nobody will ever have.
func (i *issuance) takeBack(ctx context.Context, c *control.Certificate, why error) error {
	ctx = context.WithoutCancel(ctx)
	var err error
	if i.takeBackAll != nil {
		err = i.takeBackAll(ctx)
	} else if c.New && !strings.Contains(c.ID, "/") {
		_, err = i.client.Purge(ctx, control.Selection{IDs: []string{c.ID}}, nil)
	} else {
		_, err = i.client.Revoke(ctx, control.RevokeRequest{Serial: c.Serial, Reason: pki.CessationOfOperation.String()}, nil)
	}
	if err != nil {
		return withExit(exitFile, fmt.Errorf("%w; the certificate %s was issued and could not be revoked: %w", why, c.Serial, err),
			"sealmq device revoke --serial "+c.Serial)
	}
	return withExit(exitFile, fmt.Errorf("%w; the certificate that was issued is revoked again", why))
}

// report says what there is and what to do with it.
func (b *issued) report(cmd *cobra.Command, i *issuance) error {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s is ready, valid until %s\n\n", b.target, b.Bundle.Leaf.NotAfter.Format(time.DateOnly))
	b.list(w)
	if b.has("p12") && i.made {
		fmt.Fprintf(w, "\nPassword of %s, shown only here:\n  %s\n", p12File, b.password)
	}
	if b.has("qr") && isTerminal(w) {
		text, err := b.qrText()
		if err != nil {
			return err
		}
		fmt.Fprintln(w)
		if err := drawQR(w, text); err != nil {
			return err
		}
	}
	e := endpoint{host: b.Host, port: b.Port, ca: b.target.in("ca.pem"), cert: b.target.in("cert.pem"), key: b.target.in("key.pem")}
	fmt.Fprintf(w, "\nTry it:\n  %s\n  %s\n",
		e.mosquitto("mosquitto_sub", "-v", "-t", b.Filter()),
		e.mosquitto("mosquitto_pub", "-t", b.Hello(), "-m", "world"))
	return nil
}

func newDeviceRenewCmd() *cobra.Command {
	var (
		f    fleetFlags
		b    bundleFlags
		s    selectFlags
		life span
	)
	cmd := &cobra.Command{
		Use:   "renew ID...",
		Short: "Issue further certificates to devices that there are",
		Long: `  sealmq device renew pump-17                              into the folder pump-17/
  sealmq device renew pump-17 --out new/                   into another
  sealmq device renew --expiring 30d --out new --yes       into new/ID/ for each that is due

Issue further certificates to devices that there are, each with a new key, as add
writes them. The one before stays valid beside it, until the new one is used or a
week has passed. Nothing is overwritten.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := s.selection(cmd, args)
			if err != nil {
				return err
			}
			if err := b.check(f.data); err != nil {
				return err
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				if err := s.sure(cmd, c, "renew", sel); err != nil {
					return err
				}
				all, err := ids(ctx, c, sel)
				if err != nil {
					return err
				}
				i, err := b.issuance(cmd, c)
				if err != nil {
					return err
				}
				order := func(id string) func(string) (*control.Certificate, error) {
					return func(csr string) (*control.Certificate, error) {
						return c.RenewDevice(ctx, control.SignRequest{ID: id, CSR: csr, Life: life.seconds()})
					}
				}
				if len(sel.IDs) == 1 {
					id := sel.IDs[0]
					done, err := i.issue(ctx, id, cmp.Or(b.out, folderFor(id)), order(id))
					if err != nil {
						return err
					}
					return done.report(cmd, i)
				}
				return i.issueAll(cmd, all, cmp.Or(b.out, "."), order)
			})
		},
	}
	f.add(cmd)
	s.add(cmd)
	b.add(cmd, "`FOLDER` to write (default: the device's id); of several devices, the folder of their folders")
	lifeFlag(cmd, &life)
	return cmd
}

// issueWorkers share the commits of their certificates; a control socket has twice as many connections.
const issueWorkers = 8

// issueAll issues to many, each into a folder of its own in dir, and goes on when one fails.
func (i *issuance) issueAll(cmd *cobra.Command, all []string, dir string, order func(id string) func(csr string) (*control.Certificate, error)) error {
	var (
		mu      sync.Mutex
		partial = control.PartialError{What: "issue certificates"}
		next    = make(chan string)
		workers sync.WaitGroup
		m       = newMeter(cmd, "issued")
		ctx     = cmd.Context()
	)
	for range min(issueWorkers, len(all)) {
		workers.Go(func() {
			for id := range next {
				_, err := i.issue(ctx, id, filepath.Join(dir, folderFor(id)), order(id))
				mu.Lock()
				if err != nil {
					partial.Failed = append(partial.Failed, failure(id, err))
				} else {
					partial.Done++
				}
				p := control.Progress{Done: partial.Done + len(partial.Failed), Total: len(all)}
				mu.Unlock()
				m.show(p)
			}
		})
	}
feed:
	for _, id := range all {
		select {
		case next <- id:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	workers.Wait()
	m.end()
	if partial.Done > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "%s in %s%c\n", count(partial.Done, "bundle"), filepath.Clean(dir), filepath.Separator)
		if i.made {
			fmt.Fprintf(cmd.OutOrStdout(), "\nPassword of their %s, shown only here:\n  %s\n", p12File, i.password)
		}
	}
	switch {
	case len(partial.Failed) > 0:
		return &partial
	case ctx.Err() != nil:
		return fmt.Errorf("issue certificates: %d of %d done: %w", partial.Done, len(all), ctx.Err())
	}
	return nil
}

// failure keeps what the broker said of one device.
func failure(id string, err error) control.Failure {
	if e := (*control.Error)(nil); errors.As(err, &e) {
		return control.Failure{ID: id, Error: *e}
	}
	return control.Failure{ID: id, Error: control.Error{Text: err.Error()}}
}

func newDeviceSignCmd() *cobra.Command {
	var (
		f       fleetFlags
		id, out string
		life    span
	)
	cmd := &cobra.Command{
		Use:   "sign CSR --id ID",
		Short: "Issue a certificate for a key that a device has made itself",
		Long: `  sealmq device sign dev.csr --id pump-17 --out pump-17/     cert.pem and ca.pem
  sealmq device sign dev.csr --id pump-17 >cert.pem          the certificate alone
  openssl req -new -key key.pem -subj /CN=x | sealmq device sign - --id pump-17

Issue a certificate for a key that a device has made itself. Of the CSR, PEM or
DER, only the key is used: who the device is, --id says. One that is unknown is
added.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || id == "" {
				return withExit(exitUsage, errors.New("name a CSR and a device"), cmd.CommandPath()+" dev.csr --id pump-17")
			}
			return checkNewID(id)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			csr, err := readCSR(cmd, args[0])
			if err != nil {
				return err
			}
			return f.with(cmd, func(ctx context.Context, c *control.Client) error {
				var t *target
				if out != "" {
					if t, err = reserve(out, []string{"ca.pem", "cert.pem"}); err != nil {
						return err
					}
				}
				got, err := c.SignDevice(ctx, control.SignRequest{ID: id, CSR: csr, Life: life.seconds()})
				if err != nil {
					if t != nil {
						t.cancel()
					}
					return err
				}
				if t == nil {
					_, err := fmt.Fprint(cmd.OutOrStdout(), got.Cert)
					return err
				}
				if err := t.write([]pki.File{{Name: "ca.pem", Content: []byte(got.CA)}, {Name: "cert.pem", Content: []byte(got.Cert)}}); err != nil {
					return (&issuance{client: c}).takeBack(ctx, got, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is ready, valid until %s\n", t, got.NotAfter.Format(time.DateOnly))
				return nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&id, "id", "", "`ID` of the device")
	cmd.Flags().StringVar(&out, "out", "", "`FOLDER` to write (default: the certificate to standard output)")
	lifeFlag(cmd, &life)
	return cmd
}

// readCSR reads a CSR, PEM or DER, and returns it as PEM.
func readCSR(cmd *cobra.Command, name string) (string, error) {
	b, err := readSmall(name, cmd.InOrStdin())
	if err != nil {
		return "", onFiles(err)
	}
	csr, err := pki.ParseCSR(b)
	if err != nil {
		return "", onFiles(fmt.Errorf("read %s: %w", name, err))
	}
	return encodePEM("CERTIFICATE REQUEST", csr.Raw), nil
}
