//go:build !race

package crash

// raceDetector: the broker is built as its tests are.
const raceDetector = false
