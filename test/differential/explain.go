package differential

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// explanation is a block of differences.txt: a kind of difference, and who is right.
type explanation struct {
	title   string
	match   []*regexp.Regexp
	with    *regexp.Regexp // of the steps before; nil: whatever they were
	right   string         // sealmq, mosquitto or both
	why     string
	matched int
}

// consequences stands for <rest> in patterns: only SealMQ has ended the actor's
// connection, so the will comes from it alone, and what the packet has asked for
// from Mosquitto alone.
const consequences = `( \| (peer|observer): ours \[(PUBLISH q\d (retained )?will[^\]]*)?\] mosquitto \[[^\]]*\])*$`

// explanations are tried in their order.
type explanations []*explanation

// readExplanations reads blocks of the lines title, match (one or more), with (or
// none), right and why. A line that begins with a blank goes on with the one before; # begins a
// comment.
func readExplanations(name string) (explanations, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all explanations
	var last *string
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if strings.HasPrefix(line, " ") && last != nil {
			*last += " " + strings.TrimSpace(line)
			continue
		}
		last = nil
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, _ := strings.Cut(line, ": ")
		if key == "title" {
			all = append(all, &explanation{title: value})
			continue
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("%s:%d: no title before it", name, n)
		}
		e := all[len(all)-1]
		switch key {
		case "match", "with":
			re, err := regexp.Compile(strings.ReplaceAll(value, "<rest>", consequences))
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, n, err)
			}
			if key == "with" {
				e.with = re
			} else {
				e.match = append(e.match, re)
			}
		case "right":
			e.right = value
		case "why":
			e.why = value
			last = &e.why
		default:
			return nil, fmt.Errorf("%s:%d: no such key: %s", name, n, key)
		}
	}
	for _, e := range all {
		if len(e.match) == 0 || e.why == "" || e.right != "sealmq" && e.right != "mosquitto" && e.right != "both" {
			return nil, fmt.Errorf("%s: %q wants match, why and right: sealmq, mosquitto or both", name, e.title)
		}
	}
	return all, lines.Err()
}

// find returns the explanation of a difference, nil if there is none.
func (all explanations) find(d *difference) *explanation {
	for _, e := range all {
		if e.with != nil && !e.with.MatchString(d.before) {
			continue
		}
		for _, re := range e.match {
			if re.MatchString(d.text) {
				return e
			}
		}
	}
	return nil
}
