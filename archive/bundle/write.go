package bundle

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Files of the bag that grow with it, in the order in which the manifest has them.
const (
	fileLoad      = "data/load.dat"
	fileIndex     = "data/index.csv"
	fileMbox      = "data/messages.mbox"
	fileCustody   = "data/custody.jsonl"
	fileDecisions = "data/decisions.csv"
	filePrivilege = "data/privilege-log.csv"
	fileManifest  = "manifest-sha256.txt"
)

var growing = []string{fileLoad, fileIndex, fileMbox, fileCustody, fileDecisions, filePrivilege}

// inMemory is up to how many bytes a message is held in memory. A larger one is read again from its own file in the bag.
const inMemory = 4 << 20

// Points of progress: how much is written between two, at most. What came after the last is written again after a kill.
const (
	pointBytes = 256 << 20
	pointAfter = 20 * time.Second
)

var pointFiles int64 = 50_000 // less in tests

// progress is state/progress.json.
type progress struct {
	V       int             `json:"v"`
	Next    uint64          `json:"next"`   // number of the entry that follows the last one done
	Number  int64           `json:"number"` // of the next document
	Files   int64           `json:"files"`  // of the payload
	Octets  int64           `json:"octets"` // bytes of these
	Counts  Counts          `json:"counts"`
	Streams map[string]mark `json:"streams"`
}

// writer writes one bag.
type writer struct {
	job    *Job
	bag    string
	req    *Request
	snap   *archive.Snapshot
	o      *Options
	p      progress
	result Result

	streams  map[string]*stream // by name: those of growing and the manifest
	produced *stream            // state/produced: for each message given its SHA-256 and number, 40 bytes
	folded   map[uint64]uint32  // by 8 bytes of SHA-256, the place in produced
	folder   string             // that is known to be there
	buf      []byte             // of the present message
	line     []byte
	since    time.Time // of the last point
	files    int64     // since then
	octets   int64
}

