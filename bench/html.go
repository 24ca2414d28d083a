package bench

import (
	_ "embed" // the parts of the page
	"encoding/json"
	"fmt"
	"html"
	"io"
	"strings"
	"text/template"
)

var (
	//go:embed report.html
	reportPage string
	//go:embed uplot/uPlot.iife.min.js
	plotJS string
	//go:embed uplot/uPlot.min.css
	plotCSS string
)

type tile struct{ Name, Value string }

// WriteHTML writes the result as one file that needs nothing else: numbers, plots, and the data itself.
func (r *Result) WriteHTML(w io.Writer) error {
	// encoding/json escapes <, > and &, so the data cannot end the script it stands in.
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	page, err := template.New("report").Parse(reportPage)
	if err != nil {
		return err
	}
	head, sub, _ := strings.Cut(r.Title(), ": ")
	if r.Target != "" {
		sub += ", " + r.Target
	}
	sub += ", " + r.Started.Format("2006-01-02 15:04:05")
	v := struct {
		Title, Head, Sub, PlotJS, PlotCSS, Data string
		Tiles                                   []tile
		Notes                                   []string
	}{
		Title: html.EscapeString("sealmq bench " + r.Title()), Head: html.EscapeString(head), Sub: html.EscapeString(sub),
		PlotJS: plotJS, PlotCSS: plotCSS, Data: string(data), Tiles: r.tiles(),
	}
	for _, n := range r.Warnings {
		v.Notes = append(v.Notes, html.EscapeString(n))
	}
	return page.Execute(w, v)
}

// tiles are the numbers to be seen first.
func (r *Result) tiles() (t []tile) {
	add := func(name, format string, a ...any) { t = append(t, tile{name, fmt.Sprintf(format, a...)}) }
	if m := r.Messages; m != nil {
		if r.Collected != nil {
			add("acknowledged a second", "%s", number(m.AckedRate))
		} else {
			add("received a second", "%s", number(m.ReceivedRate))
		}
		add("lost", "%s", number(float64(m.Lost)))
	} else if c := r.Connections; c != nil {
		add("connections", "%s", number(float64(c.Opened)))
		add("connections a second", "%s", number(c.Rate))
		add("failed", "%d", c.Failed)
		if c.Latency != nil {
			add("p50 to CONNACK", "%s ms", digits(c.Latency.P50))
			add("p99 to CONNACK", "%s ms", digits(c.Latency.P99))
		}
		if c.CPU > 0 {
			add("broker CPU each", "%.3g ms", c.CPU)
		}
	}
	if s := r.Storm; s != nil {
		add("p99 in the storm", "× %.2f", s.Ratio)
	}
	if b := r.Backlog; b != nil {
		add("waiting messages received a second", "%s", number(b.Rate))
		add("broker memory at most", "%s", size(float64(b.RSSPeak)))
		if b.Pairs != nil {
			add("p99 of the others meanwhile", "× %.2f", b.Pairs.Ratio)
		}
	}
	if t := r.Restart; t != nil {
		add("until it accepts", "%.3g s", t.AcceptSeconds)
		add("until all are served", "%.3g s", t.ServedSeconds)
		add("lost", "%s", number(float64(t.Lost)))
	}
	if l := r.AckLatency; l != nil {
		add("p50 to the acknowledgement", "%s ms", digits(l.P50))
		add("p99 to the acknowledgement", "%s ms", digits(l.P99))
	}
	if l := r.Latency; l != nil {
		add("p50 latency", "%s ms", digits(l.P50))
		add("p99 latency", "%s ms", digits(l.P99))
		add("p99.9 latency", "%s ms", digits(l.P999))
	}
	if b := r.Broker; b != nil {
		if b.PerMessage > 0 {
			add("broker CPU a message", "%.3g µs", b.PerMessage)
		}
		if b.BytesConnection > 0 {
			add("broker bytes a connection", "%s", number(b.BytesConnection))
		}
		add("broker memory", "%s", size(float64(b.RSS)))
	}
	return t
}
