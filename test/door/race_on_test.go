//go:build race

package door

// raceDetector: the broker is built as its tests are, and reports its races.
const raceDetector = true
