package policy

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq/auth"
)

// conditions are those of one rule, ready to be asked. All must hold.
type conditions struct {
	qos      uint8 // a bit for each level that is meant; 0: any
	retain   int8  // 1 yes, -1 no, 0 any
	min, max int   // of the payload, in bytes; sized: there is such a condition
	sized    bool

	every time.Duration // between messages, for a rate; 0: no rate
	burst int

	who []*Expr // of the identity: listener, transport, tls, address

	windows []window // of the day; none: all day
	days    uint8    // a bit for each weekday, Sunday is 1; 0: every day
	zone    *time.Location
}

// window is a part of the day in minutes from midnight. One that ends before it begins goes on to the next day.
type window struct{ from, to int }

// request reports whether the conditions on the request hold, apart from size, rate and time.
func (c *conditions) request(qos uint8, retain bool) bool {
	return (c.qos == 0 || qos < 3 && c.qos&(1<<qos) != 0) && (c.retain == 0 || (c.retain > 0) == retain)
}

// identity reports whether the conditions on the identity hold.
func (c *conditions) identity(id *Identity) bool {
	for _, e := range c.who {
		if !e.test(id) {
			return false
		}
	}
	return true
}

// later reports whether a decision depends on more than identity, action, topic, QoS and retain.
func (c *conditions) later() bool { return c.sized || c.every > 0 || c.timed() }

func (c *conditions) timed() bool { return c.days != 0 || len(c.windows) > 0 }

// fits reports whether the size is meant. An unknown one (negative) is not, if a rule allows, and is, if it denies.
func (c *conditions) fits(size int, allow bool) bool {
	if !c.sized {
		return true
	}
	if size < 0 {
		return !allow
	}
	return c.min <= size && size <= c.max
}

// open reports whether t lies in the times of the rule. The hours after midnight of a window that goes over it belong to
// the day on which it began.
func (c *conditions) open(t time.Time) bool {
	if !c.timed() {
		return true
	}
	t = t.In(c.zone)
	today := int(t.Weekday())
	if len(c.windows) == 0 {
		return c.on(today)
	}
	m := t.Hour()*60 + t.Minute()
	for _, w := range c.windows {
		switch {
		case w.from < w.to:
			if w.from <= m && m < w.to && c.on(today) {
				return true
			}
		case m >= w.from && c.on(today), m < w.to && c.on((today+6)%7):
			return true
		}
	}
	return false
}

func (c *conditions) on(day int) bool { return c.days == 0 || c.days&(1<<day) != 0 }

// conditionKeys says which conditions there are.
var conditionKeys = [...]string{"qos", "retain", "size", "rate", "listener", "transport", "tls", "address", "time", "days", "zone"}

// compileConditions reads the conditions of a rule, or tells which is wrong, and what to write.
func compileConditions(r *Rule) (c conditions, bad int, text, advice string) {
	c.zone, c.max = time.UTC, math.MaxInt
	seen := map[string]bool{}
	for i := range r.Conds {
		if text, advice = c.add(&r.Conds[i], r, seen); text != "" {
			return c, i, text, advice
		}
	}
	if seen["zone"] && !c.timed() {
		return c, len(r.Conds) - 1, "zone without time or days", "write time=08:00-18:00 zone=Europe/Berlin"
	}
	return c, 0, "", ""
}

func (c *conditions) add(cond *Cond, r *Rule, seen map[string]bool) (text, advice string) {
	key, op, one := cond.Key, cond.Op, cond.Values[0]
	if seen[key+op] && key != "size" && key != "listener" && key != "address" {
		return fmt.Sprintf("%s is given twice", key), "join them, or write two rules"
	}
	seen[key+op], seen[key] = true, true
	only := func(ops ...string) bool { return slices.Contains(ops, op) && len(cond.Values) == 1 }
	switch key {
	case "qos":
		if slices.Contains(r.Actions, auth.Receive) && len(r.Actions) > 1 {
			return "qos means the subscription's in subscribe and the message's in receive", "write two rules"
		}
		if len(one) != 1 || one[0] < '0' || one[0] > '2' || !only("=", "!=", "<", "<=", ">", ">=") {
			return "no QoS " + quote(op+one), "write qos=0, qos<=1 or qos>=1"
		}
		set := compared(int(one[0]-'0'), 2, op)
		if c.qos != 0 {
			set &= c.qos
		}
		if c.qos = set; set == 0 {
			return "there is no such QoS", "QoS is 0, 1 or 2"
		}
	case "retain":
		if slices.Contains(r.Actions, auth.Subscribe) {
			return "retain says nothing about a subscription", "use it with publish or receive"
		}
		switch {
		case !only("="):
		case one == "yes":
			c.retain = 1
		case one == "no":
			c.retain = -1
		}
		if c.retain == 0 {
			return "no value of retain: " + quote(one), "write retain=yes or retain=no"
		}
	case "size":
		return c.size(cond, r, only)
	case "rate":
		return c.rate(cond, r, only)
	case "time", "days", "zone":
		return c.times(cond, only)
	case "listener", "transport", "tls", "address":
		e := &Expr{Attr: key, Op: op, Values: cond.Values}
		if text, advice = e.compile(); text == "" {
			c.who = append(c.who, e)
		}
		return text, advice
	default:
		return "no condition " + quote(key), meant(key, "there are "+strings.Join(conditionKeys[:], ", "), conditionKeys[:]...)
	}
	return "", ""
}

