package control

import "golang.org/x/sys/unix"

func (p *peer) ask(fd int) {
	if c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED); err == nil {
		p.UID, p.GID = int(c.Uid), int(c.Groups[0])
	}
	if pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID); err == nil {
		p.PID = pid
	}
}
