package client

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseURL(t *testing.T) {
	for s, want := range map[string]*URL{
		"mqtts://h":               {TLS: true, Host: "h", Port: 8883},
		"MQTT://h:1/":             {Host: "h", Port: 1},
		"mqtt://h/a/b":            {Host: "h", Port: 1883, Topic: "a/b"},
		"mqtts://h/#":             {TLS: true, Host: "h", Port: 8883, Topic: "#"},
		"mqtts://h/a?b%20/+/c#":   {TLS: true, Host: "h", Port: 8883, Topic: "a?b%20/+/c#"},
		"mqtts://h//lead":         {TLS: true, Host: "h", Port: 8883, Topic: "/lead"},
		"mqtts://u@h":             {TLS: true, Host: "h", Port: 8883, User: "u", HasUser: true},
		"mqtts://u:@h":            {TLS: true, Host: "h", Port: 8883, User: "u", HasUser: true, HasPassword: true},
		"mqtts://u%40x:p%3Aq@h:9": {TLS: true, Host: "h", Port: 9, User: "u@x", Password: "p:q", HasUser: true, HasPassword: true},
		"mqtts://u:p@ss@h":        {TLS: true, Host: "h", Port: 8883, User: "u", Password: "p@ss", HasUser: true, HasPassword: true},
		"mqtts://[::1]:5/t":       {TLS: true, Host: "::1", Port: 5, Topic: "t"},
		"wss://h":                 {TLS: true, WebSocket: true, Host: "h", Port: 443, Path: "/mqtt"},
		"ws://h:8080/":            {WebSocket: true, Host: "h", Port: 8080, Path: "/"},
		"ws://u:p@[::1]/a/b?c=/d": {WebSocket: true, Host: "::1", Port: 80, User: "u", Password: "p", HasUser: true, HasPassword: true, Path: "/a/b?c=/d"},
		"mqtts://[fe80::1%25lo]":  {TLS: true, Host: "fe80::1%25lo", Port: 8883},
	} {
		got, err := ParseURL(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", s, d)
		}
	}
	for _, s := range []string{
		"", "h", "http://h", "mqtts://", "mqtts:///t", "mqtts://h:0", "mqtts://h:65536", "mqtts://h:x", "mqtts://h:-1",
		"mqtts://::1", "mqtts://[::1", "mqtts://[::1]x", "mqtts://%zz@h", "mqtts://u:%zz@h", "mqtts://a b", "mqtts://u:secret@",
	} {
		if u, err := ParseURL(s); err == nil {
			t.Errorf("%s: accepted as %+v", s, u)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the password: %v", s, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("mqtts://u:p@h:1/t")
	f.Add("mqtt://[::1]/#")
	f.Add("wss://h/mqtt?token=x")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURL(s)
		if err != nil {
			return
		}
		if u.Host == "" || u.Port == 0 {
			t.Fatalf("%q: host %q port %d", s, u.Host, u.Port)
		}
		v, err := ParseURL(u.String())
		if err != nil {
			t.Fatalf("%q: its own form %q: %v", s, u, err)
		}
		u.Password, u.HasPassword = "", false // never shown
		if d := cmp.Diff(u, v); d != "" {
			t.Fatalf("%q: %s", s, d)
		}
	})
}
