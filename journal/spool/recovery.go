package spool

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// recovery reads the whole folder at Open. It changes nothing but what is surely of no use: temporary files, and large messages that no
// frame names. Run again on its own result it finds the same, and nothing to do.
type recovery struct {
	spool   *Spool
	bigs    map[record.ID]int64 // large messages that no frame has named so far, and their sizes
	expect  uint64              // the sequence that comes next
	gaps    []gap               // sequences that no good frame bears
	known   [][2]uint64         // of these: accounted for by a dropped frame or a stub
	damaged bool                // something that was in custody can't be read
}

// gap is a run of sequences without a frame.
type gap struct {
	record.Drop
	from int64 // where in its segment the run should be
}

// recoverFolder reads what is there into custody and gives the messages that nobody knows the outcome of.
func (s *Spool) recoverFolder() (lost []record.ID, err error) {
	r := &recovery{spool: s, bigs: map[record.ID]int64{}, expect: 1}
	segments, err := r.list()
	if err != nil {
		return nil, err
	}
	s.mu.Lock() // nobody else is there yet: it is for the functions that want it held
	s.segments = segments
	s.mu.Unlock()
	for i, seg := range segments {
		if err := r.segment(seg, segments[i+1:]); err != nil {
			return nil, fmt.Errorf("%s: %w", seg.path, err)
		}
	}
	r.orphans()
	r.account()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.committer
	c.seq = max(r.expect, s.opt.MinSeq)
	c.floor = s.opt.MinSeq
	c.number = 1
	if n := len(segments); n > 0 {
		c.number = segments[n-1].number + 1
	}
	if len(c.owed) == 0 {
		s.newest = c.seq - 1
	}
	bySeq := func(a, b record.ID) int { return cmp.Compare(s.waiting[a].seq, s.waiting[b].seq) }
	for _, id := range slices.SortedFunc(maps.Keys(s.waiting), bySeq) {
		s.waive(id)
	}
	lost = slices.SortedFunc(maps.Keys(s.waiting), bySeq)
	for _, k := range s.staying.order {
		if st, ok := s.staying.get(k); ok && !st.queued {
			lost = append(lost, k.id)
		}
	}
	return lost, nil
}

// list finds the segments and reads their headers, ascending, and the large messages; what a crash left half made is removed.
func (r *recovery) list() (segments []*segment, err error) {
	s := r.spool
	files, err := s.fs.ReadDir(s.paths.dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		path := filepath.Join(s.paths.dir, f.Name)
		switch number, ok := segmentNumber(f.Name); {
		case ok:
			segments = append(segments, &segment{header: header{number: number}, path: path, disk: f.Size})
		case strings.HasSuffix(f.Name, tempSuffix), path == s.paths.probe:
			s.fs.Remove(path) // or the next start
		case path == s.paths.reserve:
			s.reserve.there = f.Size == s.cfg.ReserveBytes
		}
	}
	slices.SortFunc(segments, func(a, b *segment) int { return cmp.Compare(a.number, b.number) })
	for _, seg := range segments {
		s.used.Add(seg.disk)
		if err := r.header(seg); err != nil {
			return nil, fmt.Errorf("%s: %w", seg.path, err)
		}
	}
	if segments, err = r.leftovers(segments); err != nil {
		return nil, err
	}
	bigs, err := s.fs.ReadDir(s.paths.big)
	for _, f := range bigs {
		name, ok := strings.CutSuffix(f.Name, bigSuffix)
		if id, err := record.ParseID(name); ok && err == nil {
			r.bigs[id] = f.Size
		}
	}
	return segments, err
}

// leftovers sets the segments apart that could not be made whole and were never used: those between a segment and the one that it says
// comes before it.
func (r *recovery) leftovers(segments []*segment) (used []*segment, err error) {
	s := r.spool
	before := uint32(1<<32 - 1) // the least that a later one says
	for _, seg := range slices.Backward(segments) {
		if seg.number > before {
			empty := true
			err := r.scan(seg, seg.disk, func(f frame, _ []byte) { empty = empty && f.kind == frameDrop }, func(region) { empty = false })
			if err != nil {
				return nil, err
			}
			if empty {
				s.leftovers = append(s.leftovers, seg.path)
				s.used.Add(-seg.disk)
				continue
			}
			r.alarm("a spool segment stands where none should be", "segment", seg.path)
		}
		used = append(used, seg)
		if seg.first != 0 {
			before = min(before, seg.prev)
		}
	}
	slices.Reverse(used)
	return used, nil
}

