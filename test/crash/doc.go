// Package crash kills a broker with SIGKILL at random moments, again and again,
// and proves from the clients' side what its acknowledgements are worth.
//
// The broker is a black box: a process, its data folder and its ports. The MQTT
// of this package is written for it alone (wire.go) and shares nothing with the
// broker. Publishers (publisher.go), durable subscribers (subscriber.go) and
// clients that only leave wills (will.go) misbehave in every way that the
// standard allows, and write all they do and see into one journal (journal.go).
// A conductor (run.go) kills and restarts the broker; check.go reads the journal
// at the end and knows nothing else.
//
// What the check demands is in the comment of check.
package crash
