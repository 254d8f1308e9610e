package spool

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

var fuzzMark = marker{0xa1, 'm', 'a', 'r', 'k', 'e', 'r', 0x1a}

// rawSegment builds a segment by hand, so that its bytes are the same in each run.
func rawSegment(h header, requests ...*request) []byte {
	h.mark = fuzzMark
	b := make([]byte, segmentStart)
	h.put(b)
	durable := int64(segmentStart)
	for i, r := range requests {
		f := r.frame
		f.off, f.durable = int64(len(b)), durable
		if i%2 == 1 { // groups of two
			durable = int64(len(b)) + f.size()
		}
		b = appendFrame(b, f, h.mark, r.meta, r.body)
	}
	return b
}

// rawSpool is a folder of two segments: messages of every way to settle, supplements in time and late, an act, and the end of a spool that was
// closed in good order.
func rawSpool(tb testing.TB) (fs *simFS, want []*record.Item) {
	tb.Helper()
	id := func(n byte) (id record.ID) {
		id[0], id[15] = 1, n
		return id
	}
	message := func(seq uint64, mode string, n int, opt AcceptOptions) *request {
		body := mail(seq, n)
		env := record.Envelope{
			V: 1, ID: id(byte(seq)), Nonce: record.Nonce{1}, Received: time.Unix(1.7e9, 0).UTC(), Node: "fuzz", Source: record.SourceSMTP,
			Mode: mode, Completeness: record.Full, Size: int64(n), SHA256: record.Sum(body),
		}
		meta, err := marshal(env)
		if err != nil {
			tb.Fatal(err)
		}
		return newRequest(frame{kind: frameMessage, id: env.ID, seq: seq, flags: messageFlags(&env, opt)}, meta, body)
	}
	supplement := func(it *record.Item, late byte) *request {
		it.Supplement.Nonce, it.Supplement.Time = record.Nonce{2}, time.Unix(1.7e9, 0).UTC()
		r, err := supplementRequest(it)
		if err != nil {
			tb.Fatal(err)
		}
		r.frame.flags |= late
		return r
	}
	var none, owed AcceptOptions
	owed.Verdict = true
	act := newRequest(frame{kind: frameAct, id: id(4), seq: 4}, []byte(`{"v":1,"id":"`+id(4).String()+`","kind":"view"}`), nil)
	first := rawSegment(header{number: 1, first: 1}, message(1, record.ModeJournal, 40, none), message(2, record.ModeRelay, 300, none))
	second := rawSegment(header{number: 2, prev: 1, prevEnd: int64(len(first)), prevDurable: int64(len(first)), first: 3},
		message(3, record.ModeJournal, 30, none), supplement(delivered(id(2)), 0), act, message(5, record.ModeJournal, 500, none),
		message(6, record.ModeQueue, 50, none), message(7, record.ModeJournal, 60, owed), message(8, record.ModeJournal, 60, owed),
		supplement(verdict(id(7)), 0), supplement(verdict(id(8)), flagLate), supplement(delivered(id(6)), flagLate),
		newRequest(frame{kind: frameEnd}, nil, nil))

	fs = newSimFS()
	for _, dir := range []string{"/s", "/s/big", "/s/quarantine"} {
		fs.Mkdir(dir)
	}
	for name, b := range map[string][]byte{segmentName(1): first, segmentName(2): second} {
		if _, err := writeNew(fs, filepath.Join("/s", name), b, false); err != nil {
			tb.Fatal(err)
		}
	}
	opt, alarms := simOptions(fs.copyFS())
	s, err := Open(testConfig("/s"), opt)
	if err != nil {
		tb.Fatal(err)
	}
	if want, err = drain(s.Tail()); err != nil || len(want) != 10 || len(alarms.all()) > 0 {
		tb.Fatal(digest(want), err, alarms.all())
	}
	s.Close(context.Background())
	return fs, want
}

