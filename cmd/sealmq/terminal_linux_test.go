package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// atTerminal is a command whose input and errors are a terminal, and the other end of that.
func atTerminal(t *testing.T) (*cobra.Command, *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skip("no terminals here: ", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { slave.Close() })
	cmd := &cobra.Command{}
	cmd.SetIn(slave)
	cmd.SetErr(slave)
	cmd.SetContext(t.Context())
	return cmd, master
}

// types answers each question that the terminal shows, and returns all that it shows.
func types(t *testing.T, terminal *os.File, answers ...string) (shown func() string) {
	done := make(chan string, 1)
	go func() {
		in := bufio.NewReader(terminal)
		var all strings.Builder
		for _, a := range answers {
			for !strings.HasSuffix(all.String(), ": ") && !strings.HasSuffix(all.String(), "] ") {
				b, err := in.ReadByte()
				if err != nil {
					break
				}
				all.WriteByte(b)
			}
			all.WriteString("|")
			fmt.Fprintln(terminal, a)
		}
		done <- all.String()
	}()
	return func() string { return <-done }
}

// A passphrase is asked for at the terminal, and not shown there.
func TestPassphraseIsAskedFor(t *testing.T) {
	t.Setenv(passphraseEnv, "")
	cmd, terminal := atTerminal(t)
	if !isTerminal(cmd.InOrStdin()) || isTerminal(&bytes.Buffer{}) {
		t.Fatal("terminals are not told from others")
	}
	shown := types(t, terminal, "correct horse")
	get := passphrase(cmd, "")
	for range 2 { // it is asked for once
		got, err := get("device.key")
		if string(got) != "correct horse" || err != nil {
			t.Errorf("%q %v", got, err)
		}
		clear(got)
	}
	if s := shown(); s != "Passphrase of device.key: |" {
		t.Errorf("shown: %q", s)
	}

	shown = types(t, terminal, "one", "one")
	get, err := newPassphrase(cmd, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := get("x"); string(got) != "one" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	if s := shown(); strings.Contains(s, "one") || !strings.Contains(s, "Once more: ") {
		t.Errorf("shown: %q", s)
	}
	types(t, terminal, "one", "two")
	if _, err := newPassphrase(cmd, ""); exitCode(err) != exitUsage {
		t.Errorf("two that differ: %v", err)
	}
}

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y": true, "YES": true, "": false, "n": false, "yup": false} {
		cmd, terminal := atTerminal(t)
		types(t, terminal, answer)
		if err := confirm(cmd, false, "Really?"); (err == nil) != want {
			t.Errorf("%q: %v", answer, err)
		}
	}
	cmd := &cobra.Command{}
	cmd.SetIn(strings.NewReader("y\n"))
	if err := confirm(cmd, false, "Really?"); exitCode(err) != exitUsage {
		t.Errorf("without a terminal: %v", err)
	}
	if err := confirm(cmd, true, "Really?"); err != nil {
		t.Errorf("with --yes: %v", err)
	}
}

// Ctrl-C ends a question, and the terminal shows again what is typed.
func TestQuestionIsInterrupted(t *testing.T) {
	cmd, _ := atTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cmd.SetContext(ctx)
	if _, err := ask(cmd, "Passphrase"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	tty, err := unix.IoctlGetTermios(int(cmd.InOrStdin().(*os.File).Fd()), unix.TCGETS)
	if err != nil || tty.Lflag&unix.ECHO == 0 {
		t.Errorf("the terminal stays silent: %v", err)
	}
}
