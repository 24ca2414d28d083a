//go:build !race

package differential

// raceDetector: the broker is built as its tests are.
const raceDetector = false
