// Package door tests the front door of `sealmq serve` as strangers meet it: floods of connections, handshakes that are slow
// or fail, headers of load balancers, bans, and what is left of all that afterwards, which is nothing.
//
// Strangers come from addresses of 127.0.0.0/8, which are all this machine's on Linux; elsewhere the tests are skipped.
package door
