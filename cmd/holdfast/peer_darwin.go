package main

import "golang.org/x/sys/unix"

// socketPeer asks the kernel whose process is at the other end (unix(4), LOCAL_PEERCRED).
func socketPeer(fd int) (uid int, ok bool) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, false
	}
	return int(cred.Uid), true
}
