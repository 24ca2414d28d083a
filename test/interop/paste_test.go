package interop

import (
	"bufio"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestPastedLines runs the lines that `sealmq serve` prints, as a shell would
// when they are pasted: every sub line hears every pub line.
func TestPastedLines(t *testing.T) {
	t.Parallel()
	b := startWith(t, firstConfig)
	pasted := map[string]string{}
	for text := range strings.Lines(b.welcome) {
		text = strings.TrimSpace(text)
		switch {
		case strings.HasPrefix(text, "mosquitto_"):
			pasted[text[:len("mosquitto_sub")]] = text
		case strings.Contains(text, "sealmq sub "):
			pasted["sealmq sub"] = text
		case strings.Contains(text, "sealmq pub "):
			pasted["sealmq pub"] = text
		}
	}
	tools := []string{"sealmq"}
	if missing := missingPrograms("mosquitto-clients and coreutils", "mosquitto_pub", "mosquitto_sub", "stdbuf"); missing == "" {
		tools = append(tools, "mosquitto")
	} else {
		t.Run("mosquitto", func(t *testing.T) { t.Skip("skipped: " + missing) })
	}

	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	shell := func(text string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+text)
		cmd.Dir = b.dir // the broker's own, where its relative names are right
		return cmd
	}
	line := func(tool, verb string) string {
		for _, name := range []string{tool + " " + verb, tool + "_" + verb} {
			if text := pasted[name]; text != "" {
				return text
			}
		}
		t.Fatalf("no line for %s %s in:\n%s", tool, verb, b.welcome)
		return ""
	}

	heard := map[string]chan string{} // what each sub line prints
	for _, tool := range tools {
		text := line(tool, "sub")
		if tool == "mosquitto" {
			text = "stdbuf -oL " + text // no terminal here, and each line wanted at once
		}
		cmd := shell(text)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := make(chan string, 4096)
		heard[tool] = lines
		reading := make(chan struct{})
		go func() {
			defer close(reading)
			for in := bufio.NewScanner(out); in.Scan(); {
				lines <- in.Text()
			}
		}()
		t.Cleanup(func() {
			cmd.Process.Kill()
			<-reading
			cmd.Wait()
		})
	}

	// await waits until every sub line has printed what is wanted.
	await := func(what, want string) {
		t.Helper()
		for _, tool := range tools {
			late := time.After(patience)
			for found := false; !found; {
				select {
				case got := <-heard[tool]:
					found = got == want
				case <-late:
					t.Fatalf("%s: the line of %s sub has not printed %q", what, tool, want)
				}
			}
		}
	}
	// A retained message tells when each is subscribed, whenever that is.
	probe := newCell(pahoGo5{}, v5, b, b.plain) // where everybody may
	probe.publish(t, message{Topic: "probe", Payload: []byte("."), Retain: true})
	await("the subscriptions", "probe .")
	for _, tool := range tools {
		if out, err := shell(line(tool, "pub")).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line(tool, "pub"), err, out)
		}
		await("after "+tool+" pub", "hello world")
	}
}
