package spool

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// A real disk that is really full: what was acknowledged is whole, acts and outcomes are still taken, and mail is again once there is
// space.
func TestRealFullDisk(t *testing.T) {
	mnt := t.TempDir()
	if err := unix.Mount("holdfast-test", mnt, "tmpfs", 0, "size=4m,nr_inodes=200"); err != nil {
		if os.Getenv("CI") != "" && os.Geteuid() == 0 {
			t.Fatalf("mount tmpfs: %v", err)
		}
		t.Skipf("mounting a small tmpfs takes root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err)
		}
	})
	cfg := Config{Dir: filepath.Join(mnt, "spool"), SegmentBytes: 256 << 10, InlineBytes: 32 << 10, ReserveBytes: 256 << 10}
	opt, alarms := simOptions(osFS{})
	s := mustOpen(t, cfg, opt)
	acked := map[record.ID]record.Digest{}
	put := func(i int) error {
		env := journaled()
		if i%3 == 0 {
			env = relayed()
		}
		body := mail(uint64(i), 1000+i%7*9000)
		id, err := s.Accept(t.Context(), env, bytes.NewReader(body), AcceptOptions{})
		if err == nil {
			acked[id] = record.Sum(body)
		}
		return err
	}
	fill := func() {
		t.Helper()
		var err error
		for i := range 2000 {
			if err = put(i); err != nil {
				break
			}
		}
		if !errors.Is(err, ErrNoSpace) {
			t.Fatal(err)
		}
	}
	fill()
	if err := s.Ready(10_000); !errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
	// Somebody else takes the rest.
	hog, err := os.Create(filepath.Join(mnt, "hog"))
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = hog.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	big := record.Act{Kind: record.ActSearch, Detail: map[string]any{"query": string(bytes.Repeat([]byte("x"), 9000))}}
	for range 10 {
		if err := s.AppendAct(t.Context(), big); err != nil {
			t.Fatal("an act on a full disk:", err)
		}
	}
	if s.reserve.there {
		t.Error("the reserve was not needed: the disk is not full")
	}
	for id := range acked {
		if err := s.AppendSoon(delivered(id)); err != nil {
			t.Error(err)
		}
	}
	check := func() {
		t.Helper()
		have := map[record.ID]bool{}
		for _, it := range all(t, s) {
			if err := checkItem(it); err != nil {
				t.Error(err)
			}
			if sum, ok := acked[it.ID]; ok && it.Kind == record.KindMessage && it.Envelope.SHA256 != sum {
				t.Errorf("%s is another", it.ID)
			}
			if it.Delivery() != nil && it.Delivery().Outcome != record.Delivered {
				t.Errorf("%s: %+v", it.ID, it.Delivery())
			}
			have[it.ID] = it.Kind == record.KindMessage || have[it.ID]
		}
		for id := range acked {
			if !have[id] {
				t.Errorf("%s was acknowledged and is lost", id)
			}
		}
		if err := checkNumbers(all(t, s), 1, s.Newest()); err != nil {
			t.Error(err)
		}
	}
	mustClose(t, s)
	s = mustOpen(t, cfg, opt)
	check()
	if err := put(1); !errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
	hog.Close()
	if err := os.Remove(hog.Name()); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(t.Context(), all(t, s)); err != nil {
		t.Fatal(err)
	}
	clear(acked)
	if err := put(1); err != nil {
		t.Error("with space again:", err)
	}
	fill()
	if len(acked) < 20 {
		t.Errorf("%d messages with space again", len(acked))
	}
	mustClose(t, s)
	for _, a := range alarms.all() { // that is for the space, and for nothing else
		if !strings.Contains(a, ErrNoSpace.Error()) {
			t.Error(a)
		}
	}
}

// A folder that can't be written to any more.
func TestRealReadOnly(t *testing.T) {
	mnt := t.TempDir()
	if err := unix.Mount("holdfast-test", mnt, "tmpfs", 0, "size=4m"); err != nil {
		if os.Getenv("CI") != "" && os.Geteuid() == 0 {
			t.Fatalf("mount tmpfs: %v", err)
		}
		t.Skipf("mounting a small tmpfs takes root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	opt, _ := simOptions(lockElsewhere{dir: t.TempDir()})
	cfg := testConfig(filepath.Join(mnt, "spool"))
	s := mustOpen(t, cfg, opt)
	id := accept(t, s, journaled(), mail(1, 100))
	mustClose(t, s)
	s = mustOpen(t, cfg, opt)
	if err := unix.Mount("", mnt, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for range failuresInARow {
		_, err := s.Accept(t.Context(), journaled(), bytes.NewReader(mail(2, 10)), AcceptOptions{})
		if !errors.Is(err, ErrFailed) || !errors.Is(err, unix.EROFS) || !bytes.Contains([]byte(err.Error()), []byte(cfg.Dir)) {
			t.Error(err)
		}
	}
	if err := s.Ready(0); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
	if items := all(t, s); len(items) != 1 || items[0].ID != id {
		t.Error(digest(items))
	}
	if err := unix.Mount("", mnt, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a probe succeeds", func() bool { return s.Ready(0) == nil })
	accept(t, s, journaled(), mail(3, 10))
	mustClose(t, s)
}

// lockElsewhere has no file open for writing while the spool is idle: otherwise the remount is refused.
type lockElsewhere struct {
	osFS
	dir string
}

func (fs lockElsewhere) Lock(name string) (io.Closer, error) {
	return fs.osFS.Lock(filepath.Join(fs.dir, filepath.Base(name)))
}
