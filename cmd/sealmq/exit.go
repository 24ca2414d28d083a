package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Exit codes. They are part of the interface: scripts branch on them, so a
// number is never given a second meaning. A connection refused by the broker
// ends with the MQTT 5 reason code itself (128 to 162), whatever the version.
const (
	exitOK          = 0
	exitFailure     = 1  // anything without a number of its own
	exitUsage       = 2  // wrong flags or arguments
	exitFile        = 3  // a file or folder is missing, unreadable or wrong
	exitUnreachable = 4  // no such host, connection refused, time-out
	exitVerify      = 5  // the broker's certificate was not accepted
	exitTLSRefused  = 6  // the TLS handshake failed or the broker refused it
	exitLost        = 7  // the connection ended and was not to be had again
	exitPublish     = 8  // the broker refused the message
	exitSubscribe   = 9  // the broker refused a subscription
	exitTimeout     = 27 // -W has passed; the number mosquitto_sub uses
)

// exitCodesHelp is the table at the end of the help pages.
const exitCodesHelp = `Exit codes:
  0        done
  1        failed for a reason not listed here
  2        wrong flags or arguments
  3        a file is missing, unreadable or wrong
  4        the broker cannot be reached
  5        certificate verify failed: the broker is not who it should be
  6        the TLS handshake failed, or the broker refused the client certificate
  7        the connection was lost and could not be made again
  8        the broker refused the message
  9        the broker refused the subscription
  27       time-out (-W)
  128-162  the broker refused the connection: the MQTT 5 reason code`

// exitError is an error that knows its exit code and how to get out of it.
type exitError struct {
	code  int
	err   error
	hints []string
	// bare: printed without the program's name in front, because the first
	// words are what people and scripts look for.
	bare bool
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// withExit gives err an exit code and hint lines.
func withExit(code int, err error, hints ...string) error {
	return &exitError{code: code, err: err, hints: hints}
}

// usagef is a mistake in the flags or arguments.
func usagef(format string, a ...any) error {
	return withExit(exitUsage, fmt.Errorf(format, a...))
}

// exitCode is what the process should end with after err.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	return exitFailure
}

// printError writes err and its hints to w and returns the exit code. An error
// with an empty text is silent: what there was to say has been said.
func printError(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	text := strings.TrimRight(err.Error(), "\n")
	var e *exitError
	known := errors.As(err, &e)
	if text != "" {
		if !known || !e.bare {
			text = "sealmq: " + text
		}
		fmt.Fprintln(w, text)
	}
	if known {
		for _, h := range e.hints {
			fmt.Fprintf(w, "hint: %s\n", h)
		}
	}
	return exitCode(err)
}
