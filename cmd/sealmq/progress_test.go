package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/sealmq/sealmq/control"
)

func TestMeter(t *testing.T) {
	var b bytes.Buffer
	m := &meter{w: &b, verb: "signed", next: time.Now().Add(time.Hour)}
	m.show(control.Progress{Done: 1, Total: 10})
	m.next = time.Time{}
	m.show(control.Progress{Done: 2, Total: 10})
	m.show(control.Progress{Done: 3, Total: 10}) // within the same second
	m.next = time.Time{}
	m.show(control.Progress{Done: 4})
	m.end()
	if got, want := b.String(), "sealmq: signed 2 of 10\nsealmq: signed 4\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}

	b.Reset()
	m = &meter{w: &b, verb: "signed", terminal: true}
	m.show(control.Progress{Done: 10, Total: 10})
	m.next = time.Time{}
	m.show(control.Progress{Done: 9})
	m.end()
	if got, want := b.String(), "\rsealmq: signed 10 of 10\rsealmq: signed 9       \r                \r"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
