package main

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq/client"
)

// outputFormat is a compiled -F format string: the language of mosquitto_sub.
type outputFormat []formatPart

// formatPart is literal text, or one parameter of the message or the clock.
type formatPart struct {
	literal string
	verb    byte // after '%'; 0 for literal text or time
	clock   byte // after '@'
	left    bool // flag '-'
	zero    bool // flag '0'
	width   int  // at least so many bytes; 0: as they come
	limit   int  // at most so many; -1: no limit
}

// maxFormatWidth bounds widths, so that a typing error does not print for ever.
const maxFormatWidth = 10000

const (
	formatVerbs = "ACDEFIJPRSUXjlmpqrtx%"
	clockVerbs  = "aAbBcCdDeFgGhHIjklmMnNpPrRsSTtuUVwWxXyYzZ%@"
)

var formatEscapes = map[byte]string{
	'\\': "\\", '0': "\x00", 'a': "\a", 'e': "\x1b", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
}

// parseFormat compiles s.
func parseFormat(s string) (outputFormat, error) {
	var f outputFormat
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			f = append(f, formatPart{literal: text.String()})
			text.Reset()
		}
	}
	for i := 0; i < len(s); i++ {
		switch s[i] {
		default:
			text.WriteByte(s[i])
		case '\\':
			i++
			if i == len(s) {
				return nil, fmt.Errorf("format %q: ends within an escape", s)
			}
			e, ok := formatEscapes[s[i]]
			if !ok {
				return nil, fmt.Errorf("format %q: there is no \\%c", s, s[i])
			}
			text.WriteString(e)
		case '@':
			i++
			if i == len(s) {
				return nil, fmt.Errorf("format %q: ends within a time", s)
			}
			if strings.IndexByte(clockVerbs, s[i]) < 0 {
				return nil, fmt.Errorf("format %q: there is no time @%c", s, s[i])
			}
			flush()
			f = append(f, formatPart{clock: s[i]})
		case '%':
			p, n, err := parseVerb(s[i+1:])
			if err != nil {
				return nil, fmt.Errorf("format %q: %w", s, err)
			}
			i += n
			if p.verb == '%' {
				text.WriteByte('%')
				continue
			}
			flush()
			f = append(f, p)
		}
	}
	flush()
	return f, nil
}

// parseVerb reads flags, width, limit and verb; n is how much of s they take.
func parseVerb(s string) (p formatPart, n int, err error) {
	p.limit = -1
	for ; n < len(s) && (s[n] == '-' || s[n] == '0'); n++ {
		if s[n] == '-' {
			p.left = true
		} else {
			p.zero = true
		}
	}
	number := func() (int, error) {
		from := n
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		if from == n {
			return 0, nil
		}
		v, err := strconv.Atoi(s[from:n])
		if err != nil || v > maxFormatWidth {
			return 0, fmt.Errorf("width %s is above %d", s[from:n], maxFormatWidth)
		}
		return v, nil
	}
	if p.width, err = number(); err != nil {
		return p, n, err
	}
	if n < len(s) && s[n] == '.' {
		n++
		if p.limit, err = number(); err != nil {
			return p, n, err
		}
	}
	if n == len(s) {
		return p, n, fmt.Errorf("ends within a parameter")
	}
	if strings.IndexByte(formatVerbs, s[n]) < 0 {
		return p, n, fmt.Errorf("there is no parameter %%%c", s[n])
	}
	p.verb = s[n]
	return p, n + 1, nil
}

// append writes m as received at time at. The error is a payload that %J cannot show.
func (f outputFormat) append(dst []byte, m *client.Message, at time.Time, pretty bool) ([]byte, error) {
	for i := range f {
		p := &f[i]
		switch {
		case p.clock != 0:
			dst = appendClock(dst, p.clock, at)
		case p.verb == 'j' || p.verb == 'J':
			var err error
			if dst, err = appendJSON(dst, m, at, p.verb == 'J', pretty); err != nil {
				return dst, err
			}
		case p.verb != 0:
			value, zeros := parameter(p.verb, m, at)
			dst = p.pad(dst, value, zeros)
		default:
			dst = append(dst, p.literal...)
		}
	}
	return dst, nil
}

// pad brings value to the part's width; zeros tells that the flag 0 counts.
func (p *formatPart) pad(dst []byte, value string, zeros bool) []byte {
	if p.limit >= 0 && len(value) > p.limit {
		value = value[:p.limit]
	}
	fill := p.width - len(value)
	if p.left {
		dst = append(dst, value...)
	}
	for ; fill > 0; fill-- {
		if p.zero && zeros && !p.left {
			dst = append(dst, '0')
		} else {
			dst = append(dst, ' ')
		}
	}
	if !p.left {
		dst = append(dst, value...)
	}
	return dst
}

// parameter is the text of one verb and whether it may be padded with zeros.
func parameter(verb byte, m *client.Message, at time.Time) (s string, zeros bool) {
	switch verb {
	case 'A':
		if m.TopicAlias != 0 {
			s = strconv.Itoa(int(m.TopicAlias))
		}
		return s, true
	case 'C':
		return m.ContentType, false
	case 'D':
		return string(m.CorrelationData), false
	case 'E':
		if m.MessageExpiry != nil {
			s = strconv.FormatUint(uint64(*m.MessageExpiry), 10)
		}
		return s, true
	case 'F':
		if m.PayloadFormat != nil {
			s = strconv.Itoa(int(*m.PayloadFormat))
		}
		return s, true
	case 'I':
		return at.Format("2006-01-02T15:04:05-0700"), false
	case 'l':
		return strconv.Itoa(len(m.Payload)), true
	case 'm':
		return strconv.Itoa(int(m.PacketID)), true
	case 'P':
		var b strings.Builder
		for i, u := range m.User {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(u.Key + ":" + u.Value)
		}
		return b.String(), false
	case 'p':
		return string(m.Payload), true
	case 'q':
		return strconv.Itoa(int(m.QoS)), false
	case 'R':
		return m.ResponseTopic, false
	case 'r':
		if m.Retain {
			return "1", false
		}
		return "0", false
	case 'S':
		ids := make([]string, len(m.SubscriptionIDs))
		for i, id := range m.SubscriptionIDs {
			ids[i] = strconv.FormatUint(uint64(id), 10)
		}
		return strings.Join(ids, " "), true
	case 't':
		return m.Topic, false
	case 'U':
		return fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond()), false
	case 'X':
		return strings.ToUpper(hex.EncodeToString(m.Payload)), true
	case 'x':
		return hex.EncodeToString(m.Payload), true
	}
	return "", false
}
