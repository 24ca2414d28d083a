package tlsmatrix

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/transport"
)

var update = flag.Bool("update", false, "write docs/tls-matrix.md")

const page = "../../docs/tls-matrix.md"

// TestMatrix meets every fault with every stack.
func TestMatrix(t *testing.T) {
	k, all := newKit(t), stacks()
	cells := make([][]string, len(k.rows))
	whole := built().clock != ""
	for _, s := range all {
		if why := s.missing(); why != "" {
			t.Logf("skipped %s: %s", s.name, why)
			whole = false
		}
	}
	for i, r := range k.rows {
		cells[i] = make([]string, len(all))
		for j, s := range all {
			t.Run(fmt.Sprintf("%s/%s", r.fault, s.name), func(t *testing.T) {
				if why := s.missing(); why != "" {
					t.Skip("skipped: " + why)
				}
				cells[i][j] = cell(t, k, r, s)
			})
		}
	}
	if t.Failed() || !whole {
		return
	}
	text := matrix(k.rows, all, cells)
	if *update {
		if err := os.WriteFile(page, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	// Other versions of the stacks may send other alerts.
	got, err := os.ReadFile(page)
	if err != nil || bare(string(got)) != bare(text) {
		t.Errorf("docs/tls-matrix.md is not what was measured: go test ./tlsmatrix -run TestMatrix -update (%v)", err)
	}
}

// cell runs one client against one listener and returns what the page says.
func cell(t *testing.T, k *kit, r row, s stack) string {
	d := open(t, r.cfg, r.shown)
	a := attempt{port: d.port, name: host, ca: k.ca}
	if r.try != nil {
		r.try(&a)
	}
	if a.wrong && built().clock == "" && s.name != "Go" {
		t.Skip("skipped: " + built().why["clock.so"])
	}
	out, can := s.run(t, a)
	if !can {
		return ""
	}
	o, came := d.outcome(t)
	he, plain := o.failure()
	got := letIn
	switch {
	case !came:
		got = quits
	case he != nil:
		got = he.Cause
	case plain != nil:
		got = leaves
	}
	want, ok := r.but[s.name]
	if !ok {
		want = r.want
	}
	if got != want {
		t.Errorf("the cause is %q, want %q: %v\nthe client says: %s", got, want, o.err, out)
	}
	if o.err != nil && strings.Contains(o.err.Error(), "bad record MAC") {
		t.Errorf("misleading: %v", o.err)
	}
	if he == nil {
		switch got {
		case quits:
			return "quits"
		case leaves:
			return "leaves"
		}
		return "ok"
	}
	if f := he.Record(time.Now()); f.Code == "" || f.Fix == "" || f.What == "" || f.Peer == "" {
		t.Errorf("not explained: %+v", f)
	}
	if a.ident != nil && he.Certificate == nil && he.Via == transport.ViaCheck && got != transport.CauseNoClientCert && got != transport.CauseNothingSent {
		t.Errorf("the client's certificate is not told: %v", he)
	}
	return mark(he)
}

// mark is a code with how it is known.
func mark(he *transport.HandshakeError) string {
	code := strings.TrimPrefix(he.Code(), "E-TLS-")
	how := "seen"
	switch {
	case he.Alert >= 0:
		how = fmt.Sprint(he.Alert)
	case he.Via == transport.ViaSilence:
		how = "silence"
	}
	return fmt.Sprintf("[%s](errors/E-TLS-%s.md) %s", code, code, how)
}

func matrix(rows []row, all []stack, cells [][]string) string {
	var b strings.Builder
	b.WriteString(`# The causes that the broker names, by TLS library

Each fault was made on purpose and met with each library; ` + "`test/tlsmatrix`" + ` does so and wrote this page. A cell has the code of the
cause that the broker named, and how it knows: the number of the alert that the client sent, *seen* when the broker found
it out itself, *silence* when the client just left. *ok* means that the client is let in, *quits* that it never connects,
*leaves* that it ends the connection after a complete handshake, as a health check does. What cannot be made with a client
is left empty.

Where the alert alone says little, the broker looks at its own certificate as the client did: dates, names, purpose,
signatures. So 42 from one client may be a name, from another a clock. [031](errors/E-TLS-031.md) and [033](errors/E-TLS-033.md) remain where the
client gives no reason and the broker finds none: they name both the wrong CA and the clock.

| Fault |`)
	for _, s := range all {
		fmt.Fprintf(&b, " %s |", s.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(all)) + "\n")
	for i, r := range rows {
		fmt.Fprintf(&b, "| %s |", r.fault)
		for _, c := range cells[i] {
			fmt.Fprintf(&b, " %s |", c)
		}
		b.WriteString("\n")
	}
	b.WriteString("\nWith these versions:\n\n")
	for _, s := range all {
		if s.name != "OpenSSL, TLS 1.2" {
			fmt.Fprintf(&b, "- %s\n", s.version())
		}
	}
	b.WriteString("\nWhat needs no TLS library, plain MQTT or HTTP on the TLS port and a handshake that stops half-way, is in a test beside it.\n")
	b.WriteString(profilePage())
	return b.String()
}

var (
	alertNumber = regexp.MustCompile(`\.md\) \d+ `)
	versionLine = regexp.MustCompile(`(?m)^- .*\n`)
)

// bare leaves out what another version of a library may change.
func bare(s string) string {
	return versionLine.ReplaceAllString(alertNumber.ReplaceAllString(s, ".md) "), "")
}
