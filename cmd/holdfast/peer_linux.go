package main

import "golang.org/x/sys/unix"

// socketPeer asks the kernel whose process is at the other end (unix(7), SO_PEERCRED).
func socketPeer(fd int) (uid int, ok bool) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, false
	}
	return int(cred.Uid), true
}
