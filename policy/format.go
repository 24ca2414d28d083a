package policy

import (
	"fmt"
	"strings"
)

// Format writes a file in its canonical form: a rule a line, one empty line where there were any, comments where they were.
// What it writes means the same, and formatted again is the same. A Mosquitto file is returned as it is.
func Format(f *File) []byte {
	if f.mosquitto {
		return []byte(f.text)
	}
	w := &formatter{}
	for i, d := range f.Decls {
		w.lead("", d.Lead, i == 0)
		switch {
		case d.Group != nil:
			w.line("group "+d.Group.Name+" { "+d.Group.Expr.String()+" }", d.Tail)
		case d.Bind != nil:
			patterns := make([]string, len(d.Bind.Patterns))
			for i, p := range d.Bind.Patterns {
				patterns[i] = value(p)
			}
			w.line("bind client_id = "+strings.Join(patterns, " or "), d.Tail)
		case d.Policy != nil:
			w.block(d)
		case d.Tell != nil:
			w.line("tell "+strings.Join(d.Tell, ", "), d.Tail)
		case d.Assert != nil:
			w.line(d.Assert.Text(), d.Tail)
		}
	}
	return []byte(strings.TrimLeft(w.String(), "\n"))
}

type formatter struct{ strings.Builder }

// lead writes the comment lines above something; first says that nothing is before it.
func (w *formatter) lead(indent string, lines []string, first bool) {
	for i, l := range lines {
		switch {
		case l != "":
			w.WriteString(indent + l + "\n")
		case !(first && i == 0):
			w.WriteString("\n")
		}
	}
}

func (w *formatter) line(text, tail string) {
	w.WriteString(text)
	if tail != "" {
		w.WriteString("  " + tail)
	}
	w.WriteByte('\n')
}

func (w *formatter) block(d *Decl) {
	b := d.Policy
	w.WriteString("policy " + strings.Join(b.Groups, ", "))
	if b.Title != "" {
		fmt.Fprintf(w, ` "%s"`, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(b.Title))
	}
	w.WriteString(" {\n")
	for i, r := range b.Rules {
		w.lead("  ", r.Lead, i == 0)
		w.WriteString("  ")
		w.line(r.Text(), r.Tail)
	}
	w.lead("  ", b.End, len(b.Rules) == 0)
	w.line("}", d.Tail)
}
