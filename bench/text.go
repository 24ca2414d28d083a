package bench

import (
	"fmt"
	"io"
	"math"
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
		if r.Collected == nil {
			p.line("received", "%s/s, %s of %s", number(m.ReceivedRate), number(float64(m.Received)), number(float64(m.Expected)))
		}
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
	p.waited(r)
	if s := r.disturbed(); s != nil {
		p.latency("before", s.Before, "from when a message was due")
		p.latency("during", s.During, "from when a message was due")
		p.line(string(r.Scenario), "99 %% latency became %.2f times what it was", s.Ratio)
	} else if r.Latency != nil {
		p.latency("latency", r.Latency, "from when a message was "+r.Latency.Basis)
	}
	if r.AckLatency != nil {
		p.latency("ack latency", r.AckLatency, "from when a message was "+r.AckLatency.Basis+" to its acknowledgement")
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

// disturbed is what befell the pairs, nil when nothing did.
func (r *Result) disturbed() *Disturbed {
	if r.Backlog != nil {
		return r.Backlog.Pairs
	}
	return r.Storm
}

// waited is about messages that waited for their receivers.
func (p *printer) waited(r *Result) {
	if c := r.Collected; c != nil {
		p.line("collected", "%s/s, %s of %s that waited, in %.3g s; %s sessions were there",
			number(c.Rate), number(float64(c.Received)), number(float64(c.Messages)), c.Seconds, number(float64(c.Present)))
	}
	if b := r.Backlog; b != nil {
		p.line("waiting", "%s messages, filled at %s/s", number(float64(b.Messages)), number(b.FillRate))
		p.line("came back", "%s/s, all in %.3g s, the first after %s ms; %s lost, %s again",
			number(b.Rate), b.Seconds, digits(b.First), number(float64(b.Lost)), number(float64(b.Again)))
		if b.RSSPeak > 0 {
			p.line("memory", "%s before, %s at most", size(float64(b.RSSBefore)), size(float64(b.RSSPeak)))
		}
	}
	if t := r.Restart; t != nil {
		p.line("made", "%s sessions in %.3g s, %s messages in %.3g s", number(float64(t.Sessions)), t.SubscribeSeconds, number(float64(t.Messages)), t.FillSeconds)
		p.line("accepts", "after %.3g s", t.AcceptSeconds)
		p.line("served", "all after %.3g s: %s sessions were there, %s messages; %s lost, %s again",
			t.ServedSeconds, number(float64(t.Present)), number(float64(t.Received)), number(float64(t.Lost)), number(float64(t.Again)))
		if t.RSSPeak > 0 {
			p.line("memory", "%s when it accepted, %s at most", size(float64(t.RSSAccept)), size(float64(t.RSSPeak)))
		}
	}
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
	case r.Restart != nil:
		s = append(s, fmt.Sprintf("%s sessions, %s messages waiting, QoS %d, %d bytes",
			number(float64(r.Restart.Sessions)), number(float64(r.Restart.Messages)), r.QoS, r.Payload))
	}
	switch {
	case r.Scenario == Restart || r.Scenario == Offline && !r.PersistentPublishers:
	case r.Persistent && r.PersistentPublishers:
		s = append(s, "all sessions persistent")
	case r.Persistent:
		s = append(s, "persistent sessions")
	case r.PersistentPublishers:
		s = append(s, "publishers' sessions persistent")
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
		what := "received"
		if r.Scenario == Offline {
			what = "acknowledged"
		}
		s = append(s, fmt.Sprintf("%.3g µs of CPU for each message %s", u.PerMessage, what))
	}
	s = append(s, fmt.Sprintf("%.2f of %d cores", u.Cores, runtime.NumCPU()))
	if u.RSS > 0 {
		s = append(s, fmt.Sprintf("%s resident", size(float64(u.RSS))))
	}
	if u.BytesConnection != 0 {
		s = append(s, fmt.Sprintf("%s bytes for each connection", number(u.BytesConnection)))
	}
	p.line(label, "%s", strings.Join(s, ", "))
	if d := u.Disk; d != nil && d.Written > 0 {
		text := size(float64(d.Written)) + " written"
		if d.PerMessage > 0 {
			text += fmt.Sprintf(", %s bytes for each message", number(math.Round(d.PerMessage)))
		}
		if d.Flushes > 0 {
			text += fmt.Sprintf(", %s flushes", number(float64(d.Flushes)))
		}
		p.line("disk", "%s", text)
	}
}

// number writes a count for people: whole, with thousands set apart.
func number(v float64) string {
	if math.Abs(v) < 10 && v != float64(int64(v)) {
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
