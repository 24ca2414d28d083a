package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Conversation is one scripted exchange of some clients with a server.
type Conversation struct {
	Name     string   // its title, as an identifier
	File     string   // path of the file
	Line     int      // where it begins
	Clauses  []Clause // what it proves
	Versions []string // it is run once for each, with ${v} replaced; empty: once
	lines    []scriptLine
}

// Clause is a numbered statement of one of the standards.
type Clause struct {
	Standard string // "MQTT311", "MQTT5" or "BAD"
	ID       string // "MQTT-3.1.2-4", or the number of a bad input
}

type scriptLine struct {
	n    int
	text string
}

// ParseClauses reads "MQTT5 [MQTT-3.1.2-4] [MQTT-3.1.2-5] MQTT311 [MQTT-3.1.2-6] BAD [7]".
func ParseClauses(s string) ([]Clause, error) {
	var out []Clause
	std := ""
	for w := range strings.FieldsSeq(s) {
		switch {
		case w == "MQTT5" || w == "MQTT311" || w == "BAD":
			std = w
		case strings.HasPrefix(w, "[") && strings.HasSuffix(w, "]") && std != "":
			out = append(out, Clause{std, w[1 : len(w)-1]})
		default:
			return nil, fmt.Errorf("clauses: %q is neither a standard nor a [clause]", w)
		}
	}
	return out, nil
}

var notIdent = regexp.MustCompile(`[^a-zA-Z0-9]+`)

// ReadScripts reads the conversations of every .txt file of a folder, in order.
func ReadScripts(dir string) ([]*Conversation, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var all []*Conversation
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		cs, err := ParseScript(f, string(b))
		if err != nil {
			return nil, err
		}
		all = append(all, cs...)
	}
	return all, nil
}

// ParseScript splits a file into its conversations. A line "== title" begins one; "# clauses:" and "# versions:" lines
// belong to the conversation that they stand in.
func ParseScript(file, text string) ([]*Conversation, error) {
	var all []*Conversation
	var cur *Conversation
	begin := func(title string, n int) {
		cur = &Conversation{Name: strings.Trim(notIdent.ReplaceAllString(title, "-"), "-"), File: file, Line: n}
		all = append(all, cur)
	}
	for i, l := range strings.Split(text, "\n") {
		n := i + 1
		l = strings.TrimSpace(l)
		if title, ok := strings.CutPrefix(l, "== "); ok {
			begin(title, n)
			continue
		}
		if c, ok := strings.CutPrefix(l, "# clauses:"); ok {
			if cur == nil {
				begin(strings.TrimSuffix(filepath.Base(file), ".txt"), n)
			}
			cl, err := ParseClauses(c)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, n, err)
			}
			cur.Clauses = append(cur.Clauses, cl...)
			continue
		}
		if v, ok := strings.CutPrefix(l, "# versions:"); ok && cur != nil {
			cur.Versions = strings.Fields(v)
			continue
		}
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		if cur == nil {
			begin(strings.TrimSuffix(filepath.Base(file), ".txt"), n)
		}
		cur.lines = append(cur.lines, scriptLine{n, l})
	}
	return all, nil
}

// onlyFor is the mark of a line for some versions only: "v34: a< EOF".
var onlyFor = regexp.MustCompile(`^v([345]+): +(.*)$`)

// unroll replaces ${v}, leaves out the lines of other versions, and expands "for N" … "end" blocks, in which ${i} counts from 1.
func (c *Conversation) unroll(version string) ([]scriptLine, error) {
	var out []scriptLine
	add := func(l scriptLine) {
		if m := onlyFor.FindStringSubmatch(l.text); m != nil {
			if !strings.Contains(m[1], version) {
				return
			}
			l.text = m[2]
		}
		l.text = strings.ReplaceAll(l.text, "${v}", version)
		out = append(out, l)
	}
	for i := 0; i < len(c.lines); i++ {
		l := c.lines[i]
		rest, ok := strings.CutPrefix(l.text, "for ")
		if !ok {
			add(l)
			continue
		}
		var times int
		if _, err := fmt.Sscan(rest, &times); err != nil {
			return nil, fmt.Errorf("line %d: for: %w", l.n, err)
		}
		end := i + 1
		for end < len(c.lines) && c.lines[end].text != "end" {
			end++
		}
		if end == len(c.lines) {
			return nil, fmt.Errorf("line %d: for without end", l.n)
		}
		for k := 1; k <= times; k++ {
			for _, b := range c.lines[i+1 : end] {
				b.text = strings.ReplaceAll(b.text, "${i}", fmt.Sprint(k))
				add(b)
			}
		}
		i = end
	}
	return out, nil
}
