package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/pki"
)

// passphraseEnv is the environment variable with the passphrase of the CA's keys.
const passphraseEnv = "SEALMQ_PASSPHRASE"

func passphraseFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "passphrase-file", "", "`FILE` with the passphrase of the CA's keys (environment: "+passphraseEnv+"; else it is asked for)")
}

// passphrase is where the passphrase of encrypted keys comes from: a file, the environment, or whoever sits at the
// terminal; nil if there is none of these.
func passphrase(cmd *cobra.Command, file string) pki.Passphrase {
	switch {
	case file != "":
		return pki.PassphraseFromFile(file)
	case os.Getenv(passphraseEnv) != "":
		return pki.PassphraseFromEnv(passphraseEnv)
	case isTerminal(cmd.InOrStdin()) && isTerminal(cmd.ErrOrStderr()):
		var typed []byte // once for all keys
		return func(what string) ([]byte, error) {
			if typed == nil {
				answer, err := ask(cmd, "Passphrase of "+what)
				if err != nil {
					return nil, err
				}
				typed = answer
			}
			return bytes.Clone(typed), nil
		}
	}
	return nil
}

// newPassphrase is passphrase for keys that are going to be encrypted: who types it, types it twice.
func newPassphrase(cmd *cobra.Command, file string) (pki.Passphrase, error) {
	get := passphrase(cmd, file)
	if get == nil {
		return nil, withExit(exitUsage, errors.New("no passphrase is given"), "--passphrase-file FILE, or the environment variable "+passphraseEnv)
	}
	if file != "" || os.Getenv(passphraseEnv) != "" {
		return get, nil
	}
	first, err := ask(cmd, "New passphrase")
	if err != nil {
		return nil, err
	}
	second, err := ask(cmd, "Once more")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, usagef("the passphrases differ")
	}
	return func(string) ([]byte, error) { return bytes.Clone(first), nil }, nil
}

// ask reads a line from the terminal without showing it.
func ask(cmd *cobra.Command, what string) ([]byte, error) {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok {
		return nil, errors.New("no terminal to ask at")
	}
	show, err := hideInput(in)
	if err != nil {
		return nil, fmt.Errorf("ask for a passphrase: %w", err)
	}
	defer show()
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: ", what)
	defer fmt.Fprintln(cmd.ErrOrStderr())
	line, err := readLine(cmd.Context(), in)
	return []byte(line), err
}

// readLine reads a line, byte by byte so that nothing behind it is taken, until ctx ends.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() { // ends with the process if nothing is typed
		var line []byte
		for b := make([]byte, 1); len(line) < 4096; {
			n, err := in.Read(b)
			switch {
			case n == 1 && b[0] != '\n':
				line = append(line, b[0])
				continue
			case n == 0 && err == nil:
				continue
			case n == 0 && len(line) == 0:
				read <- result{err: fmt.Errorf("nothing was typed: %w", err)}
				return
			}
			break
		}
		read <- result{line: strings.TrimSuffix(string(line), "\r")}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-read:
		return r.line, r.err
	}
}

// isTerminal tells whether f is one.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && terminal(file)
}

// confirm asks before something is done to many, unless yes was said already.
func confirm(cmd *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	if !isTerminal(cmd.InOrStdin()) || !isTerminal(cmd.ErrOrStderr()) {
		return withExit(exitUsage, errors.New(question+" There is no terminal to ask at"), "say --yes")
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer, err := readLine(cmd.Context(), cmd.InOrStdin())
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr())
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return withExit(exitFailure, errors.New("nothing was done"))
	}
	return nil
}
