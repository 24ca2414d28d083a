package differential

import "slices"

// minimise leaves steps out as long as fails still reports true: first halves,
// then ever smaller parts.
func minimise(steps []step, fails func([]step) bool) []step {
	for size := len(steps) / 2; size > 0; size /= 2 {
		for i := 0; i+size <= len(steps); {
			fewer := slices.Concat(steps[:i], steps[i+size:])
			if fails(fewer) {
				steps = fewer
			} else {
				i += size
			}
		}
	}
	return steps
}
