package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestKeepSecrets(t *testing.T) {
	dumpable := func() int {
		n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	was := dumpable()
	t.Cleanup(func() { unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(was), 0, 0, 0) })
	t.Setenv("GOTRACEBACK", "crash")
	if err := keepSecrets(); err != nil || dumpable() != was {
		t.Errorf("who asks for a core file: %v, dumpable %d, was %d", err, dumpable(), was)
	}
	t.Setenv("GOTRACEBACK", "")
	if err := keepSecrets(); err != nil || dumpable() != 0 {
		t.Errorf("%v, dumpable %d", err, dumpable())
	}
}
