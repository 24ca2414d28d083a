package topic

import "strings"

// Match reports whether filter matches the topic name. Both must be valid.
// A wildcard in the first level never matches a name that begins with $
// [MQTT-4.7.2-1]; a/# matches a as well [MQTT-4.7.1-2 of 3.1.1].
func Match(filter, name string) bool {
	if name != "" && name[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" && !fmore {
			return true
		}
		n, nrest, nmore := strings.Cut(name, "/")
		if f != "+" && f != n {
			return false
		}
		switch {
		case !nmore:
			return !fmore || frest == "#"
		case !fmore:
			return false
		}
		filter, name = frest, nrest
	}
}

// Contains reports whether outer matches every topic name that inner matches.
// Both must be valid and, if they were shared, without $share/GROUP/.
func Contains(outer, inner string) bool {
	if inner != "" && inner[0] == '$' && outer != "" && (outer[0] == '+' || outer[0] == '#') {
		return false
	}
	// No name is without a level, nor one empty level alone.
	switch inner {
	case "#":
		inner = "+/#"
	case "/#":
		inner = "/+/#"
	}
	for {
		o, orest, omore := strings.Cut(outer, "/")
		if o == "#" && !omore {
			return true
		}
		i, irest, imore := strings.Cut(inner, "/")
		if i == "#" && !imore || o != "+" && o != i {
			return false
		}
		switch {
		case !imore:
			return !omore || orest == "#"
		case !omore:
			return false
		}
		outer, inner = orest, irest
	}
}
