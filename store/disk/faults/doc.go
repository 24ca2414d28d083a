// Package faults has the tests that hold store/disk to its promise when the file system does not hold to its own: writes,
// syncs, renames and removals that fail, power that goes with what was not synced, a full disk, and files that were
// changed or cut short. It has no code outside of tests.
//
// A script of ops, drawn from a seed, is run against the store; then the store is opened again and everything in it is
// compared with a naive model. What the store holds must be the outcome of all ops up to some point, which lies not
// before the last op that was reported as committed.
//
// With SEALMQ_SOAK=1 every fault point is met, otherwise a sample of them.
package faults
