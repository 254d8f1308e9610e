package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// disk is a file system of its own, made in a file and mounted through a loop device, so that to it can be done what happens to disks.
type disk struct {
	t       testing.TB
	dir     string // where it is mounted
	image   string
	options string
	mounted bool
}

// ext4 are the options with which a file system shows a missing fsync: without the kernel's own remedy for programs that rename before they
// sync, and read-only after the first error.
const ext4Options = "loop,noauto_da_alloc,errors=remount-ro"

// newDisk makes one of so many MiB in the folder below, whose place on disk is the disk's own. In CI a machine that does not let it is a failure.
func newDisk(t testing.TB, below, kind string, megabytes int, options string, mkfs ...string) *disk {
	t.Helper()
	needRoot(t)
	d := &disk{t: t, dir: filepath.Join(below, "mnt"), image: filepath.Join(below, "image"), options: options}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := need(t, "mkfs."+kind, map[string]string{"ext4": "e2fsprogs", "xfs": "xfsprogs"}[kind])
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, int64(megabytes)<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, append(append([]string{"-q"}, mkfs...), d.image)...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.%s: %v: %s", kind, err, out)
	}
	t.Cleanup(d.unmount)
	if out, err := d.tryMount(); err != nil {
		text := "a file system in a file can't be mounted here: run the tests as root, with CAP_SYS_ADMIN and loop devices (docker run --privileged): " + out
		if os.Getenv("CI") != "" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	return d
}

func (d *disk) tryMount() (string, error) {
	out, err := exec.Command("mount", "-o", d.options, d.image, d.dir).CombinedOutput()
	d.mounted = err == nil
	return string(out), err
}

func (d *disk) mount() {
	d.t.Helper()
	if out, err := d.tryMount(); err != nil {
		d.t.Fatalf("mount %s: %v: %s", d.dir, err, out)
	}
}

// unmount waits for those who have just ended.
func (d *disk) unmount() {
	d.t.Helper()
	if !d.mounted {
		return
	}
	until(d.t, 20*time.Second, d.dir+" can be unmounted", func() bool { return exec.Command("umount", d.dir).Run() == nil })
	d.mounted = false
}

// again unmounts and mounts: what was not durable is gone.
func (d *disk) again() {
	d.t.Helper()
	d.unmount()
	d.mount()
}

// cutPower stops the file system as it is: nothing more gets to the disk, what it was to write is lost, and every call from now on is EIO.
//
// An fsync that is under way at that moment may return 0 and have lost what it was for (Linux 6.12 and 6.18, a program that only appends and
// syncs: xfs 4 of 240 times), which no power cut can do: who is to see it is frozen before, or has nothing on its way.
func (d *disk) cutPower() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	const fsIocShutdown, noLogFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
	flag := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), fsIocShutdown, uintptr(unsafe.Pointer(&flag))); errno != 0 {
		d.t.Fatalf("shut down %s: %v", d.dir, errno)
	}
}

// abort has an ext4 believe that it is damaged: it makes itself read-only under those who write.
func (d *disk) abort() {
	d.t.Helper()
	if out, err := exec.Command("mount", "-o", "remount,abort", d.dir).CombinedOutput(); err != nil {
		d.t.Fatalf("abort %s: %v: %s", d.dir, err, out)
	}
	until(d.t, 10*time.Second, d.dir+" is read-only", func() bool {
		err := os.WriteFile(filepath.Join(d.dir, "try"), nil, 0o600)
		return err != nil && strings.Contains(err.Error(), "read-only")
	})
}

// repair is what an administrator does after errors.
func (d *disk) repair() {
	d.t.Helper()
	d.unmount()
	out, err := exec.Command(need(d.t, "e2fsck", "e2fsprogs"), "-fy", d.image).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 2) {
		d.t.Fatalf("e2fsck: %v: %s", err, out)
	}
	d.mount()
}

// fill takes all space that there is, and the function that it gives gives it back.
func (d *disk) fill() (free func()) {
	d.t.Helper()
	path := filepath.Join(d.dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		d.t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for size := len(block); size >= 1<<10; {
		if _, err := f.Write(block[:size]); err != nil {
			size /= 2
		}
	}
	f.Sync()
	f.Close()
	return func() { os.Remove(path) }
}

// fillInodes makes files until there can be no more.
func (d *disk) fillInodes() (free func()) {
	d.t.Helper()
	dir := filepath.Join(d.dir, "many")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		d.t.Fatal(err)
	}
	for n := 0; ; n++ {
		if err := os.Symlink("x", filepath.Join(dir, time.Duration(n).String())); err != nil { // a short one takes an inode and no block
			break
		}
	}
	return func() { os.RemoveAll(dir) }
}
