package policy

import (
	"fmt"
	"strings"

	"github.com/sealmq/sealmq/auth"
)

// Bounds of a policy file.
const (
	MaxSize  = 1 << 20 // bytes
	MaxRules = 100_000
)

// File is a policy file as it was read: what Parse and ParseMosquitto return, and Compile and Format take.
type File struct {
	Name  string
	Decls []*Decl

	mosquitto bool
	text      string // of a Mosquitto file
	granted   *Rule  // of a Mosquitto file: allows every subscription
}

// Decl is one declaration of a file with the comments at it. One of Group, Bind, Policy, Tell and Assert is set, none at the end of a file that ends
// with comments.
type Decl struct {
	Pos    Pos
	Lead   []string // the comment lines above, as written; "" is an empty line
	Tail   string   // the comment behind
	Group  *Group
	Bind   *Bind
	Policy *Block
	Tell   []string // groups whose members may know why something is denied
	Assert *Assert
}

// Group names the identities for which an expression is true.
type Group struct {
	Name string
	Expr *Expr
}

// Expr is an expression over the attributes of an identity: all of All, one of Any, or a comparison.
type Expr struct {
	Pos      Pos
	All, Any []*Expr
	Attr, Op string
	Values   []string
	test     func(*Identity) bool // of a comparison
}

// Bind ties client identifiers to names: who has a value for a pattern's placeholder may use no other identifiers than those
// that one of the patterns matches. A pattern may end with * for whatever follows, a character at least.
type Bind struct{ Patterns []string }

// Block is the rules of some groups.
type Block struct {
	Groups []string
	Title  string
	Rules  []*Rule
	End    []string // comment lines before the closing brace
}

// Rule is one line of a policy. It must not be changed.
type Rule struct {
	File    string
	Pos     Pos
	Lead    []string
	Tail    string
	Allow   bool
	Actions []auth.Action
	Filter  string
	Conds   []Cond

	levels []level
	hears  bool // receive is among the actions: its conditions are about messages
	when   conditions
	weak   bool   // of a Mosquitto pattern: it is asked when no topic line has decided
	wrote  string // the line of a Mosquitto file
	groups []string
}

// Cond is a condition of a rule as it was written.
type Cond struct {
	Key, Op string
	Values  []string
}

// Assert is a request and what must become of it.
type Assert struct {
	Pos      Pos
	Allow    bool
	Identity []Cond // ATTR = VALUE
	Request  Request

	id   Identity
	with []Cond
}

// everybody is the group of all identities, anonymous ones too.
const everybody = "everybody"

var actionNames = [...]string{auth.Publish: "publish", auth.Subscribe: "subscribe", auth.Receive: "receive"}

// Text is the rule as the formatter writes it, or as it stands in a Mosquitto file.
func (r *Rule) Text() string {
	if r.wrote != "" {
		return r.wrote
	}
	var b strings.Builder
	b.WriteString(verdict(r.Allow))
	for i, a := range r.Actions {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(" " + a.String())
	}
	b.WriteString(" " + word(r.Filter, true))
	for _, c := range r.Conds {
		b.WriteString(" " + c.Key + c.Op + list(c.Values))
	}
	return b.String()
}

// String is the rule with its place, FILE:LINE: TEXT.
func (r *Rule) String() string { return fmt.Sprintf("%s:%d: %s", r.File, r.Pos.Line, r.Text()) }

func verdict(allow bool) string {
	if allow {
		return "allow"
	}
	return "deny"
}
