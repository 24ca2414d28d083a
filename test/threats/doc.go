// Package threats attacks a real sealmq process in the ways that docs/threats.md
// lists, as far as they can be tried from outside: by bytes on the wire, files in
// its folders, signals, and certificates of our own making. The reports about
// other brokers that concern permissions have a test each, named by the report.
// It also checks that the page names only tests that exist.
//
// With -long the measures that need many attempts are taken too.
package threats
