//go:build race

package policy

// raceEnabled: tests run with the race detector, ten times slower.
const raceEnabled = true
