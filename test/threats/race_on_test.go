//go:build race

package threats

// raceDetector: the broker is built as its tests are, and reports its races.
const raceDetector = true
