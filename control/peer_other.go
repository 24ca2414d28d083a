//go:build !linux && !darwin

package control

func (*peer) ask(int) {}
