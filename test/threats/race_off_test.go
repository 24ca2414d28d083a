//go:build !race

package threats

// raceDetector: the broker is built as its tests are.
const raceDetector = false
