package interop

import "testing"

func TestSealmq(t *testing.T) { matrix(t, sealmqCommands()) }

// sealmqTools are this project's own commands, with the flags of Mosquitto's.
type sealmqTools struct{ commandLine }

func sealmqCommands() client {
	return sealmqTools{commandLine{
		pub:   []string{program, "pub"},
		sub:   []string{program, "sub"},
		plain: []string{"--no-tls"},
		ready: "subscribed to",
	}}
}

func (sealmqTools) start(*testing.T) (missing string) { return "" }
