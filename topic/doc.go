// Package topic knows topic names and topic filters: whether they are valid,
// what matches what, and, at scale, which subscriptions a name concerns.
//
// The functions work on strings alone. [Index] holds the subscriptions of a
// broker by filter. Its readers take no lock and never wait for a writer;
// DESIGN.md tells how. The package starts no goroutine, reads no clock and
// knows nothing of packets or sessions, so that client, policy and store use
// it as the broker does.
package topic