// header reads the header of a segment. Where none of its copies is good, first stays zero.
func (r *recovery) header(seg *segment) error {
	f, err := r.spool.fs.OpenFile(seg.path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, segmentStart)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return err
	}
	h, whole, ok := parseHeader(b[:n], seg.number)
	if ok {
		seg.header = h
	}
	if !whole {
		r.alarm("the header of a spool segment is damaged", "segment", seg.path, "usable", ok)
		r.quarantine(seg)
	}
	return nil
}

// alarm reports damage.
func (r *recovery) alarm(text string, attrs ...any) {
	r.damaged = true
	r.spool.metrics.failures.WithLabelValues("damage").Inc()
	r.spool.log.Error(text, attrs...)
}

// segment reads one segment; later are those that come after it.
func (r *recovery) segment(seg *segment, later []*segment) error {
	if seg.first == 0 { // no header: nothing in it can be found
		r.unreadable(seg, later)
		return nil
	}
	r.expect = max(r.expect, seg.floor)
	if seg.number == r.spool.segments[0].number {
		r.expect = seg.first
	}
	r.gap(seg.first, gap{Drop: record.Drop{Reason: fmt.Sprintf("damaged: segment %d is missing", seg.prev)}})
	if seg.stub {
		return r.stub(seg)
	}
	var next *segment
	if i := slices.IndexFunc(later, func(l *segment) bool { return l.first != 0 && l.prev == seg.number }); i >= 0 {
		next = later[i]
	}
	return r.frames(seg, next, len(later) == 0)
}

// unreadable accounts for a segment without a header. Where it is the newest, nobody knows how many numbers it has used: then as many are
// given up as it could hold at most. Where it is the oldest, nobody knows its first; what the ledger has not seen is given up.
func (r *recovery) unreadable(seg *segment, later []*segment) {
	oldest := seg.number == r.spool.segments[0].number
	if oldest {
		r.expect = max(r.spool.opt.MinSeq, 1)
	}
	end := r.expect + uint64(seg.disk/frameHeader) + 1
	if i := slices.IndexFunc(later, func(l *segment) bool { return l.first != 0 }); i >= 0 {
		end = later[i].first
		if oldest && r.spool.opt.MinSeq == 0 {
			r.expect = end
		}
	}
	seg.first, seg.size, seg.durable = r.expect, seg.disk, seg.disk
	seg.markGone()
	r.gap(end, gap{Drop: record.Drop{Reason: fmt.Sprintf("damaged: segment %d has no readable header", seg.number)}})
	if !oldest { // what its header would say, for the stub that will stand in its place
		i := slices.Index(r.spool.segments, seg)
		prev := r.spool.segments[i-1]
		seg.prev, seg.prevEnd, seg.prevDurable = prev.number, prev.size, prev.durable
	}
}

// gap notes that the sequences from expect to before next have no frame.
func (r *recovery) gap(next uint64, g gap) {
	if next > r.expect {
		g.First, g.Last = r.expect, next-1
		r.gaps = append(r.gaps, g)
	}
	r.expect = max(r.expect, next)
}

// stub reads what a stub knows of older segments.
func (r *recovery) stub(seg *segment) error {
	seg.size, seg.durable = seg.disk, seg.disk
	seg.markGone()
	r.expect = max(r.expect, seg.next)
	var done, ended [][2]uint64
	ok, holes := false, 0
	err := r.scan(seg, seg.disk, func(f frame, meta []byte) {
		switch f.kind {
		case frameDone:
			ok = json.Unmarshal(meta, &done) == nil
		case frameEnded:
			ok = json.Unmarshal(meta, &ended) == nil && ok
		}
	}, func(region) { holes++ })
	if err != nil {
		return err
	}
	if !ok || holes > 0 {
		r.alarm("a stub in the spool is damaged: some records may be archived twice", "segment", seg.path)
		r.quarantine(seg)
	}
	r.known = append(r.known, done...)
	s := r.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, a := range maps.Clone(s.waiting) {
		if slices.ContainsFunc(done, func(run [2]uint64) bool { return run[0] <= a.seq && a.seq <= run[1] }) {
			s.release(s.settleAttempt(id, a))
		}
	}
	for _, run := range ended {
		for _, k := range s.staying.within(run) {
			s.endStay(k.id, nil)
		}
	}
	return nil
}

