package acme

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	acmelib "github.com/mholt/acmez/v3/acme"
)

const (
	execTime  = 5 * time.Minute // for a program that waits until the record can be seen
	execNoise = 1 << 10         // bytes of its output that are told
)

// execSolver implements acmez.Solver for dns-01 with a program.
type execSolver struct {
	program string
	timeout time.Duration
}

func (s execSolver) Present(ctx context.Context, c acmelib.Challenge) error {
	return s.run(ctx, "present", c)
}

// CleanUp runs even when what wanted the record was given up.
func (s execSolver) CleanUp(ctx context.Context, c acmelib.Challenge) error {
	return s.run(context.WithoutCancel(ctx), "cleanup", c)
}

func (s execSolver) run(ctx context.Context, verb string, c acmelib.Challenge) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program, verb, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // for pipes that a child of the program keeps open
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SEALMQ_") { // passphrases of keys may be among these
			cmd.Env = append(cmd.Env, v)
		}
	}
	killGroup(cmd)
	err := cmd.Run()
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		err = fmt.Errorf("not done within %v", s.timeout)
	}
	if err != nil {
		return &execError{s.program + " " + verb + " " + c.DNS01TXTRecordName(), err, out.String()}
	}
	return nil
}

// execError is a program that failed.
type execError struct {
	what string
	err  error
	said string
}

func (e *execError) Error() string {
	if e.said == "" {
		return fmt.Sprintf("run %s: %v", e.what, e.err)
	}
	return fmt.Sprintf("run %s: %v: it says %q", e.what, e.err, e.said)
}

func (e *execError) Unwrap() error { return e.err }

// tail keeps the last of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-execNoise):]...)
	t.b = t.b[max(0, len(t.b)-execNoise):]
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.b)) }
