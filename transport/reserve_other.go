//go:build !unix

package transport

import "net"

// reserve does nothing where descriptors are not small numbers.
type reserve struct{}

func (*reserve) open()                          {}
func (*reserve) close()                         {}
func (*reserve) spend(net.Listener, error) bool { return false }
