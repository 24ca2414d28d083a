//go:build !linux

package transport

import (
	"syscall"
	"time"
)

const haveEpoll = false

func controlListener(time.Duration) func(string, string, syscall.RawConn) error { return nil }

func newLinkFor(*group) (newLink func(*conn) link, stop func()) { return newRawLink, func() {} }
