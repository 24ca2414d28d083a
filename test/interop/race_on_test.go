//go:build race

package interop

// raceDetector: the broker is built as its tests are, and reports its races.
const raceDetector = true
