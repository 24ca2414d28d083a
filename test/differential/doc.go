// Package differential sends the same random packets, valid and broken, to SealMQ
// and to Debian's Mosquitto, and compares what comes back.
//
// A seed gives a sequence of steps for two clients (generate.go, mutate.go), whose
// packets this package writes itself (wire.go), since the broker's own encoder
// could not be made to err. Each step is played to both brokers (play.go). It is
// over when both are quiet: the clients' pings are answered, and a third client,
// the observer, which has subscribed to everything, has got a marker of its own.
// So nothing depends on time. What the three clients then have received is
// compared after what may differ freely was taken out (observe.go).
//
// A difference fails the test unless differences.txt explains it (explain.go). It
// is repeated and made small first (minimise.go), and ends its sequence, as the
// brokers are no longer in the same state. Without Mosquitto, and in TestChaos,
// nobody compares: the broker must stay alive, and must have forgotten its
// clients when they have left.
package differential
