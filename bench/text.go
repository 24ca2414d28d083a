package bench

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"
)

// WriteText writes the result for people to read.
func (r *Result) WriteText(w io.Writer) error {
	p := &printer{w: w}
	p.head(r)
	if m := r.Messages; m != nil {
		p.line("sent", "%s/s, %s messages in %.3g s", number(m.SentRate), number(float64(m.Sent)), r.Seconds)
		p.line("received", "%s/s, %s of %s", number(m.ReceivedRate), number(float64(m.Received)), number(float64(m.Expected)))
		if r.QoS > 0 {
			p.line("acknowledged", "%s/s", number(m.AckedRate))
		}
		p.line("lost", "%s", number(float64(m.Lost)))
		if m.Doubled > 0 {
			p.line("again", "%s messages came more than once or out of order", number(float64(m.Doubled)))
		}
		if m.Refused > 0 {
			p.line("refused", "%s", number(float64(m.Refused)))
		}
	}
	if s := r.Storm; s != nil {
		p.latency("before", s.Before, "from when a message was due")
		p.latency("during", s.During, "from when a message was due")
		p.line("storm", "99 %% latency became %.2f times what it was", s.Ratio)
	} else if r.Latency != nil {
		from := "from when a message was due"
		if r.Latency.Basis == "sent" {
			from = "from when a message was sent"
		}
		p.latency("latency", r.Latency, from)
	}
	if r.SentLate != nil {
		p.latency("sent late", r.SentLate, "this generator's share of it")
	}
	if c := r.First; c != nil {
		p.connections("first", c)
	}
	if c := r.Connections; c != nil && (!r.messages() || r.Storm != nil) {
		p.connections("connections", c)
		if r.Scenario == Resume {
			p.line("resumed", "%d with a TLS ticket, %d with their session", c.Resumed, c.Present)
		}
	}
	p.usage("broker", r.Broker, r)
	p.usage("generator", r.Generator, r)
	for _, s := range r.Warnings {
		p.line("note", "%s", s)
	}
	return p.err
}

func (r *Result) messages() bool { return r.Messages != nil }

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(label, format string, a ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "  %-13s %s\n", label, fmt.Sprintf(format, a...))
	}
}

func (p *printer) head(r *Result) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, r.Title())
	}
}

// Title says in a line what was run.
func (r *Result) Title() string {
	var s []string
	switch {
	case r.Publishers > 0:
		s = append(s, fmt.Sprintf("%d publishers, %d subscribers, QoS %d, %d bytes", r.Publishers, r.Subscribers, r.QoS, r.Payload))
		if r.Topics > r.Publishers {
			s = append(s, fmt.Sprintf("%d topics", r.Topics))
		}
		if r.Rate > 0 {
			s = append(s, number(r.Rate)+" msg/s")
		} else {
			s = append(s, fmt.Sprintf("as fast as a window of %d allows", r.Window))
		}
		if r.Burst > 1 {
			s = append(s, fmt.Sprintf("in bursts of %d", r.Burst))
		}
	case r.Connections != nil:
		s = append(s, fmt.Sprintf("%d connections", r.Connections.Opened))
	}
	s = append(s, "MQTT "+r.MQTT)
	if r.TLS != nil {
		s = append(s, strings.Join([]string{r.TLS.Version, r.TLS.Suite, r.TLS.Group}, " "))
	} else {
		s = append(s, "no TLS")
	}
	return string(r.Scenario) + ": " + strings.Join(s, ", ")
}

func (p *printer) latency(label string, l *Latency, what string) {
	if l == nil {
		p.line(label, "nothing arrived")
		return
	}
	p.line(label, "p50 %s  p90 %s  p99 %s  p99.9 %s  max %s ms   %s", digits(l.P50), digits(l.P90), digits(l.P99), digits(l.P999), digits(l.Max), what)
}

func (p *printer) connections(label string, c *Connections) {
	s := fmt.Sprintf("%s/s, %d in %.3g s", number(c.Rate), c.Opened, c.Seconds)
	if c.Failed > 0 {
		s += fmt.Sprintf(", %d failed", c.Failed)
	}
	if c.CPU > 0 {
		s += fmt.Sprintf(", %.3g ms of broker CPU each", c.CPU)
	}
	p.line(label, "%s", s)
	if c.Latency != nil {
		from := "from the first packet to CONNACK"
		if c.Latency.Basis == "due" {
			from = "from when a connection was due to CONNACK"
		}
		p.latency("", c.Latency, from)
	}
}

func (p *printer) usage(label string, u *Usage, r *Result) {
	if u == nil {
		return
	}
	var s []string
	if u.PerMessage > 0 {
		s = append(s, fmt.Sprintf("%.3g µs of CPU for each message received", u.PerMessage))
	}
	s = append(s, fmt.Sprintf("%.2f of %d cores", u.Cores, runtime.NumCPU()))
	if u.RSS > 0 {
		s = append(s, fmt.Sprintf("%s resident", size(float64(u.RSS))))
	}
	if u.BytesConnection != 0 {
		s = append(s, fmt.Sprintf("%s bytes for each connection", number(u.BytesConnection)))
	}
	p.line(label, "%s", strings.Join(s, ", "))
}

// number writes a count for people: whole, with thousands set apart.
func number(v float64) string {
	if v < 10 && v != float64(int64(v)) {
		return fmt.Sprintf("%.2g", v)
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// digits writes milliseconds with three digits that count.
func digits(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func size(v float64) string {
	if v < 1<<20 {
		return fmt.Sprintf("%.3g KiB", v/(1<<10))
	}
	return fmt.Sprintf("%.4g MiB", v/(1<<20))
}

// Line is the progress in at most about 100 characters.
func (p Progress) Line() string {
	s := fmt.Sprintf("%5.1fs", p.Elapsed.Seconds())
	if p.Total > 0 {
		s = fmt.Sprintf("%5.1fs of %.0fs", p.Elapsed.Seconds(), max(p.Total, p.Elapsed).Round(time.Second).Seconds())
	}
	s += "  " + p.Phase
	l := p.Last
	if l.Connects > 0 || l.Sent+l.Received == 0 {
		if p.Asked > 0 {
			s += fmt.Sprintf("  %d/%d connections", p.Open, p.Asked)
		} else {
			s += fmt.Sprintf("  %d connections", p.Open)
		}
		s += fmt.Sprintf(" %s/s", number(l.Connects))
	}
	if l.Sent+l.Received > 0 {
		s += fmt.Sprintf("  sent %s/s  received %s/s", number(l.Sent), number(l.Received))
	}
	if l.Max > 0 {
		s += fmt.Sprintf("  p50 %s p99 %s ms", digits(l.P50), digits(l.P99))
	}
	if l.RSS > 0 {
		s += fmt.Sprintf("  broker %.2f cores %s", l.Broker, size(float64(l.RSS)))
	}
	return s
}