// scan runs scan over one segment.
func (r *recovery) scan(seg *segment, limit int64, good func(frame, []byte), bad func(region)) error {
	f, err := r.spool.fs.OpenFile(seg.path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return scan(f, seg.mark, segmentStart, min(limit, 1<<32-1), good, bad)
}

// frames reads the frames of a segment, up to where the next one (nil: none knows it) says that it ends. All before proven is known to
// have been on stable storage, so what can't be read there is damage; what can't be read behind it, in the newest segment, is the torn end
// of a write that nobody was told of.
func (r *recovery) frames(seg, next *segment, newest bool) (err error) {
	limit, proven := seg.disk, int64(segmentStart)
	if next != nil {
		limit, proven = next.prevEnd, max(proven, next.prevDurable)
	}
	var holes []region
	var inner error
	firstGap := len(r.gaps)
	seg.size = segmentStart
	err = r.scan(seg, limit, func(f frame, meta []byte) {
		if inner == nil {
			inner = r.frame(seg, f, meta)
		}
		seg.size = f.off + f.size()
		proven = max(proven, f.durable)
	}, func(hole region) { holes = append(holes, hole) })
	if err := errors.Join(err, inner); err != nil {
		return err
	}
	switch n := len(holes); {
	case next != nil:
		r.expect = max(r.expect, next.floor)
		r.gap(next.first, gap{from: seg.size})
		seg.size = limit
	case newest && n > 0 && holes[n-1].to == limit:
		r.gap(max(holes[n-1].maxSeq, r.expect)+1, gap{from: holes[n-1].from}) // one at least: the number may have been given
	}
	seg.durable = min(proven, seg.size)
	r.explain(seg, r.gaps[firstGap:], proven)
	for _, hole := range holes {
		if hole.from < proven {
			r.alarm("a spool segment is damaged", "segment", seg.path, "from", hole.from, "to", hole.to)
			r.quarantine(seg)
		} else {
			r.spool.log.Warn("a spool segment ends in a torn write that was never acknowledged", "segment", seg.path, "from", hole.from)
		}
	}
	return nil
}

// explain gives the gaps of a segment their reason.
func (r *recovery) explain(seg *segment, gaps []gap, proven int64) {
	for i := range gaps {
		switch g := &gaps[i]; {
		case g.Reason != "":
		case g.from < proven:
			g.Reason = fmt.Sprintf("damaged: segment %d at offset %d", seg.number, g.from)
		default:
			g.Reason = fmt.Sprintf("never acknowledged: segment %d ends in a torn write", seg.number)
		}
	}
}

// frame takes one good frame into custody.
func (r *recovery) frame(seg *segment, f frame, meta []byte) error {
	s := r.spool
	if f.kind.numbered() {
		if f.seq < r.expect {
			r.alarm("a sequence stands twice in the spool", "segment", seg.path, "offset", f.off, "seq", f.seq)
			r.quarantine(seg)
			return nil
		}
		r.gap(f.seq, gap{from: seg.size}) // seg.size: the end of the last good frame
		r.expect = f.seq + 1
	}
	if f.flags&flagBig != 0 {
		whole, err := r.bigFile(f)
		if err != nil {
			return err
		}
		if !whole {
			r.gaps = append(r.gaps, gap{Drop: record.Drop{First: f.seq, Last: f.seq, Reason: "damaged: message " + f.id.String()}})
			return nil
		}
	}
	var run *record.Drop
	if f.kind == frameDrop {
		run = new(record.Drop)
		if err := json.Unmarshal(meta, run); err != nil || run.First == 0 || run.First > run.Last || run.Last >= 1<<62 {
			r.alarm("a dropped run in the spool makes no sense", "segment", seg.path, "offset", f.off, "text", string(meta))
			return nil
		}
		r.known = append(r.known, [2]uint64{run.First, run.Last})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply(seg, f, run)
	return nil
}

// bigFile checks the file of a large message. One that is not what its frame says goes into quarantine.
func (r *recovery) bigFile(f frame) (whole bool, err error) {
	s := r.spool
	size, ok := r.bigs[f.id]
	if !ok {
		return false, nil // reported with its sequence
	}
	delete(r.bigs, f.id)
	path := s.paths.bigFile(f.id)
	if size == f.bodyLen {
		sum, err := sumFile(s.fs, path, size)
		if err != nil {
			return false, err
		}
		if sum == f.bodyCRC {
			return true, nil
		}
	}
	r.alarm("a large message in the spool is damaged", "path", path, "size", size, "expected", f.bodyLen)
	r.moveAway(f.id)
	return false, nil
}

// sumFile is the CRC-32C of a file of size bytes.
func sumFile(fs FS, path string, size int64) (sum uint32, err error) {
	f, err := fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, min(max(size, 1), windowSize/4))
	for off := int64(0); ; {
		n, err := f.ReadAt(b, off)
		sum = crc32.Update(sum, castagnoli, b[:n])
		off += int64(n)
		if err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
