package gate

import "math"

// Level is how much a server that is short of memory refuses. Each level includes those below it; none touches clients that
// are connected.
type Level uint8

// The levels, with the share of the memory limit at which they begin.
const (
	Calm         Level = iota
	ShedUnknown        // 80 %: connections from unknown addresses, anonymous clients
	ShedNew            // 88 %: all new connections
	ShedRetained       // 93 %: retained messages for new subscriptions
	ShedQoS0           // 97 %: QoS 0 messages
)

// marks are where the levels begin, in percent.
var marks = [...]int64{ShedUnknown: 80, ShedNew: 88, ShedRetained: 93, ShedQoS0: 97}

// easing is how far below its mark the memory must fall before a level ends, in percent of the limit.
const easing = 5

// String is the level in one word.
func (l Level) String() string {
	switch l {
	case Calm:
		return "calm"
	case ShedUnknown:
		return "shed_unknown"
	case ShedNew:
		return "shed_new"
	case ShedRetained:
		return "shed_retained"
	case ShedQoS0:
		return "shed_qos0"
	}
	return "unknown"
}

// Next is the level after a reading of used bytes, of limit; without a limit there is none. Memory that rises changes the
// level at once, also by several; memory that falls has to fall by 5 % of the limit below where the level began.
func (l Level) Next(used, limit int64) Level {
	if limit <= 0 {
		return Calm
	}
	share := float64(max(used, 0)) / float64(limit) * 100
	rise, fall := Calm, Calm
	for m := ShedUnknown; m <= ShedQoS0; m++ {
		if share >= float64(marks[m]) {
			rise = m
		}
		if share >= float64(marks[m]-easing) {
			fall = m
		}
	}
	return max(rise, min(l, fall))
}

// MemoryLimit is the limit to judge by: the smaller one of what is configured (0: nothing) and what the Go runtime has, as
// debug.SetMemoryLimit(-1) returns it; 0 if there is neither.
func MemoryLimit(configured, runtime int64) int64 {
	if runtime <= 0 || runtime == math.MaxInt64 {
		return max(configured, 0)
	}
	if configured <= 0 {
		return runtime
	}
	return min(configured, runtime)
}