// compared is the set of 0 to limit for which the comparison with n holds.
func compared(n, limit int, op string) (set uint8) {
	for i := 0; i <= limit; i++ {
		if compare(i, n, op) {
			set |= 1 << i
		}
	}
	return set
}

func compare(a, b int, op string) bool {
	switch op {
	case "=":
		return a == b
	case "!=":
		return a != b
	case "<":
		return a < b
	case "<=":
		return a <= b
	case ">":
		return a > b
	case ">=":
		return a >= b
	}
	return false
}

func (c *conditions) size(cond *Cond, r *Rule, only func(...string) bool) (text, advice string) {
	if len(r.Actions) != 1 || r.Actions[0] != auth.Publish {
		return "size is known of what is published alone", "use it with publish"
	}
	n, ok := parseSize(cond.Values[0])
	if !ok || !only("<", "<=", ">", ">=") {
		return "no size " + quote(cond.Op+cond.Values[0]), "write size<=16KiB or size>1000"
	}
	c.sized = true
	switch cond.Op {
	case "<":
		c.max = min(c.max, n-1)
	case "<=":
		c.max = min(c.max, n)
	case ">":
		c.min = max(c.min, n+1)
	case ">=":
		c.min = max(c.min, n)
	}
	if c.min > c.max {
		return "there is no such size", "the lower bound is above the upper one"
	}
	return "", ""
}

// parseSize reads 16KiB, 4kB, 1MiB or a plain number.
func parseSize(s string) (int, bool) {
	digits := strings.TrimRight(s, "kKMiB")
	unit, ok := map[string]int{"": 1, "B": 1, "kB": 1000, "KiB": 1 << 10, "MB": 1e6, "MiB": 1 << 20}[s[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || !ok || n > math.MaxInt32/uint64(unit) {
		return 0, false
	}
	return int(n) * unit, true
}

func (c *conditions) rate(cond *Cond, r *Rule, only func(...string) bool) (text, advice string) {
	const write = "write rate<=20/s; units are s, m and h"
	if !r.Allow || len(r.Actions) != 1 || r.Actions[0] != auth.Publish {
		return "a rate bounds what is allowed to be published", "write allow publish … rate<=20/s"
	}
	digits, per, _ := strings.Cut(cond.Values[0], "/")
	unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[per]
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || n == 0 || n > 1e6 || unit == 0 || !only("<=") {
		return "no rate " + quote(cond.Op+cond.Values[0]), write
	}
	c.every, c.burst = unit/time.Duration(n), int(n)
	return "", ""
}

var dayNames = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (c *conditions) times(cond *Cond, only func(...string) bool) (text, advice string) {
	if cond.Op != "=" || cond.Key == "zone" && !only("=") {
		return cond.Key + " has only =", "write time=08:00-18:00 days=mon-fri zone=Europe/Berlin"
	}
	if cond.Key == "zone" {
		zone, err := time.LoadLocation(cond.Values[0])
		if err != nil || cond.Values[0] == "" {
			return "no time zone " + quote(cond.Values[0]), "write a name as Europe/Berlin, or UTC; the system's table of time zones must be installed"
		}
		c.zone = zone
		return "", ""
	}
	for _, v := range cond.Values {
		from, to, ranged := strings.Cut(v, "-")
		if cond.Key == "days" {
			if !ranged {
				to = from
			}
			a, b := slices.Index(dayNames[:], from), slices.Index(dayNames[:], to)
			if a < 0 || b < 0 {
				return "no days " + quote(v), "write days=mon-fri or days=[sat, sun]"
			}
			for d := a; ; d = (d + 1) % 7 {
				c.days |= 1 << d
				if d == b {
					break
				}
			}
			continue
		}
		a, ok1 := clock(from)
		b, ok2 := clock(to)
		if !ok1 || !ok2 || a == b || a == 24*60 {
			return "no time " + quote(v), "write time=08:00-18:00; 22:00-06:00 goes over midnight"
		}
		c.windows = append(c.windows, window{a, b})
	}
	return "", ""
}

// clock reads HH:MM; 24:00 is the end of the day.
func clock(s string) (minutes int, ok bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	h, err1 := strconv.ParseUint(s[:2], 10, 8)
	m, err2 := strconv.ParseUint(s[3:], 10, 8)
	minutes = int(h)*60 + int(m)
	return minutes, err1 == nil && err2 == nil && m < 60 && minutes <= 24*60
}

// within reports whether whatever c lets pass passes other as well, as far as that is plain to see.
func (c *conditions) within(other *conditions) bool {
	switch {
	case other.qos != 0 && (c.qos == 0 || bits.OnesCount8(c.qos&^other.qos) > 0),
		other.retain != 0 && c.retain != other.retain,
		other.sized && (!c.sized || c.min < other.min || c.max > other.max),
		other.every > 0, other.timed(), len(other.who) > 0:
		return false
	}
	return true
}
