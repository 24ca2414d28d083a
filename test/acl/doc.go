// Package acl proves that an ACL file means to package policy what it means to Mosquitto: it asks both. Without Mosquitto
// (Debian: mosquitto) it is skipped.
package acl
