package main

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

const day = 24 * time.Hour

// span is a flag of a length of time: 90s, 5m, 24h, 30d, 8w; 0 when it is not given.
type span time.Duration

func (s *span) String() string {
	switch d := time.Duration(*s); {
	case d == 0:
		return ""
	case d%day == 0:
		return strconv.Itoa(int(d/day)) + "d"
	case d%time.Hour == 0:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	default:
		return d.String()
	}
}

// Type is shown in the help.
func (s *span) Type() string { return "duration" }

// Set reads the flag.
func (s *span) Set(text string) error {
	unit := time.Duration(0)
	if n := len(text); n > 0 {
		switch text[n-1] {
		case 'd':
			unit = day
		case 'w':
			unit = 7 * day
		}
	}
	d, err := time.Duration(0), error(nil)
	if unit > 0 {
		var n int64
		n, err = strconv.ParseInt(text[:len(text)-1], 10, 64)
		if n > math.MaxInt64/int64(unit) {
			n = -1
		}
		d = time.Duration(n) * unit
	} else {
		d, err = time.ParseDuration(text)
	}
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is no length of time: 90s, 5m, 24h, 30d and 8w are", text)
	}
	*s = span(d)
	return nil
}

// seconds rounds up: what is asked for is not cut short.
func (s span) seconds() int64 { return int64((time.Duration(s) + time.Second - 1) / time.Second) }
