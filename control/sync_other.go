//go:build !unix

package control

// syncFolder does nothing: the system has no such thing.
func syncFolder(string) error { return nil }
