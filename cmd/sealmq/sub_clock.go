package main

import (
	"fmt"
	"strconv"
	"time"
)

// clockLayouts are the conversions of strftime(3), in the C locale, that
// package time has a layout for.
var clockLayouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'h': "Jan",
	'c': "Mon Jan _2 15:04:05 2006", 'd': "02", 'D': "01/02/06", 'e': "_2",
	'F': "2006-01-02", 'H': "15", 'I': "03", 'm': "01", 'M': "04", 'p': "PM",
	'P': "pm", 'r': "03:04:05 PM", 'R': "15:04", 'S': "05", 'T': "15:04:05",
	'x': "01/02/06", 'X': "15:04:05", 'y': "06", 'Y': "2006", 'z': "-0700", 'Z': "MST",
}

// appendClock writes one conversion of strftime(3), or @N: nanoseconds.
func appendClock(dst []byte, verb byte, at time.Time) []byte {
	if layout, ok := clockLayouts[verb]; ok {
		return at.AppendFormat(dst, layout)
	}
	isoYear, isoWeek := at.ISOWeek()
	sunday := int(at.Weekday())
	monday := (sunday + 6) % 7
	switch verb {
	case 'C':
		return fmt.Appendf(dst, "%02d", at.Year()/100)
	case 'g':
		return fmt.Appendf(dst, "%02d", isoYear%100)
	case 'G':
		return strconv.AppendInt(dst, int64(isoYear), 10)
	case 'j':
		return fmt.Appendf(dst, "%03d", at.YearDay())
	case 'k':
		return fmt.Appendf(dst, "%2d", at.Hour())
	case 'l':
		return fmt.Appendf(dst, "%2d", (at.Hour()+11)%12+1)
	case 'n':
		return append(dst, '\n')
	case 'N':
		return fmt.Appendf(dst, "%09d", at.Nanosecond())
	case 's':
		return strconv.AppendInt(dst, at.Unix(), 10)
	case 't':
		return append(dst, '\t')
	case 'u':
		return strconv.AppendInt(dst, int64(monday+1), 10)
	case 'U':
		return fmt.Appendf(dst, "%02d", (at.YearDay()+6-sunday)/7)
	case 'V':
		return fmt.Appendf(dst, "%02d", isoWeek)
	case 'w':
		return strconv.AppendInt(dst, int64(sunday), 10)
	case 'W':
		return fmt.Appendf(dst, "%02d", (at.YearDay()+6-monday)/7)
	}
	return append(dst, verb) // @% and @@
}
