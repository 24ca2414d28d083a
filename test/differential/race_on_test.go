//go:build race

package differential

// raceDetector: the broker is built as its tests are, and reports its races.
const raceDetector = true
