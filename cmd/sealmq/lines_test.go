package main

import (
	"os/exec"
	"testing"
)

func TestShellQuote(t *testing.T) {
	for _, w := range []string{"", "a", "a b", "#", "$share/g/#", "it's", `\`, "a\nb", "ü", "~", "*", "-t", "a=b", "/x/y.z:1,2@%"} {
		q := shellQuote(w, false)
		out, err := exec.Command("sh", "-c", "printf %s "+q).Output()
		if err != nil || string(out) != w {
			t.Errorf("shellQuote(%q) = %s: the shell reads %q, %v", w, q, out, err)
		}
	}
	for w, want := range map[string]string{"#": `"#"`, `C:\x\y`: `C:\x\y`, `a b`: `"a b"`} {
		if got := shellQuote(w, true); got != want {
			t.Errorf("shellQuote(%q, windows) = %s, want %s", w, got, want)
		}
	}
}

func TestBestHost(t *testing.T) {
	local := []string{"localhost", "pi", "pi.local", "127.0.0.1", "::1", "fd00::2", "192.168.1.10"}
	for _, test := range []struct {
		certified, local []string
		want             string
	}{
		{[]string{"broker.lan", "localhost"}, local, "broker.lan"},
		{[]string{"*.lan", "localhost"}, local, "192.168.1.10"},
		{local, local, "192.168.1.10"},
		{nil, local[:6], "fd00::2"},
		{nil, local[:5], "pi"},
		{nil, []string{"localhost", "127.0.0.1", "::1"}, "localhost"},
	} {
		if got := bestHost(test.certified, test.local); got != test.want {
			t.Errorf("bestHost(%q, %q) = %s, want %s", test.certified, test.local, got, test.want)
		}
	}
}
