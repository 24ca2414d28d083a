//go:build race

package built

// Race: the tests have the race detector, and so has the program.
const Race = true
