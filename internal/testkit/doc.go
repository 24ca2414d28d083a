// Package testkit is what the tests of other packages stand on: an in-memory duplex pipe and a broker link on top of
// it, both usable inside a testing/synctest bubble; a driver that feeds a connection's state machine from the pipe; a
// runner for scripted MQTT conversations; a throw-away certificate authority; and a goroutine leak check.
//
// The script runner encodes and decodes packets by itself, so that it checks the broker against the standard and not
// against the project's own parser. It imports no other package of the project. Only tests may import it.
package testkit