func openWriter(j *Job, snap *archive.Snapshot, o *Options) (*writer, error) {
	w := &writer{job: j, bag: filepath.Join(j.part, bagFolder), req: &j.begun.Request, snap: snap, o: o, streams: map[string]*stream{}, since: time.Now()}
	text, err := os.ReadFile(j.state(fileMark))
	switch {
	case errors.Is(err, os.ErrNotExist):
		w.p = progress{V: Version, Number: w.req.Numbering.Start}
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(text, &w.p); err != nil || w.p.V != Version {
			return nil, fmt.Errorf("%s: %w", j.state(fileMark), ErrState)
		}
	}
	if err := w.open(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *writer) open() (err error) {
	for _, name := range append([]string{fileManifest}, growing...) {
		if w.streams[name], err = openStream(w.bag, name, w.p.Streams[name]); err != nil {
			return err
		}
	}
	if w.produced, err = openStream(filepath.Join(w.job.part, stateFolder), "produced", w.p.Streams["produced"]); err != nil {
		return err
	}
	if w.p.Streams == nil {
		w.begin()
	}
	if w.req.Fold {
		return w.recall()
	}
	return nil
}

// begin writes the first lines.
func (w *writer) begin() {
	mark := byteOrder
	if w.req.NoBOM {
		mark = ""
	}
	w.streams[fileLoad].Write(appendDAT([]byte(mark), columnNames)) // an error stays in the stream and comes up when it is flushed
	w.streams[fileIndex].Write(appendCSV([]byte(byteOrder), summaryNames...))
	w.streams[fileDecisions].Write(appendCSV(nil, "record", "log", "entry", "decision", "document", "reason"))
	w.streams[filePrivilege].Write(appendCSV([]byte(byteOrder), "Number", "Record", "Received (UTC)", "Sent (UTC)", "From", "To", "Cc", "Attachments", "Ground"))
}

// recall makes folded again.
func (w *writer) recall() error {
	w.folded = map[uint64]uint32{}
	r := io.NewSectionReader(w.produced.f, 0, w.produced.size)
	var b [producedSize]byte
	for i := uint32(0); ; i++ {
		if _, err := io.ReadFull(r, b[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		w.remember(b[:], i)
	}
}

const producedSize = sha256.Size + 8

func (w *writer) remember(b []byte, i uint32) {
	if key := binary.BigEndian.Uint64(b); w.folded != nil {
		if _, taken := w.folded[key]; !taken {
			w.folded[key] = i
		}
	}
}

// same gives the number of the document that has these bytes.
func (w *writer) same(sum record.Digest) (number int64, ok bool, err error) {
	i, ok := w.folded[binary.BigEndian.Uint64(sum[:])]
	if !ok {
		return 0, false, nil
	}
	if err := w.produced.w.Flush(); err != nil {
		return 0, false, err
	}
	var b [producedSize]byte
	if _, err := w.produced.f.ReadAt(b[:], int64(i)*producedSize); err != nil {
		return 0, false, err
	}
	return int64(binary.BigEndian.Uint64(b[sha256.Size:])), record.Digest(b[:sha256.Size]) == sum, nil
}

// all writes the records that are not done yet.
func (w *writer) all(ctx context.Context, hits *roaring64.Bitmap) error {
	total := int64(hits.GetCardinality())
	for m, err := range w.snap.Records(ctx, from(hits, w.p.Next)) {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.member(ctx, m); err != nil {
			return err
		}
		w.p.Next = m.N + 1
		if w.octets >= pointBytes || w.files >= pointFiles || time.Since(w.since) > pointAfter {
			if err := w.point(); err != nil {
				return err
			}
		}
		if w.o.Progress != nil {
			w.o.Progress(w.p.Counts.Hits, total, w.p.Counts.Bytes)
		}
	}
	if w.p.Counts.Hits != total {
		return fmt.Errorf("%d of %d records done: %w", w.p.Counts.Hits, total, ErrState)
	}
	return w.point()
}

func from(hits *roaring64.Bitmap, first uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		it := hits.Iterator()
		it.AdvanceIfNeeded(first)
		for it.HasNext() && yield(it.Next()) {
		}
	}
}

// point makes all that was written durable, and then says so: a later run goes on here.
func (w *writer) point() error {
	w.p.Streams = map[string]mark{}
	for name, s := range w.streams {
		m, err := s.mark()
		if err != nil {
			return err
		}
		w.p.Streams[name] = m
	}
	m, err := w.produced.mark()
	if err != nil {
		return err
	}
	w.p.Streams["produced"] = m
	if err := syncTree(w.job.part); err != nil {
		return err
	}
	text, err := json.Marshal(&w.p)
	if err != nil {
		return err
	}
	w.files, w.octets, w.since = 0, 0, time.Now()
	return writeSynced(w.job.state(fileMark), text)
}

func (w *writer) close() error {
	var errs []error
	for _, s := range w.streams {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	if w.produced != nil {
		errs = append(errs, w.produced.close())
	}
	return errors.Join(errs...)
}

// listed notes a file of the payload that is done.
func (w *writer) listed(name string, size int64, sum record.Digest) {
	w.p.Files++
	w.p.Octets += size
	w.files++
	w.octets += size
	m := w.streams[fileManifest]
	w.line = append(hex.AppendEncode(w.line[:0], sum[:]), "  "...)
	w.line = append(append(w.line, name...), '\n')
	m.Write(w.line)
}

// written is a file of the payload.
type written struct {
	name string
	size int64
	sum  record.Digest
	md5  [md5.Size]byte
}

// file writes a file of the payload from memory.
func (w *writer) file(name string, content []byte) (written, error) {
	out := written{name: name, size: int64(len(content)), sum: record.Sum(content)}
	path, err := w.path(name)
	if err == nil {
		err = os.WriteFile(path, content, 0o600)
	}
	if err == nil {
		w.listed(name, out.size, out.sum)
	}
	return out, err
}

// copy writes a file of the payload from a reader, which is read to its end. Where that fails the file goes again.
func (w *writer) copy(name string, r io.Reader) (out written, err error) {
	out.name = name
	path, err := w.path(name)
	if err != nil {
		return out, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return out, err
	}
	sums := [2]hash.Hash{sha256.New(), md5.New()}
	out.size, err = io.Copy(io.MultiWriter(f, sums[0], sums[1]), struct{ io.Reader }{&sourceReader{r}})
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return out, errors.Join(err, os.Remove(path))
	}
	out.sum, out.md5 = record.Digest(sums[0].Sum(nil)), [md5.Size]byte(sums[1].Sum(nil))
	w.listed(name, out.size, out.sum)
	return out, nil
}

// sourceError is an error of what is read, as against one of the disk that is written to.
type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }

type sourceReader struct{ r io.Reader }

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		err = &sourceError{err}
	}
	return n, err
}

// path gives the place of a file, in a folder that is there.
func (w *writer) path(name string) (string, error) {
	path := filepath.Join(w.bag, filepath.FromSlash(name))
	if dir := filepath.Dir(path); dir != w.folder {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
		w.folder = dir
	}
	return path, nil
}

// shelf is the folder, below those of each kind of file, of a document or a proof.
func shelf(n int64) string { return fmt.Sprintf("%04d", n/1000) }

