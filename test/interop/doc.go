// Package interop drives a real sealmq process with the MQTT clients that
// people use: Mosquitto's tools, paho for Python and Go, mqtt.js, and sealmq's
// own commands.
//
// Every client is an adapter of two verbs, listen and publish, in a file of its
// own; the scenarios are written once and run for each client, protocol version
// and transport. A client that is not installed skips with the name of the
// package that brings it.
package interop
