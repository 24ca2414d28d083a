package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/control"
)

// meter tells on stderr how far a long action is: in place on a terminal, a line every second elsewhere. What takes less
// than a second shows nothing.
type meter struct {
	w        io.Writer
	verb     string // "signed"
	terminal bool

	mu    sync.Mutex
	next  time.Time
	width int
}

func newMeter(cmd *cobra.Command, verb string) *meter {
	w := cmd.ErrOrStderr()
	return &meter{w: w, verb: verb, terminal: isTerminal(w), next: time.Now().Add(time.Second)}
}

// show is called as often as one likes, from any goroutine.
func (m *meter) show(p control.Progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if now.Before(m.next) {
		return
	}
	line := fmt.Sprintf("sealmq: %s %d", m.verb, p.Done)
	if p.Total > 0 {
		line += fmt.Sprintf(" of %d", p.Total)
	}
	if !m.terminal {
		m.next = now.Add(time.Second)
		fmt.Fprintln(m.w, line)
		return
	}
	m.next = now.Add(100 * time.Millisecond)
	fmt.Fprintf(m.w, "\r%s%s", line, strings.Repeat(" ", max(m.width-len(line), 0)))
	m.width = len(line)
}

// end makes room for the result.
func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.width > 0 {
		fmt.Fprintf(m.w, "\r%s\r", strings.Repeat(" ", m.width))
		m.width = 0
	}
}
