// Package client is an MQTT client for versions 3.1, 3.1.1 and 5: the one that
// the command line, the bridge, the benchmark and the tests use.
//
// A [Client] is one network connection. What outlives it, the messages not yet
// acknowledged in either direction, is in a [Session]: connect again with the
// same Session and delivery goes on where it stopped [MQTT-4.4.0-1]. Who
// reconnects, and when, is the caller's business; [Backoff] tells how long to
// wait.
//
// Connect starts two goroutines for a client: one reads and calls OnMessage,
// one writes what the callers have queued and keeps the connection alive. Both
// have ended when [Client.Wait] returns.
//
// Everything the server declares in CONNACK is kept to: receive maximum, packet
// size, quality of service, retain, topic aliases, and which kinds of
// subscription it has. What cannot be sent is refused here with the reason code
// that the server would have given.
package client
