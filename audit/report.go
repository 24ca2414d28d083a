package audit

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Report is a judgement.
type Report struct {
	At           time.Time `json:"at"`
	Devices      int       `json:"devices"`
	Certificates int       `json:"certificates"` // of devices and operators: active, and not ended
	Checks       []Result  `json:"checks"`
	Findings     []Finding `json:"findings"` // the worst first
	Forecast     Forecast  `json:"forecast"`
	Posture      Posture   `json:"posture"`
}

// Result is what came of one check.
type Result struct {
	Check    Check  `json:"check"`
	Findings int    `json:"findings"`
	Skipped  string `json:"skipped,omitempty"` // why it could not be made
}

var severities = [...]Severity{Critical, High, Medium, Low}

func (j *judge) finish() {
	r := j.report
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(
			slices.Index(severities[:], a.Severity)-slices.Index(severities[:], b.Severity),
			slices.Index(checks[:], a.Check)-slices.Index(checks[:], b.Check),
			strings.Compare(a.Device, b.Device), strings.Compare(a.ClientID, b.ClientID), strings.Compare(a.Serial, b.Serial),
		)
	})
	found := make(map[Check]int)
	for _, f := range r.Findings {
		found[f.Check]++
	}
	for _, c := range checks {
		r.Checks = append(r.Checks, Result{Check: c, Findings: found[c], Skipped: j.skipped[c]})
	}
	slices.SortFunc(r.Forecast.CAs, func(a, b End) int { return cmp.Or(a.NotAfter.Compare(b.NotAfter), strings.Compare(a.Name, b.Name)) })
	r.Posture = j.posture.posture()
}

// shown is how many findings of a check are written out; the JSON form has all.
const shown = 10

// WriteText writes the report for people.
func (r *Report) WriteText(to io.Writer) error {
	w := bufio.NewWriter(to)
	p := func(format string, a ...any) { fmt.Fprintln(w, printable(fmt.Sprintf(format, a...))) }
	p("%s: %s, %s", count(len(r.Findings), "finding"), count(r.Devices, "device"), count(r.Certificates, "certificate"))
	of := make(map[Check]int)
	for _, f := range r.Findings {
		if of[f.Check]++; of[f.Check] > shown {
			continue
		}
		p("")
		p("%-8s  %s%s", f.Severity, f.Check, f.about())
		p("          %s", f.Text)
		p("          fix: %s", f.Fix)
	}
	p("")
	for _, c := range r.Checks {
		switch {
		case c.Skipped != "":
			p("skipped   %s: %s", c.Check, c.Skipped)
		case c.Findings > shown:
			p("%-8d  %s, %d of them above; --json shows all", c.Findings, c.Check, shown)
		case c.Findings > 0:
			p("%-8d  %s", c.Findings, c.Check)
		default:
			p("ok        %s", c.Check)
		}
	}
	r.forecast(p)
	r.posture(p)
	return w.Flush()
}

func (f *Finding) about() string {
	var b strings.Builder
	for _, s := range []struct{ name, value string }{
		{"", f.Device}, {"CA ", f.CA}, {"listener ", f.Listener}, {"serial ", f.Serial},
	} {
		if s.value != "" {
			b.WriteString("  " + s.name + s.value)
		}
	}
	return b.String()
}

func (r *Report) forecast(p func(string, ...any)) {
	f := &r.Forecast
	p("")
	p("last certificates that end: %d within 7 days, %d within 30, %d within 90; %d have ended", f.In7, f.In30, f.In90, f.Ended)
	for _, w := range f.Weeks {
		if w.Ends > 0 {
			p("  week of %s  %6d", w.Begins.UTC().Format(time.DateOnly), w.Ends)
		}
	}
	for _, ca := range f.CAs {
		p("  CA %s ends on %s", ca.Name, ca.NotAfter.UTC().Format(time.DateOnly))
	}
}

func (r *Report) posture(p func(string, ...any)) {
	c := &r.Posture
	if c.Devices == 0 && len(c.Keys) == 0 {
		return
	}
	p("")
	p("cryptography of %s that connected: %.1f %% with post-quantum key agreement", count(c.Devices, "device"),
		percent(c.PostQuantum, c.Devices))
	for _, s := range []struct {
		name   string
		shares []Share
	}{{"TLS", c.TLSVersions}, {"key agreement", c.Groups}, {"cipher suite", c.Suites}, {"key", c.Keys}} {
		for i, share := range s.shares {
			name := s.name
			if i > 0 {
				name = ""
			}
			p("  %-14s %5.1f %%  %6d  %s", name, share.Percent, share.Count, share.Name)
		}
	}
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// printable keeps names that others chose from changing the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