// FuzzDamage overwrites a part of a spool and cuts its end off. Whatever comes from the tail then is good, and what does not come is
// accounted for.
func FuzzDamage(f *testing.F) {
	f.Add(false, uint16(segmentStart+90), []byte("damage"), uint16(0))
	f.Add(true, uint16(0), make([]byte, segmentStart), uint16(0))
	f.Add(true, uint16(segmentStart), fuzzMark[:], uint16(1))
	f.Add(false, uint16(0), []byte{}, uint16(9000))
	orig, want := rawSpool(f)
	f.Fuzz(func(t *testing.T, second bool, off uint16, patch []byte, cut uint16) {
		fs := orig.copyFS()
		name := segmentName(1)
		if second {
			name = segmentName(2)
		}
		file := fs.dirs["/s"].now[name]
		before := bytes.Clone(file.data)
		copy(file.data[min(int(off), len(file.data)):], patch)
		file.data = file.data[:len(file.data)-min(int(cut), len(file.data))]
		opt, alarms := simOptions(fs)
		s, err := Open(testConfig("/s"), opt)
		if err != nil {
			t.Fatal(err)
		}
		got, err := drain(s.Tail())
		newest := s.Newest()
		if err = errors.Join(err, s.Close(context.Background())); err != nil {
			t.Fatal(err)
		}
		said := alarms.all()
		if second && !bytes.Equal(file.data, before) {
			said = append(said, "the newest segment may be torn") // which is no alarm
		}
		lowest := got[0].Seq
		for _, it := range got {
			if it.Seq != 0 {
				lowest = min(lowest, it.Seq)
			}
		}
		if lowest > 1 && (second || len(said) == 0) {
			t.Errorf("begins with %d", lowest)
		}
		if lowest == 1 {
			if err := compareDamaged(want, got, said, newest); err != nil {
				t.Errorf("%v\n%s\n%q", err, digest(got), said)
			}
		}
		opt, _ = simOptions(fs)
		s, err = Open(testConfig("/s"), opt)
		if err != nil {
			t.Fatal(err)
		}
		again, err := drain(s.Tail())
		if err != nil || digest(again) != digest(got) {
			t.Errorf("a second recovery: %v\n%s\nthe first:\n%s", err, digest(again), digest(got))
		}
		s.Close(context.Background())
	})
}

// FuzzScan reads arbitrary bytes as a segment: frames and the stretches between cover it without a gap, and each frame is what its
// checksums say.
func FuzzScan(f *testing.F) {
	fs, _ := rawSpool(f)
	for _, n := range []uint32{1, 2} {
		f.Add(fs.dirs["/s"].now[segmentName(n)].data[segmentStart:])
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat(fuzzMark[:], 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		data := append(make([]byte, segmentStart), b...)
		at := int64(segmentStart)
		err := scan(bytes.NewReader(data), fuzzMark, segmentStart, int64(len(data)), func(f frame, meta []byte) {
			if f.off != at || f.size() < frameHeader || f.size() > int64(len(data))-at {
				t.Fatalf("%+v at %d", f, at)
			}
			at += f.size()
			body := data[f.off+frameHeader+f.metaLen : at]
			if crc32.Checksum(meta, castagnoli) != f.metaCRC || f.flags&flagBig == 0 && crc32.Checksum(body, castagnoli) != f.bodyCRC {
				t.Fatalf("%+v passed for good", f)
			}
			head := make([]byte, frameHeader)
			f.put(head, fuzzMark)
			if again, ok := parseFrame(head, fuzzMark, f.off); !ok || again != f {
				t.Fatalf("%+v is read as %+v", f, again)
			}
		}, func(r region) {
			if r.from != at || r.to <= r.from || r.to > int64(len(data)) {
				t.Fatalf("%+v at %d", r, at)
			}
			at = r.to
		})
		if err != nil || at != int64(len(data)) {
			t.Fatalf("read up to %d of %d: %v", at, len(data), err)
		}
	})
}

// FuzzHeader: what is read from a segment's header is what was written, or nothing.
func FuzzHeader(f *testing.F) {
	fs, _ := rawSpool(f)
	f.Add(fs.dirs["/s"].now[segmentName(2)].data[:segmentStart], uint32(2))
	f.Add([]byte(segmentMagic), uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, number uint32) {
		h, whole, ok := parseHeader(b, number)
		if !ok {
			return
		}
		out := make([]byte, segmentStart)
		h.put(out)
		if whole && !bytes.HasPrefix(b, out) {
			t.Errorf("%+v", h)
		}
		if again, _, ok := parseHeader(out, number); !ok || again != h {
			t.Errorf("%+v is read as %+v", h, again)
		}
	})
}
