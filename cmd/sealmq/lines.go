package main

import (
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
)

// endpoint is a broker and the files that prove who talks to it: what the
// lines that people paste are made of.
type endpoint struct {
	host          string
	port          int
	ca, cert, key string
	url           string // wss:// or ws://, where bare MQTT is not spoken
}

// endpointOf is where a listener of this broker is reached from its own machine.
func endpointOf(l sealmq.Listener, addr *net.TCPAddr) endpoint {
	e := endpoint{host: reachable(addr), port: addr.Port}
	if !l.WebSocket {
		return e
	}
	u := url.URL{Scheme: "wss", Host: net.JoinHostPort(e.host, strconv.Itoa(e.port)), Path: client.DefaultPath}
	if l.Plain {
		u.Scheme = "ws"
	}
	if p := l.WebSocketPaths; len(p) > 0 && !slices.Contains(p, "*") && !slices.Contains(p, u.Path) {
		u.Path = p[0]
	}
	e.url = u.String()
	return e
}

// mosquitto is a command line of mosquitto_pub or mosquitto_sub.
func (e endpoint) mosquitto(tool string, args ...string) string {
	words := []string{tool, "-h", e.host, "-p", strconv.Itoa(e.port)}
	if e.ca != "" {
		words = append(words, "--cafile", e.ca, "--cert", e.cert, "--key", e.key)
	}
	return commandLine(append(words, args...)...)
}

// sealmq is a command line of this program for the broker beside it: as short
// as it can be, since the operator's files are found in the data folder.
func (e endpoint) sealmq(program []string, data, command string, args ...string) string {
	words := append(append([]string{}, program...), command)
	if filepath.Clean(data) != defaultData {
		words = append(words, "--data", data)
	}
	if e.url != "" {
		return commandLine(append(append(words, e.url), args...)...)
	}
	if e.host != "localhost" {
		words = append(words, "-h", e.host)
	}
	if e.port != 8883 {
		words = append(words, "-p", strconv.Itoa(e.port))
	}
	return commandLine(append(words, args...)...)
}

// self is how the reader started this program, so that lines can be pasted
// from the same place.
func self() []string {
	exe, err := os.Executable()
	if err != nil {
		return []string{"sealmq"}
	}
	if strings.Contains(filepath.ToSlash(exe), "/go-build") {
		if _, err := os.Stat(filepath.Join("cmd", "sealmq")); err == nil {
			return []string{"go", "run", "./cmd/sealmq"}
		}
	}
	if found, err := exec.LookPath("sealmq"); err == nil && sameFile(found, exe) {
		return []string{"sealmq"}
	}
	return []string{os.Args[0]}
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// commandLine joins words so that a shell takes them apart again.
func commandLine(words ...string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(shellQuote(w, runtime.GOOS == "windows"))
	}
	return b.String()
}

const plainRunes = "/._-+:,@%=" // beside letters and digits

// shellQuote quotes a word for a POSIX shell, or for cmd.exe and PowerShell.
func shellQuote(w string, windows bool) string {
	special := func(r rune) bool {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !alnum && !strings.ContainsRune(plainRunes, r) && !(windows && r == '\\')
	}
	switch {
	case w != "" && strings.IndexFunc(w, special) < 0:
		return w
	case windows:
		return `"` + strings.ReplaceAll(w, `"`, `\"`) + `"`
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

// bestHost is the name under which other machines most likely reach this one:
// a certified name that is not one of the machine's own and so was asked for,
// else its first address in a network, else its host name, else localhost.
func bestHost(certified, local []string) string {
	for _, h := range certified {
		if !strings.HasPrefix(h, "*") && !slices.Contains(local, h) {
			return h
		}
	}
	for _, v4 := range []bool{true, false} {
		for _, h := range local {
			if ip := net.ParseIP(h); ip != nil && !ip.IsLoopback() && (ip.To4() != nil) == v4 {
				return h
			}
		}
	}
	for _, h := range local {
		if h != "localhost" && net.ParseIP(h) == nil {
			return h
		}
	}
	return "localhost"
}
