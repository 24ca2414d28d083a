package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/bench"
	"github.com/sealmq/sealmq/config"
)

// benchServer is a broker with mutual TLS and one listener in the clear.
func benchServer(t *testing.T) (data string, secure, plain int) {
	t.Helper()
	data = t.TempDir()
	cfg, err := config.Parse("sealmq.toml", []byte(`data = "`+filepath.Join(data, "d")+`"
[limits]
max_queued_messages = 1000000
[[listener]]
name = "tls"
address = "127.0.0.1:0"
[[listener]]
name = "plain"
address = "127.0.0.1:0"
tls = false
anonymous = true
`))
	if err != nil {
		t.Fatal(err)
	}
	s, err := sealmq.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		s.Close()
	})
	port := func(name string) int { return s.Addr(name).(*net.TCPAddr).Port }
	return filepath.Join(data, "d"), port("tls"), port("plain")
}

func runBench(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	cmd := newBenchCmd()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	code = printError(&errs, cmd.ExecuteContext(ctx))
	return out.String(), errs.String(), code
}

func TestBench(t *testing.T) {
	data, secure, plain := benchServer(t)
	quick := []string{"-n", "4", "-d", "100ms", "--warmup", "0", "--data", data, "--pid", strconv.Itoa(os.Getpid())}
	report := filepath.Join(t.TempDir(), "report.html")
	for _, scenario := range bench.Scenarios {
		if scenario == bench.Restart {
			continue // TestBenchRestart
		}
		args := append([]string{string(scenario), "-p", strconv.Itoa(secure), "--json", "--html", report, "--storm", "5", "--backlog", "500"}, quick...)
		if scenario == bench.Pairs {
			args = append(args, "--rate", "200", "-q", "2", "--user-property", "a=b")
		}
		if scenario == bench.Connect { // more than come in that time: two with one identifier would be in each other's way
			args = append(args, "-n", "2000")
		}
		out, errs, code := runBench(args...)
		var r bench.Result
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitOK {
			t.Fatalf("%s: exit %d %v\n%s%s", scenario, code, err, out, errs)
		}
		if r.Scenario != scenario || r.TLS == nil || r.TLS.Version != "TLS 1.3" || r.Messages != nil && (r.Messages.Lost > 0 || r.Messages.Received == 0) {
			t.Errorf("%s: %s", scenario, out)
		}
		if page, err := os.ReadFile(report); err != nil || !bytes.Contains(page, []byte("</html>")) {
			t.Errorf("%s: no report: %v", scenario, err)
		}
	}
	out, errs, code := runBench(append([]string{"pairs", "mqtt://127.0.0.1:" + strconv.Itoa(plain), "-V", "311"}, quick...)...)
	if code != exitOK || !strings.Contains(out, "MQTT 3.1.1, no TLS") {
		t.Errorf("plain: exit %d\n%s%s", code, out, errs)
	}
}

func TestBenchErrors(t *testing.T) {
	data, secure, plain := benchServer(t)
	tlsPort, plainPort := strconv.Itoa(secure), strconv.Itoa(plain)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", exitUsage, "name a scenario: pairs, fanout"},
		{"juggle", exitUsage, `scenario "juggle"`},
		{"pairs a b", exitUsage, "one scenario and one URL"},
		{"pairs -q 3", exitUsage, "qos 3"},
		{"pairs --ramp 1s", exitUsage, "only with a rate"},
		{"resume --no-tls", exitUsage, "--persistent"},
		{"restart", exitUsage, "--broker"},
		{"restart --broker x --pid 1", exitUsage, "no --pid"},
		{"pairs --broker x", exitUsage, "--broker is for restart"},
		{"backlog --backlog -1", exitUsage, "backlog"},
		{"pairs --local here", exitUsage, "not an IP address"},
		{"pairs --tls-group x", exitUsage, "--tls-group x"},
		{"pairs -p 1", exitUnreachable, "connection refused"},
		{"pairs -p " + tlsPort + " --cafile " + data + "/operator/ca.pem", exitTLSRefused, "client certificate"},
		{"pairs -h 127.0.0.1 -p " + plainPort, exitTLSRefused, "TLS handshake"},
		{"pairs --no-tls -u a -P b -p " + plainPort, 0x86, "connection refused by the broker: bad user name or password"},
		{"pairs --pid 1073741824 --no-tls -p " + plainPort, exitFailure, "1073741824"},
	} {
		_, errs, code := runBench(append(strings.Fields(c.args), "--data", data)...)
		if code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%q: exit %d, want %d and %q\n%s", c.args, code, c.code, c.says, errs)
		}
	}
}
