// Package identity proves the life of a device's identity with a real sealmq
// process and real tools: Mosquitto's clients, openssl, curl and paho for
// Python. It has the flows from the first start to the replacement of the root,
// the impostors of both sides, and three measures: how fast a revocation closes
// connections, what a rotation of certificates costs those who connect
// meanwhile, and what the replacement of the root costs those who are there.
//
// With -long the measures have their full size; the broker is then best built
// without the race detector. What is not installed skips with the name of the
// package that brings it.
package identity
