//go:build !unix

package transport

func newRawLink(c *conn) link { return newStreamLink(c) }