// member writes one record.
func (w *writer) member(ctx context.Context, m archive.Member) error {
	e := &m.Entry
	late, err := w.snap.Late(ctx, e.ID)
	if err != nil {
		return err
	}
	c := custody{m: &m, late: late, decision: Unreadable}
	if m.Err == nil && m.Item.Envelope == nil {
		m.Err = fmt.Errorf("%s %s is no message", e.Kind, e.ID)
	}
	switch {
	case m.Err != nil:
		c.reason = "the record can't be read, or is not what the ledger says it was"
	case e.Kind == record.KindRefused:
		c.decision, c.reason = Envelope, "refused mail, of which the archive has the envelope alone"
	default:
		if err := w.decide(&m, &c); err != nil {
			return err
		}
	}
	w.p.Counts.add(c.decision)
	return w.record(&c)
}

// decide writes a message that can be read, where it is to be.
func (w *writer) decide(m *archive.Member, c *custody) error {
	if w.o.Review != nil {
		if ground, withheld := w.o.Review.Withhold(m.Entry.ID); withheld {
			c.decision, c.reason = Withheld, ground
			return w.withhold(m, c)
		}
	}
	sum := m.Item.Envelope.SHA256
	if number, same, err := w.same(sum); err != nil {
		return err
	} else if same {
		c.decision, c.document = Duplicate, w.req.Numbering.name(number)
		c.native = nativeName(number, c.document)
		return nil
	}
	number := w.p.Number
	err := w.produce(m, c)
	var source *sourceError
	if errors.As(err, &source) && archive.Damaged(err) { // found when the message was read to its end; nothing of it is in the bag
		c.reason = "the message can't be read, or is not what the ledger says it was"
		return nil
	} else if err != nil {
		return err
	}
	c.decision = Produced
	b := binary.BigEndian.AppendUint64(append([]byte{}, sum[:]...), uint64(number))
	w.remember(b, uint32(w.produced.size/producedSize))
	_, err = w.produced.Write(b)
	return err
}

// custody is a line of custody.jsonl and of decisions.csv.
type custody struct {
	m        *archive.Member
	late     []archive.Member
	decision Decision
	reason   string
	document string // number
	native   string // file with the message
}

// record writes the proofs, what the archive saw of a record, and what was decided.
func (w *writer) record(c *custody) error {
	e := &c.m.Entry
	base := "data/proofs/" + shelf(w.p.Counts.Hits-1) + "/" + e.ID.String()
	proof, err := w.proof(base+".tlog-proof", c.m)
	if err != nil {
		return err
	}
	b := append(w.line[:0], `{"v":1,"id":"`...)
	b, _ = e.ID.AppendText(b)
	b = append(b, `","decision":"`+string(c.decision)+`"`...)
	for _, f := range [][2]string{{"document", c.document}, {"native", c.native}, {"proof", proof}} {
		if f[1] != "" {
			b = append(b, `,"`+f[0]+`":"`+f[1]+`"`...)
		}
	}
	b = append(b, `,"log":"`+w.snap.Checkpoint.Log+`","number":`...)
	b = strconv.AppendUint(b, c.m.N, 10)
	b = append(append(b, `,"entry":`...), c.m.Raw...)
	if c.decision != Withheld && c.decision != Unreadable {
		b = append(append(b, `,"envelope":`...), c.m.Item.EnvelopeJSON...)
		if len(c.m.Item.Supplements) > 0 {
			b = append(b, `,"supplements":[`...)
			for i, s := range c.m.Item.Supplements {
				if i > 0 {
					b = append(b, ',')
				}
				b = append(b, s.JSON...)
			}
			b = append(b, ']')
		}
	}
	w.line = b
	for i := range c.late {
		l := &c.late[i]
		proof, err := w.proof(base+"-"+strconv.Itoa(i+1)+".tlog-proof", l)
		if err != nil {
			return err
		}
		if i == 0 {
			b = append(b, `,"late":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(b, `{"proof":"`+proof+`","number":`...)
		b = strconv.AppendUint(b, l.N, 10)
		b = append(append(b, `,"entry":`...), l.Raw...)
		if c.decision != Withheld && c.decision != Unreadable && l.Err == nil && l.Item.Supplement != nil {
			b = append(append(b, `,"supplement":`...), l.Item.Supplement.JSON...)
		}
		b = append(b, '}')
		if i == len(c.late)-1 {
			b = append(b, ']')
		}
	}
	b = append(b, '}')
	if bytes.IndexByte(b, '\n') >= 0 {
		return fmt.Errorf("record %s: a document of it has more than one line", e.ID)
	}
	w.streams[fileCustody].Write(append(b, '\n'))
	w.streams[fileDecisions].Write(appendCSV(nil, e.ID.String(), w.snap.Checkpoint.Log, strconv.FormatUint(c.m.N, 10), string(c.decision), c.document, c.reason))
	return nil
}

// proof writes the proof of an entry.
func (w *writer) proof(name string, m *archive.Member) (string, error) {
	text, err := w.snap.Proof(m.Numbered)
	if err != nil {
		return "", err
	}
	line := w.line // file uses it
	w.line = nil
	_, err = w.file(name, text)
	w.line = line
	return name, err
}
