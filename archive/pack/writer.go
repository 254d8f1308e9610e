package pack

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Options say how a pack is written.
type Options struct {
	Recipients []age.Recipient // none: not encrypted
}

// Writer writes one pack. Not safe for concurrent use. It holds one frame (1 MiB) and a few dozen bytes for each record.
type Writer struct {
	out    *digestWriter
	age    io.WriteCloser // nil: not encrypted
	zstd   io.Writer      // where frames go
	offset int64          // bytes of frames so far
	frames []frameSizes

	raw     []byte // tar of the open frame
	comp    []byte
	records []Placed
	placed  int // how many of them are in finished frames
	seen    map[recordName]struct{}
	content int64
	newest  int64 // Unix seconds
	err     error
}

// Placed says where a record has gone and what its ledger entry commits to.
type Placed struct {
	Kind record.Kind
	ID   record.ID
	Name string // of a late supplement
	Seal record.Digest
	Place
}

// Summary describes a whole pack.
type Summary struct {
	Size    int64         // bytes of the object as stored
	SHA256  record.Digest // of the object as stored: after age, where encrypted
	Raw     int64         // bytes of messages and documents before compression
	Records []Placed      // in the order of Add
}

type recordName struct {
	id   record.ID
	name string
}

// NewWriter begins a pack. The Writer does not close w.
func NewWriter(w io.Writer, o Options) (*Writer, error) {
	p := &Writer{out: &digestWriter{w: w, sum: sha256.New()}, seen: map[recordName]struct{}{}}
	p.zstd = p.out
	if len(o.Recipients) > 0 {
		var err error
		if p.age, err = age.Encrypt(p.out, o.Recipients...); err != nil {
			return nil, fmt.Errorf("encrypt pack: %w", err)
		}
		p.zstd = p.age
	}
	return p, nil
}

// Add takes a record in: KindMessage, KindRefused, KindSupplement or KindAct. The body is read once, to its end, and must have the size
// and the digest that the envelope gives. After an error, which is ErrItem where the record itself is at fault, the pack can't be
// finished: every later call gives the same error.
func (w *Writer) Add(it *record.Item) error {
	if w.err == nil {
		w.err = w.add(it)
	}
	return w.err
}

// Has says that a document of this record is in the pack already, as when a crash made a delivery's supplement twice: it belongs into
// another pack.
func (w *Writer) Has(it *record.Item) bool {
	list, err := parts(it)
	if err != nil {
		return false // Add says why
	}
	for _, p := range list {
		if _, twice := w.seen[recordName{it.ID, p.name}]; twice {
			return true
		}
	}
	return false
}

// Size is how many bytes have been written to the output. The open frame, at most 1 MiB before compression, is not among them.
func (w *Writer) Size() int64 { return w.out.n }

// Close writes what is missing of the pack, and ends it. Records is complete only now: the length of a frame is known when it is.
func (w *Writer) Close() (*Summary, error) {
	if w.err == nil {
		if w.err = w.finish(); w.err == nil {
			w.err = errors.New("pack is closed")
			return &Summary{Size: w.out.n, SHA256: record.Digest(w.out.sum.Sum(nil)), Raw: w.content, Records: w.records}, nil
		}
	}
	return nil, w.err
}

func (w *Writer) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	doc := indexDocument{V: record.Version, Records: make([]indexEntry, len(w.records))}
	for i, r := range w.records {
		doc.Records[i] = r.indexEntry()
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("pack index: %w", err)
	}
	w.appendDocument(&member{base: nameIndex, size: int64(len(text)), time: w.newest}, text)
	w.raw = append(w.raw, endOfArchive...)
	if err := w.flush(); err != nil {
		return err
	}
	if err := writeAll(w.zstd, seekTable(w.frames)); err != nil {
		return err
	}
	if w.age != nil {
		if err := w.age.Close(); err != nil {
			return fmt.Errorf("encrypt pack: %w", err)
		}
	}
	return nil
}

func (p *Placed) indexEntry() indexEntry {
	return indexEntry{ID: p.ID, Kind: p.Kind, Name: p.Name, Frame: p.Frame, Length: p.Length}
}

// part is one document of a record.
type part struct {
	name string // without .json
	time time.Time
	text []byte
}

