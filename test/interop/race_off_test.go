//go:build !race

package interop

// raceDetector: the broker is built as its tests are.
const raceDetector = false
