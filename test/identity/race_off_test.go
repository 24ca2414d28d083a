//go:build !race

package identity

// raceDetector: the broker is built as its tests are.
const raceDetector = false