// parts gives a record's documents, the one that it begins with first.
func parts(it *record.Item) ([]part, error) {
	var list []part
	switch {
	case it.Kind == record.KindMessage && it.Envelope != nil && it.Body != nil, it.Kind == record.KindRefused && it.Envelope != nil:
		list = append(list, part{nameEnvelope, it.Envelope.Received, it.EnvelopeJSON})
		for i := range it.Supplements {
			s := &it.Supplements[i]
			list = append(list, part{s.Name, s.Time, s.JSON})
		}
	case it.Kind == record.KindSupplement && it.Supplement != nil:
		list = append(list, part{it.Supplement.Name, it.Supplement.Time, it.Supplement.JSON})
	case it.Kind == record.KindAct && it.Act != nil:
		list = append(list, part{nameAct, it.Act.Time, it.ActJSON})
	default:
		return nil, fmt.Errorf("a record of kind %q without what belongs to it: %w", it.Kind, ErrItem)
	}
	if it.ID.IsZero() {
		return nil, fmt.Errorf("no id: %w", ErrItem)
	}
	return list, nil
}

// check refuses what a reader would refuse, before a byte is written, and gives the record's size as raw tar.
func (w *Writer) check(it *record.Item, list []part) (int64, error) {
	size := int64(0)
	for i, p := range list {
		if (i > 0 || it.Kind == record.KindSupplement) && !isSupplement(p.name) {
			return 0, fmt.Errorf("supplement named %q: %w", p.name, ErrItem)
		}
		key := recordName{it.ID, p.name}
		if _, twice := w.seen[key]; twice {
			return 0, fmt.Errorf("%s is in this pack already: %w", p.name, ErrItem)
		}
		w.seen[key] = struct{}{}
		size += memberSize(int64(len(p.text)))
	}
	if size > maxDocuments {
		return 0, fmt.Errorf("documents of %d bytes: %w", size, ErrItem)
	}
	if it.Kind == record.KindMessage {
		if it.Envelope.Size < 0 || it.Envelope.Size > maxRecord-size-memberSize(0)-blockSize {
			return 0, fmt.Errorf("a message of %d bytes: %w", it.Envelope.Size, ErrItem)
		}
		size += memberSize(it.Envelope.Size)
	}
	return size, nil
}

func (w *Writer) add(it *record.Item) error {
	if len(w.records) >= MaxRecords {
		return ErrFull
	}
	list, err := parts(it)
	if err != nil {
		return fmt.Errorf("record %s: %w", it.ID, err)
	}
	size, err := w.check(it, list)
	if err != nil {
		return fmt.Errorf("record %s: %w", it.ID, err)
	}
	if int64(len(w.raw))+size > frameSize || w.followsItsRecord(it) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	placed := Placed{Kind: it.Kind, ID: it.ID}
	if it.Kind == record.KindSupplement {
		placed.Name = it.Supplement.Name
	}
	if size > frameSize {
		placed.Seal, err = w.addLarge(it, list, size)
	} else {
		placed.Seal, err = w.addSmall(it, list)
	}
	if err != nil {
		return err
	}
	w.records = append(w.records, placed)
	if size > frameSize {
		w.place()
	}
	return nil
}

// followsItsRecord says whether a late supplement would come to stand right behind refused mail that it belongs to, where it could not be
// told from one that was known by then. (A message can't be meant: it ends with message.eml.)
func (w *Writer) followsItsRecord(it *record.Item) bool {
	if it.Kind != record.KindSupplement || w.placed == len(w.records) {
		return false
	}
	last := w.records[len(w.records)-1]
	return last.ID == it.ID && last.Kind == record.KindRefused
}

// addSmall puts a record into the open frame.
func (w *Writer) addSmall(it *record.Item, list []part) (record.Digest, error) {
	for _, p := range list {
		w.appendDocument(w.memberOf(it, p), p.text)
	}
	if it.Kind != record.KindMessage {
		return record.SealOf(record.Sum(list[0].text)), nil
	}
	m := w.messageOf(it)
	w.raw = m.appendHeader(w.raw)
	start := len(w.raw)
	w.raw = append(w.raw, make([]byte, m.size+padding(m.size))...)
	body, err := openBody(it)
	if err != nil {
		return record.Digest{}, err
	}
	defer body.Close()
	text := w.raw[start : start+int(m.size)]
	if _, err := io.ReadFull(body, text); err != nil {
		return record.Digest{}, body.short(err)
	}
	sum := record.Sum(text)
	return record.SealOf(sum, record.Sum(list[0].text)), body.check(sum)
}

