// Package acme gets and renews certificates from Pebble, the ACME test server,
// which runs in the process of the tests with a DNS server of its own: nothing
// leaves the machine. Its validators are real ones; they come to our listeners,
// to http_address, and to that DNS server, which the tests' own program, run as
// dns_exec, changes.
//
// With -long, renewals are forced every minute for ten minutes with 1,000
// connected clients; without, every two seconds for twenty with 100.
package acme
