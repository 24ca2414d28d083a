package control

import "golang.org/x/sys/unix"

func (p *peer) ask(fd int) {
	if c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
		p.PID, p.UID, p.GID = int(c.Pid), int(c.Uid), int(c.Gid)
	}
}
