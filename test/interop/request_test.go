package interop

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestRequestResponse: the requesters of Mosquitto and of sealmq get the answer
// of a responder that knows the request's properties alone.
func TestRequestResponse(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	for _, requester := range []struct {
		name    string
		command []string
		missing string
	}{
		{"mosquitto_rr", []string{"mosquitto_rr"}, missingPrograms("mosquitto-clients", "mosquitto_rr")},
		{"sealmq rr", []string{program, "rr"}, ""},
	} {
		t.Run(requester.name, func(t *testing.T) {
			if requester.missing != "" {
				t.Skip("skipped: " + requester.missing)
			}
			x := newCell(pahoGo5{}, v5, b, b.tls)
			l := x.listen(t, subscription{x.topic("question"), 1})

			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			args := append(requester.command[1:], "-h", b.tls.host, "-p", strconv.Itoa(b.tls.port), "-V", "mqttv5", "-i", x.session().ID,
				"--cafile", b.tls.ca, "--cert", b.tls.cert, "--key", b.tls.key,
				"-q", "1", "-t", x.topic("question"), "-e", x.topic("answer"), "-m", "how much?")
			cmd := exec.CommandContext(ctx, requester.command[0], args...)
			var out, errs strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			q := l.next(t)
			if string(q.Payload) != "how much?" || q.ResponseTopic != x.topic("answer") {
				t.Errorf("request %v, want payload %q and response topic %q", q, "how much?", x.topic("answer"))
			}
			x.publish(t, message{Topic: q.ResponseTopic, Payload: []byte("42"), QoS: 1, Correlation: q.Correlation})
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, errs.String())
			}
			if got := strings.TrimSpace(out.String()); got != "42" {
				t.Errorf("it printed %q, want the answer 42", got)
			}
		})
	}
}
