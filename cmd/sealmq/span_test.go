package main

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30d": 30 * day, "8w": 56 * day, "24h": day, "5m": 5 * time.Minute, "90s": 90 * time.Second, "1h30m": 90 * time.Minute,
		"": 0, "d": 0, "0d": 0, "-1d": 0, "0s": 0, "x": 0, "1y": 0, "9999999999999999999d": 0, "106752d": 0, "1.5d": 0,
	} {
		var s span
		err := s.Set(text)
		if time.Duration(s) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %v, %v", text, time.Duration(s), err)
		}
	}
	for want, d := range map[string]time.Duration{"": 0, "30d": 30 * day, "5h": 5 * time.Hour, "1m30s": 90 * time.Second} {
		if s := span(d); s.String() != want {
			t.Errorf("%v is %q, want %q", d, s.String(), want)
		}
	}
	if n := span(1500 * time.Millisecond).seconds(); n != 2 {
		t.Errorf("%d seconds", n)
	}
}
