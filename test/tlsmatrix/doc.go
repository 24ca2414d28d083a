// Package tlsmatrix crosses everything that can go wrong in a TLS handshake
// with the TLS libraries that MQTT clients are made of, and checks that the
// broker names the right cause: OpenSSL, mosquitto, Python, Node.js, Go, GnuTLS,
// and small clients in C (testdata) with Mbed TLS, wolfSSL and BearSSL.
//
// The result is docs/tls-matrix.md: `go test -run TestMatrix -update`. What is
// not installed skips with the name of Debian's package.
package tlsmatrix
