// Package authn proves, with a real sealmq process and real clients, how clients prove who they are: by password, SCRAM,
// token, web service, directory and foreign certificates, in chains that each listener has of its own.
//
// With -measure it prints how many clients a second get in by password, and what that does to those who are connected. What
// is not installed skips with the name of the package that brings it.
package authn
