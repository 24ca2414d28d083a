//go:build !linux

package transport

import (
	"syscall"
	"time"
)

const haveEpoll = false

func controlListener(time.Duration) func(string, string, syscall.RawConn) error { return nil }

func newLinkFor(Config) func(*conn) link { return newRawLink }
