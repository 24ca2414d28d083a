// Package conformance holds the test that makes docs/conformance.md from the clause tags of the scripted conversations
// and of the Go tests, and that fails when the page is stale, a tag names no statement, or a statement has neither a
// test nor a reason. The statements are in docs/data. Run `make conformance` to write the page anew.
package conformance
