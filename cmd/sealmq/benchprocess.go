package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// benchProcess is the broker that sealmq bench restart starts and kills.
type benchProcess struct {
	command string
	output  io.Writer
	cmd     *exec.Cmd // nil: not started
}

// stopTime is how long the broker may take to end when it is told to.
const stopTime = 10 * time.Second

// restart is a bench.Config.Restart.
func (p *benchProcess) restart(context.Context) (pid int, err error) {
	if p.cmd != nil {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	}
	// exec: what is killed and measured is the broker, not the shell.
	p.cmd = exec.Command("sh", "-c", "exec "+p.command)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return 0, fmt.Errorf("start %s: %w", p.command, err)
	}
	return p.cmd.Process.Pid, nil
}

// stop ends it.
func (p *benchProcess) stop() {
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.cmd.Process.Kill()
	}
	defer time.AfterFunc(stopTime, func() { p.cmd.Process.Kill() }).Stop()
	p.cmd.Wait()
}