// addLarge gives a record a frame of its own and streams it.
func (w *Writer) addLarge(it *record.Item, list []part, size int64) (record.Digest, error) {
	enc := streamEncoders.Get().(*zstd.Encoder)
	defer func() {
		enc.Reset(nil)
		streamEncoders.Put(enc)
	}()
	count := &countWriter{w: w.zstd}
	enc.ResetContentSize(count, size)
	for _, p := range list {
		m := w.memberOf(it, p)
		if err := writeAll(enc, m.appendHeader(nil), p.text, endOfArchive[:padding(m.size)]); err != nil {
			return record.Digest{}, err
		}
	}
	seal := record.SealOf(record.Sum(list[0].text))
	if it.Kind == record.KindMessage {
		m := w.messageOf(it)
		if err := writeAll(enc, m.appendHeader(nil)); err != nil {
			return record.Digest{}, err
		}
		sum, err := copyBody(enc, it, m.size)
		if err != nil {
			return record.Digest{}, err
		}
		if err := writeAll(enc, endOfArchive[:padding(m.size)]); err != nil {
			return record.Digest{}, err
		}
		seal = record.SealOf(sum, record.Sum(list[0].text))
	}
	if err := enc.Close(); err != nil {
		return record.Digest{}, fmt.Errorf("write pack: %w", err)
	}
	w.frames = append(w.frames, frameSizes{compressed: uint32(count.n), raw: uint32(size)})
	return seal, nil
}

// memberOf and messageOf make tar headers, and count what they stand for.
func (w *Writer) memberOf(it *record.Item, p part) *member {
	w.newest = max(w.newest, unixTime(p.time))
	w.content += int64(len(p.text))
	return &member{id: it.ID, base: p.name + suffixJSON, size: int64(len(p.text)), time: unixTime(p.time)}
}

func (w *Writer) messageOf(it *record.Item) *member {
	w.content += it.Envelope.Size
	return &member{id: it.ID, base: nameMessage, size: it.Envelope.Size, time: unixTime(it.Envelope.Received)}
}

func (w *Writer) appendDocument(m *member, text []byte) {
	w.raw = m.appendHeader(w.raw)
	w.raw = append(w.raw, text...)
	w.raw = append(w.raw, endOfArchive[:padding(m.size)]...)
}

func writeAll(w io.Writer, texts ...[]byte) error {
	for _, b := range texts {
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("write pack: %w", err)
		}
	}
	return nil
}

// flush ends the open frame.
func (w *Writer) flush() error {
	if len(w.raw) == 0 {
		return nil
	}
	w.comp = frameEncoder().EncodeAll(w.raw, w.comp[:0])
	if err := writeAll(w.zstd, w.comp); err != nil {
		return err
	}
	w.frames = append(w.frames, frameSizes{compressed: uint32(len(w.comp)), raw: uint32(len(w.raw))})
	w.raw = w.raw[:0]
	w.place()
	return nil
}

// place tells the records that are not in a finished frame yet that they are in the last one.
func (w *Writer) place() {
	length := int64(w.frames[len(w.frames)-1].compressed)
	for ; w.placed < len(w.records); w.placed++ {
		w.records[w.placed].Place = Place{Frame: w.offset, Length: length}
	}
	w.offset += length
}

// body is a message on its way into a pack.
type body struct {
	io.ReadCloser
	it *record.Item
}

func openBody(it *record.Item) (*body, error) {
	r, err := it.Body()
	if err != nil {
		return nil, fmt.Errorf("record %s: open message: %w: %w", it.ID, ErrItem, err)
	}
	return &body{r, it}, nil
}

func (b *body) short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("record %s: message ends before the %d bytes of its envelope: %w", b.it.ID, b.it.Envelope.Size, ErrItem)
	}
	return fmt.Errorf("record %s: read message: %w: %w", b.it.ID, ErrItem, err)
}

// check says whether the message ends here, and is the one of the envelope.
func (b *body) check(sum record.Digest) error {
	switch n, err := io.ReadFull(b, make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("record %s: message is longer than the %d bytes of its envelope: %w", b.it.ID, b.it.Envelope.Size, ErrItem)
	case !errors.Is(err, io.EOF):
		return b.short(err)
	case sum != b.it.Envelope.SHA256:
		return fmt.Errorf("record %s: message has SHA-256 %s, its envelope says %s: %w", b.it.ID, sum, b.it.Envelope.SHA256, ErrItem)
	}
	return nil
}

// copyBody streams a message and gives its digest.
func copyBody(w io.Writer, it *record.Item, size int64) (record.Digest, error) {
	body, err := openBody(it)
	if err != nil {
		return record.Digest{}, err
	}
	defer body.Close()
	sum := sha256.New()
	buf := make([]byte, 64<<10)
	for left := size; left > 0; {
		n := min(left, int64(len(buf)))
		if _, err := io.ReadFull(body, buf[:n]); err != nil {
			return record.Digest{}, body.short(err)
		}
		sum.Write(buf[:n])
		if err := writeAll(w, buf[:n]); err != nil {
			return record.Digest{}, err
		}
		left -= n
	}
	d := record.Digest(sum.Sum(nil))
	return d, body.check(d)
}

// digestWriter hashes and counts what is stored.
type digestWriter struct {
	w   io.Writer
	sum hash.Hash
	n   int64
}

func (d *digestWriter) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.sum.Write(p[:n])
	d.n += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
