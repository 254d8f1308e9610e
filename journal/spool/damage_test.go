package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// smallSpool fills a spool with a bit of everything and closes it. It gives what a tail has to say of it.
func smallSpool(t *testing.T) (fs *simFS, want []*record.Item) {
	t.Helper()
	fs = newSimFS()
	opt, _ := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	for i, n := range []int{20, 300, 5000, 0, 40} {
		env := journaled()
		if i%2 == 1 {
			env = relayed()
		}
		id := accept(t, s, env, mail(uint64(i), max(n, 20))[:n])
		if env.Mode == record.ModeRelay {
			if err := s.Append(t.Context(), delivered(id)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.AppendAct(t.Context(), record.Act{Kind: record.ActView}); err != nil {
		t.Fatal(err)
	}
	want = all(t, s)
	for _, it := range want { // while the spool is open
		if it.Kind == record.KindMessage {
			if _, err := bodyOf(it); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustClose(t, s)
	return fs, want
}

// compareDamaged says what is wrong with a spool that was damaged: whatever comes is good, and what does not is accounted for.
func compareDamaged(want, got []*record.Item, alarms []string, newest uint64) error {
	have := map[string]*record.Item{}
	for _, it := range got {
		if err := checkItem(it); err != nil {
			return err
		}
		have[string(it.Kind)+it.ID.String()] = it
	}
	missing := 0
	for _, it := range want {
		other := have[string(it.Kind)+it.ID.String()]
		switch {
		case other == nil:
			missing++
		case !bytes.Equal(it.EnvelopeJSON, other.EnvelopeJSON), !bytes.Equal(it.ActJSON, other.ActJSON):
			return fmt.Errorf("%s is another", it.ID)
		case it.Delivery() != nil && other.Delivery().Outcome != it.Delivery().Outcome && other.Delivery().Outcome != record.Unknown:
			return fmt.Errorf("%s has another outcome", it.ID)
		case it.Delivery() != nil && other.Delivery().Outcome == record.Unknown && len(alarms) == 0:
			return fmt.Errorf("the outcome of %s is lost without an alarm", it.ID)
		}
	}
	if missing > 0 && len(alarms) == 0 {
		return fmt.Errorf("%d records are lost without an alarm", missing)
	}
	return checkNumbers(got, 1, newest)
}

// Each byte of a small spool is altered, in each bit once; the result is never a wrong byte that passes for good, and never a silent loss.
func TestFlipEachByte(t *testing.T) {
	orig, want := smallSpool(t)
	for _, dir := range []string{"/s", "/s/big"} {
		for base, file := range orig.dirs[dir].now {
			if base == "reserve" {
				continue
			}
			for i := range file.data {
				if i >= headerSize && i < segmentStart-8 && i%512 >= headerSize && i%97 != 0 && dir == "/s" {
					continue // between the copies of the header
				}
				if dir == "/s/big" && i%61 != 0 {
					continue
				}
				if testing.Short() && i%11 != 0 {
					continue
				}
				fs := orig.copyFS()
				fs.dirs[dir].now[base].data[i] ^= 1 << (i % 8)
				opt, alarms := simOptions(fs)
				s, err := Open(testConfig("/s"), opt)
				if err != nil {
					t.Fatalf("%s/%s, byte %d: %v", dir, base, i, err)
				}
				got, err := drain(s.Tail())
				newest := s.Newest()
				err = errors.Join(err, s.Close(context.Background()))
				said := alarms.all()
				if err == nil {
					err = compareDamaged(want, got, said, newest)
				}
				dropped := 0
				for _, it := range got {
					if it.Kind == record.KindDropped {
						dropped++
					}
				}
				if err == nil && len(said) == 0 && dropped == 0 {
					err = errors.New("nobody noticed")
				}
				if err != nil {
					t.Fatalf("%s/%s, byte %d of %d: %v\n%s\nalarms: %q", dir, base, i, len(file.data), err, digest(got), said)
				}
				if len(said) > 0 && len(fs.dirs["/s/quarantine"].now) == 0 {
					t.Fatalf("%s/%s, byte %d: an alarm, and nothing in quarantine: %q", dir, base, i, said)
				}
			}
		}
	}
}

// The same, without a restart: what is read from the tail and from bodies.
func TestFlipWhileOpen(t *testing.T) {
	fs := newSimFS()
	opt, alarms := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	accept(t, s, journaled(), mail(1, 300))
	accept(t, s, journaled(), mail(2, 9000))
	accept(t, s, journaled(), mail(3, 300))
	items := all(t, s)
	flip := func(dir, suffix string, at int) {
		for base, f := range fs.dirs[dir].now {
			if strings.HasSuffix(base, suffix) {
				f.data[at] ^= 4
			}
		}
	}
	flip("/s", segmentSuffix, segmentStart+10) // the first frame's header
	flip("/s/big", bigSuffix, 8999)
	again := all(t, s)
	if len(again) != 2 || again[0].ID != items[1].ID || len(alarms.all()) != 1 {
		t.Errorf("%s\n%q", digest(again), alarms.all())
	}
	if _, err := bodyOf(again[0]); !errors.Is(err, ErrDamaged) {
		t.Error("a large message:", err)
	}
	for base, f := range fs.dirs["/s"].now {
		if strings.HasSuffix(base, segmentSuffix) {
			f.data[len(f.data)-1] ^= 1
		}
	}
	if _, err := bodyOf(again[1]); !errors.Is(err, ErrDamaged) {
		t.Error("a small message:", err)
	}
	if n, _ := s.Pending(); n != 3 {
		t.Errorf("%d pending", n)
	}
	mustClose(t, s)
}

// Damage in the middle of acknowledged data: the rest is recovered, the segment is kept in quarantine also after it was deleted, and the
// alarm is raised until then.
func TestDamagedMiddle(t *testing.T) {
	fs := newSimFS()
	opt, _ := simOptions(fs)
	cfg := testConfig("/s")
	s := mustOpen(t, cfg, opt)
	for i := range 10 {
		accept(t, s, journaled(), mail(uint64(i), 1000))
	}
	where := s.queue.get(4).at
	mustClose(t, s)
	seg := fs.dirs["/s"].now[segmentName(where.seg)]
	copy(seg.data[where.off:], bytes.Repeat([]byte{0}, 2000)) // the 4th record, and a part of the 5th
	var first string
	for round := range 3 {
		opt, alarms := simOptions(fs)
		s := mustOpen(t, cfg, opt)
		items := all(t, s)
		if err := checkNumbers(items, 1, 10); err != nil {
			t.Error(err)
		}
		last := items[len(items)-1]
		if last.Drop == nil || last.Drop.First != 4 || last.Drop.Last != 5 || !strings.HasPrefix(last.Drop.Reason, "damaged: ") || len(items) != 9 {
			t.Errorf("round %d: %s", round, digest(items))
		}
		if len(alarms.all()) == 0 {
			t.Errorf("round %d: no alarm", round)
		}
		if got := digest(items); round == 0 {
			first = got
		} else if got != first {
			t.Errorf("round %d:\n%s\nbefore\n%s", round, got, first)
		}
		if round == 2 {
			if err := s.Release(t.Context(), items); err != nil {
				t.Fatal(err)
			}
		}
		mustClose(t, s)
	}
	if kept := fs.dirs["/s/quarantine"].now[segmentName(where.seg)]; kept == nil || !bytes.Equal(kept.data, seg.data) {
		t.Error("the segment is not in quarantine as it was")
	}
	if _, ok := fs.dirs["/s"].now[segmentName(where.seg)]; ok {
		t.Error("the segment is still in use")
	}
}

// Where the file system has no links the damaged segment stays.
func TestDamageWithoutLinks(t *testing.T) {
	fs, _ := smallSpool(t)
	name := segmentsOn(fs)[0]
	fs.dirs["/s"].now[name].data[segmentStart+50] ^= 1
	fs.fault = func(_ int, op, _ string) fault {
		if op == "link" {
			return fault{err: errors.ErrUnsupported}
		}
		return fault{}
	}
	opt, _ := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	if err := s.Release(t.Context(), all(t, s)); err != nil {
		t.Fatal(err)
	}
	accept(t, s, journaled(), mail(1, 10))
	mustClose(t, s)
	if got := segmentsOn(fs); got[0] != name {
		t.Errorf("left: %v", got)
	}
}

// The damage done to whole files.
func TestLostFiles(t *testing.T) {
	build := func() (*simFS, []*record.Item) {
		fs := newSimFS()
		opt, _ := simOptions(fs)
		s := mustOpen(t, testConfig("/s"), opt)
		for i := range 40 {
			accept(t, s, journaled(), mail(uint64(i), 3000+i%2*2000))
		}
		items := all(t, s)
		mustClose(t, s)
		return fs, items
	}
	cases := map[string]func(fs *simFS, names []string){
		"a segment in the middle": func(fs *simFS, names []string) { delete(fs.dirs["/s"].now, names[2]) },
		"header in the middle":    func(fs *simFS, names []string) { clear(fs.dirs["/s"].now[names[2]].data[:segmentStart]) },
		"header of the newest":    func(fs *simFS, names []string) { clear(fs.dirs["/s"].now[names[len(names)-1]].data[:segmentStart]) },
		"header of the oldest":    func(fs *simFS, names []string) { clear(fs.dirs["/s"].now[names[0]].data[:segmentStart]) },
		"a segment cut short": func(fs *simFS, names []string) {
			f := fs.dirs["/s"].now[names[1]]
			f.data = f.data[:len(f.data)-4000]
		},
		"a segment cut to nothing": func(fs *simFS, names []string) { fs.dirs["/s"].now[names[1]].data = nil },
		"a large message": func(fs *simFS, _ []string) {
			for base := range fs.dirs["/s/big"].now {
				delete(fs.dirs["/s/big"].now, base)
				return
			}
		},
		"a large message cut short": func(fs *simFS, _ []string) {
			for _, f := range fs.dirs["/s/big"].now {
				f.data = f.data[:len(f.data)-1]
				return
			}
		},
	}
	for name, harm := range cases {
		t.Run(name, func(t *testing.T) {
			fs, want := build()
			harm(fs, segmentsOn(fs))
			var first string
			for round := range 2 {
				opt, alarms := simOptions(fs)
				s := mustOpen(t, testConfig("/s"), opt)
				items := all(t, s)
				if len(items) > len(want)+round || len(items) < 30 {
					t.Errorf("round %d: %d items", round, len(items))
				}
				lowest := uint64(1)
				if name == "header of the oldest" {
					lowest = items[0].Seq // nobody knows where it began
				}
				if err := checkNumbers(items, lowest, s.Newest()); err != nil {
					t.Error(err)
				}
				if len(alarms.all()) == 0 && round == 0 {
					t.Error("no alarm")
				}
				got := digest(items)
				if round == 0 {
					first = got
					if id := accept(t, s, journaled(), mail(99, 10)); id.IsZero() {
						t.Error("nothing is taken any more")
					}
				} else if !strings.HasPrefix(got, first) {
					t.Errorf("second start:\n%s\nfirst:\n%s", got, first)
				}
				if s.Newest() < 40 {
					t.Errorf("sequences begin again at %d", s.Newest())
				}
				mustClose(t, s)
			}
		})
	}
}

// A disk that can't be read is not a spool that is damaged: nothing is given up.
func TestUnreadableDisk(t *testing.T) {
	fs, want := smallSpool(t)
	before := fs.listing()
	opt, _ := simOptions(unreadable{fs})
	if _, err := Open(testConfig("/s"), opt); !errors.Is(err, errUnreadable) || !strings.Contains(err.Error(), "/s/") {
		t.Error(err)
	}
	if after := fs.listing(); after != before {
		t.Errorf("changed: %s\nbefore %s", after, before)
	}
	opt, _ = simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	if got := digest(all(t, s)); got != digest(want) {
		t.Error(got)
	}
	mustClose(t, s)
}

var errUnreadable = errors.New("unreadable sector")

type unreadable struct{ *simFS }

func (fs unreadable) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	f, err := fs.simFS.OpenFile(name, flag, perm)
	return unreadableFile{f}, err
}

type unreadableFile struct{ File }

func (f unreadableFile) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > segmentStart+100 {
		return 0, errUnreadable
	}
	return f.File.ReadAt(b, off)
}

// A frame inside a message is only a message, also where damage makes the reader look for the next frame.
func TestForgedFrame(t *testing.T) {
	fs := newSimFS()
	opt, _ := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	accept(t, s, journaled(), mail(1, 10))
	frames := bytes.Clone(fs.dirs["/s"].now[segmentName(1)].data[segmentStart:]) // somebody who has read the disk
	accept(t, s, journaled(), bytes.Repeat(frames, 3))
	accept(t, s, journaled(), mail(3, 10))
	at := s.queue.get(2).at
	mustClose(t, s)
	fs.dirs["/s"].now[segmentName(1)].data[at.off] ^= 1
	opt, alarms := simOptions(fs)
	s = mustOpen(t, testConfig("/s"), opt)
	items := all(t, s)
	if strings.Contains(strings.Join(alarms.all(), ""), "twice") {
		t.Errorf("taken for a frame: %q", alarms.all())
	}
	if len(items) != 3 || items[0].Seq != 1 || items[1].Seq != 3 || items[2].Drop == nil {
		t.Error(digest(items))
	}
	mustClose(t, s)
}

func TestBodyReader(t *testing.T) {
	opt, _ := simOptions(newSimFS())
	s := mustOpen(t, testConfig("/s"), opt)
	defer mustClose(t, s)
	accept(t, s, journaled(), mail(1, 1000))
	r, err := all(t, s)[0].Body()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 7)
	var got []byte
	for {
		n, err := r.Read(b)
		got = append(got, b[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
	}
	if !bytes.Equal(got, mail(1, 1000)) {
		t.Errorf("%q", got)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(b); err == nil {
		t.Error("read after close")
	}
	if err := r.Close(); err == nil {
		t.Error("closed twice")
	}
}

// A large message that no frame names was never acknowledged and goes, unless a frame that can't be read may have named it.
func TestOrphans(t *testing.T) {
	for _, damage := range []bool{false, true} {
		fs := newSimFS()
		opt, _ := simOptions(fs)
		s := mustOpen(t, testConfig("/s"), opt)
		body := mail(1, 9000)
		id := accept(t, s, journaled(), body)
		accept(t, s, journaled(), mail(2, 10))
		at := s.queue.get(1).at
		mustClose(t, s)
		orphan := record.NewID(id.Time())
		fs.dirs["/s/big"].now[orphan.String()+bigSuffix] = &simFile{data: []byte("half")}
		if damage {
			fs.dirs["/s"].now[segmentName(at.seg)].data[at.off] ^= 1
		}
		opt, alarms := simOptions(fs)
		s = mustOpen(t, testConfig("/s"), opt)
		_, left := fs.dirs["/s/big"].now[id.String()+bigSuffix]
		_, orphanLeft := fs.dirs["/s/big"].now[orphan.String()+bigSuffix]
		kept := fs.dirs["/s/quarantine"].now[id.String()+bigSuffix]
		_, orphanKept := fs.dirs["/s/quarantine"].now[orphan.String()+bigSuffix]
		if left == damage || orphanLeft || orphanKept != damage || damage && (kept == nil || !bytes.Equal(kept.data, body)) {
			t.Errorf("damage %v: %v %v %v\n%s", damage, left, orphanLeft, orphanKept, fs.listing())
		}
		if (len(alarms.all()) > 0) != damage {
			t.Errorf("damage %v: %q", damage, alarms.all())
		}
		mustClose(t, s)
	}
}
