//go:build !race

package sealmq

// raceEnabled: tests run with the race detector, ten times slower.
const raceEnabled = false
