package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/auth/password"
)

// passwdFlags are those of passwd.
type passwdFlags struct {
	create, remove, upgrade, batch, scram bool
	passwordFile                          string
}

func newPasswdCmd() *cobra.Command {
	var f passwdFlags
	cmd := &cobra.Command{
		Use:   "passwd FILE USER",
		Short: "Change a password file",
		Long: `  sealmq passwd -c passwords alice        make the file, with the password of alice
  sealmq passwd passwords alice           add alice, or give her another password
  sealmq passwd -D passwords alice        take her out
  sealmq passwd passwords alice <secret   the password is what stdin says
  sealmq passwd -U passwords              whose hash is of an old kind

Change a password file. The password is asked for twice, or is one line of a file or
of stdin; it is never an argument, which others on the machine could see. The file
is replaced in one step and is readable by its owner alone; other lines stay as they
are, those of Mosquitto among them. A running broker reads it when it changes.

Exit codes: 0 done, 1 failed, or with -U there is such a hash, 2 wrong flags or
arguments, 3 the file is missing, open to others or has a bad line.`,
		Args: func(cmd *cobra.Command, args []string) error {
			want := 2
			if f.upgrade {
				want = 1
			}
			switch {
			case f.batch || len(args) > 2: // the third may be a password, which is not repeated
				return withExit(exitUsage, errors.New("a password is not taken as an argument, since others on this machine can see it"),
					"--password-file FILE, or through stdin")
			case len(args) != want:
				return withExit(exitUsage, fmt.Errorf("%s takes a file and a user, with -U a file alone; got %d arguments", cmd.CommandPath(), len(args)),
					cmd.CommandPath()+" passwords alice")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.upgrade {
				return oldHashes(cmd, args[0])
			}
			return f.change(cmd, args[0], args[1])
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.create, "create", "c", false, "make the file, which must not exist")
	fl.BoolVarP(&f.remove, "delete", "D", false, "take the user out")
	fl.BoolVarP(&f.upgrade, "upgrade", "U", false, "change nothing: say whose hash is of an old kind and needs its password set again")
	fl.BoolVar(&f.scram, "scram", false, "write a line for SCRAM-SHA-256, which serves for a password sent as it is too")
	fl.StringVar(&f.passwordFile, "password-file", "", "`FILE` with the password as its only line")
	fl.BoolVarP(&f.batch, "batch", "b", false, "")
	_ = fl.MarkHidden("batch")
	cmd.MarkFlagsMutuallyExclusive("create", "delete", "upgrade")
	for _, other := range []string{"scram", "password-file"} {
		cmd.MarkFlagsMutuallyExclusive("delete", other)
		cmd.MarkFlagsMutuallyExclusive("upgrade", other)
	}
	return cmd
}

// change sets or removes one user.
func (f *passwdFlags) change(cmd *cobra.Command, path, user string) error {
	users, err := f.open(path)
	if err != nil {
		return err
	}
	done := "password of %s set in %s\n"
	if f.remove {
		done = "%s taken out of %s\n"
		if !users.Remove(user) {
			return withExit(exitFailure, fmt.Errorf("there is no user %q in %s", user, path))
		}
	} else {
		secret, err := f.password(cmd, user)
		if err != nil {
			return err
		}
		scheme := password.Argon2id
		if f.scram {
			scheme = password.SCRAM
		}
		lost := !f.scram && schemeOf(users, user) == password.SCRAM
		if err := users.Set(user, string(secret), scheme, password.Cost{}); err != nil {
			return err
		}
		if lost {
			fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: note: %s had a line for SCRAM, and has none any more; --scram writes one\n", printable(user))
		}
	}
	if f.create {
		err = writeNew(path, users.Text(), true)
	} else {
		err = users.Write(path)
	}
	if err != nil {
		return onFiles(err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), done, printable(user), path)
	return nil
}

// open reads the file, or begins one.
func (f *passwdFlags) open(path string) (*password.File, error) {
	if f.create {
		if _, err := os.Lstat(path); err == nil {
			return nil, withExit(exitFile, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}, "without -c the user is added to it")
		}
		return password.New(), nil
	}
	return loadPasswords(path)
}

func loadPasswords(path string) (*password.File, error) {
	users, err := password.Load(path)
	var h interface{ Hint() string }
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, withExit(exitFile, err, "-c makes it")
	case errors.As(err, &h):
		return nil, withExit(exitFile, err, h.Hint())
	case err != nil:
		return nil, withExit(exitFile, err)
	}
	return users, nil
}

// password is what a file or stdin says, or whoever sits at the terminal says twice.
func (f *passwdFlags) password(cmd *cobra.Command, user string) ([]byte, error) {
	switch {
	case f.passwordFile != "":
		text, err := readSmall(f.passwordFile, cmd.InOrStdin())
		if err != nil {
			return nil, withExit(exitFile, err)
		}
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, withExit(exitFile, fmt.Errorf("%s has more than one line", f.passwordFile))
		}
		return bytes.TrimSuffix(line, []byte("\r")), nil
	case !isTerminal(cmd.InOrStdin()):
		line, err := readLine(cmd.Context(), cmd.InOrStdin())
		if err != nil {
			return nil, fmt.Errorf("read password from stdin: %w", err)
		}
		return []byte(line), nil
	}
	first, err := ask(cmd, "Password of "+printable(user))
	if err != nil {
		return nil, err
	}
	second, err := ask(cmd, "Once more")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, usagef("the passwords differ")
	}
	return first, nil
}

func schemeOf(f *password.File, user string) password.Scheme {
	for _, u := range f.Users() {
		if u.Name == user {
			return u.Scheme
		}
	}
	return ""
}

// oldHashes lists the users whose hashes are no longer written.
func oldHashes(cmd *cobra.Command, path string) error {
	users, err := loadPasswords(path)
	if err != nil {
		return err
	}
	n := 0
	for _, u := range users.Users() {
		if u.Scheme == password.SHA512 || u.Scheme == password.PBKDF2 {
			n++
			fmt.Fprintf(cmd.OutOrStdout(), "%s  %s\n", printable(u.Name), u.Scheme)
		}
	}
	if n > 0 {
		return withExit(exitFailure, fmt.Errorf("%s: %s with a hash of an old kind: none can be made of it without the password", path, count(n, "user")),
			commandLine("sealmq", "passwd", path, "USER")+" for each of them; until then they are good as they are")
	}
	return nil
}
