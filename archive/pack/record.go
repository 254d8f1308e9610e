package pack

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Record is a record as it stands in a pack. Its documents are held, its message is not.
type Record struct {
	Kind record.Kind // KindMessage, KindRefused, KindSupplement or KindAct
	ID   record.ID
	Name string // of a late supplement
	// Place is whole, but for the Length of a large message in a Scan: that is known once the message has been read, or Seal was called.
	Place

	documents []document // the one that it begins with first
	size      int64      // of the message
	open      func() (io.ReadCloser, error)
	digest    func() (record.Digest, error) // of the message
}

type document struct {
	name string
	text []byte
}

// Seal is the seal (record.SealOf) of what the pack holds, to be held against the ledger's. For a message it reads all of it. Errors:
// ErrCorrupt, or a fault of the source.
func (r *Record) Seal() (record.Digest, error) {
	first := record.Sum(r.documents[0].text)
	if r.Kind != record.KindMessage {
		return record.SealOf(first), nil
	}
	message, err := r.digest()
	if err != nil {
		return record.Digest{}, fmt.Errorf("record %s: %w", r.ID, err)
	}
	return record.SealOf(message, first), nil
}

// MessageSize is the size of the message in bytes; 0 where there is none.
func (r *Record) MessageSize() int64 { return r.size }

// Item decodes the documents. Seq and Ref are 0: a pack does not know them. A document that does not fit its place is ErrCorrupt; that
// the message has the envelope's SHA-256 is for Seal to say.
func (r *Record) Item() (*record.Item, error) {
	it := &record.Item{Kind: r.Kind, ID: r.ID}
	first := r.documents[0].text
	switch r.Kind {
	case record.KindAct:
		it.Act, it.ActJSON = new(record.Act), first
		if err := json.Unmarshal(first, it.Act); err != nil || it.Act.ID != r.ID {
			return nil, corrupt("record %s: act.json is not of this record", r.ID)
		}
	case record.KindSupplement:
		s, err := r.supplement(&r.documents[0])
		if err != nil {
			return nil, err
		}
		it.Supplement = s
	default:
		it.Envelope, it.EnvelopeJSON = new(record.Envelope), first
		if err := json.Unmarshal(first, it.Envelope); err != nil || it.Envelope.ID != r.ID {
			return nil, corrupt("record %s: envelope.json is not of this record", r.ID)
		}
		for i := range r.documents[1:] {
			s, err := r.supplement(&r.documents[1+i])
			if err != nil {
				return nil, err
			}
			it.Supplements = append(it.Supplements, *s)
		}
		if r.Kind != record.KindMessage {
			break
		}
		if it.Envelope.Size != r.size {
			return nil, corrupt("record %s: message of %d bytes, the envelope says %d", r.ID, r.size, it.Envelope.Size)
		}
		it.Body = r.open
	}
	return it, nil
}

func (r *Record) supplement(d *document) (*record.SupplementDoc, error) {
	s := &record.SupplementDoc{JSON: d.text}
	if err := json.Unmarshal(d.text, &s.Supplement); err != nil || s.ID != r.ID || s.Name != d.name {
		return nil, corrupt("record %s: %s.json is not of this record", r.ID, d.name)
	}
	return s, nil
}

// frame is the content of one data frame, read from its start to its end.
type frame struct {
	src   *source
	zstd  *frameReader
	at    int64     // offset of the frame
	r     io.Reader // its errors are io.EOF, ErrCorrupt, or faults of the source
	size  int64     // of the content
	pos   int64     // how far r is
	raw   []byte    // the content, where it is held; then r reads from it
	next  *member
	held  int64           // bytes of documents held for the record at hand
	block [blockSize]byte // what read lends: a header, or padding
	left  bytes.Reader    // what is left of raw; r, where the content is held
	msg   *message        // the last record's, where the content is not held
}

// openFrame begins the frame that br, which reads from src, is at. Memory for frames that are held is lent by m.
func openFrame(src *source, br *bufio.Reader, at int64, m *memory) (*frame, error) {
	z, err := newFrameReader(br)
	if err != nil {
		return nil, err
	}
	f := &frame{src: src, zstd: z, at: at, size: z.raw}
	if f.size > frameSize {
		dec, err := newStreamDecoder(z)
		if err != nil {
			return nil, src.fault(err)
		}
		f.r = &faultReader{dec, src}
		return f, nil
	}
	if m.raw, m.comp, err = z.decode(m.raw, m.comp); err != nil {
		return nil, src.fault(err)
	}
	f.raw, f.r = m.raw, &f.left
	f.left.Reset(f.raw)
	return f, nil
}

// memory is reused from frame to frame.
type memory struct{ raw, comp []byte }

// record gives the next record, or io.EOF. What is left of the message before is passed over.
func (f *frame) record() (*Record, error) {
	m, err := f.member()
	if err != nil {
		return nil, err
	}
	r := &Record{ID: m.id, Place: Place{Frame: f.at}}
	f.held = 0
	if err := f.parse(r, m); err != nil {
		return nil, err
	}
	if f.msg == nil && f.pos == f.size { // also a large frame is read to its end now
		if err := f.end(); !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	if f.msg == nil {
		r.Length = f.zstd.n
	}
	return r, nil
}

// parse reads the members of a record that begins with m.
func (f *frame) parse(r *Record, m *member) error {
	name, isJSON := strings.CutSuffix(m.base, suffixJSON)
	switch {
	case m.id.IsZero() || !isJSON:
		return corrupt("tar member %s where a record begins", m.name())
	case name == nameEnvelope:
		return f.message(r, m)
	case name == nameAct:
		r.Kind = record.KindAct
	case isSupplement(name):
		r.Kind, r.Name = record.KindSupplement, name
	default:
		return corrupt("tar member %s", m.name())
	}
	return f.document(r, m, name)
}

// message reads the members of a record that begins with an envelope.
func (f *frame) message(r *Record, m *member) error {
	if err := f.document(r, m, nameEnvelope); err != nil {
		return err
	}
	for {
		m, err := f.member()
		if errors.Is(err, io.EOF) {
			r.Kind = record.KindRefused
			return nil
		}
		if err != nil {
			return err
		}
		name, isJSON := strings.CutSuffix(m.base, suffixJSON)
		switch {
		case m.id == r.ID && m.base == nameMessage:
			r.Kind, r.size = record.KindMessage, m.size
			return f.body(r, m)
		case m.id == r.ID && isJSON && isSupplement(name):
			if err := f.document(r, m, name); err != nil {
				return err
			}
		default: // of the next record
			r.Kind, f.next = record.KindRefused, m
			return nil
		}
	}
}

// member reads the next header, or gives the one that was read too early.
func (f *frame) member() (*member, error) {
	if m := f.next; m != nil {
		f.next = nil
		return m, nil
	}
	if f.msg != nil {
		if err := f.msg.finish(); err != nil {
			return nil, err
		}
		f.msg = nil
	}
	if f.pos == f.size {
		return nil, f.end()
	}
	if err := f.read(f.block[:]); err != nil {
		return nil, err
	}
	m, err := parseHeader(f.block[:])
	if err == nil && m.size > f.size-f.pos {
		err = corrupt("tar member %s of %d bytes is larger than its frame", m.name(), m.size)
	}
	return m, err
}

// end reads on to where the frame's checksum has been looked at.
func (f *frame) end() error {
	if n, err := f.r.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		if err == nil {
			err = corrupt("zstd frame longer than its header says")
		}
		return err
	}
	return io.EOF
}

func (f *frame) document(r *Record, m *member, name string) error {
	text, err := f.text(m)
	if err != nil {
		return err
	}
	r.documents = append(r.documents, document{name, text})
	return nil
}

// text reads a document. Its memory grows with what arrives, not with what a header says.
func (f *frame) text(m *member) ([]byte, error) {
	f.held += memberSize(m.size)
	if f.held > maxDocuments {
		return nil, corrupt("%s: documents of more than %d bytes", m.name(), maxDocuments)
	}
	var text []byte
	if f.raw != nil {
		text = make([]byte, m.size)
		if err := f.read(text); err != nil {
			return nil, err
		}
	} else {
		var b bytes.Buffer
		n, err := io.Copy(&b, io.LimitReader(f.r, m.size))
		f.pos += n
		if err != nil {
			return nil, err
		}
		if n < m.size {
			return nil, errShort
		}
		text = b.Bytes()
	}
	return text, f.pad(m.size)
}

// body points a record at its message.
func (f *frame) body(r *Record, m *member) error {
	if f.raw == nil {
		f.msg = &message{f: f, record: r, size: m.size, left: m.size, sum: sha256.New()}
		r.open, r.digest = f.msg.open, f.msg.digest
		return nil
	}
	text := f.raw[f.pos : f.pos+m.size]
	r.open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	r.digest = func() (record.Digest, error) { return record.Sum(text), nil }
	f.pos += m.size
	f.left.Reset(f.raw[f.pos:])
	return f.pad(m.size)
}

func (f *frame) read(p []byte) error {
	n, err := io.ReadFull(f.r, p)
	f.pos += int64(n)
	return short(err)
}

var errShort = corrupt("content ends early")

// short is for places where there must be more.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errShort
	}
	return err
}

func (f *frame) pad(size int64) error {
	b := f.block[:padding(size)]
	if err := f.read(b); err != nil {
		return err
	}
	if !bytes.Equal(b, endOfArchive[:len(b)]) {
		return corrupt("tar padding that is not zero")
	}
	return nil
}

// message is the message of a large frame: it is read once, as it comes by.
type message struct {
	f      *frame
	record *Record
	size   int64
	left   int64
	length int64 // that the frame must have; 0: any
	sum    hash.Hash
	opened bool
	err    error // from the first fault on
}

func (m *message) open() (io.ReadCloser, error) {
	if m.opened || m.left < m.size {
		return nil, errors.New("a large message is read once in a scan")
	}
	m.opened = true
	return m, nil
}

// Read ends with io.EOF only when the frame has been read to its end and its checksum holds.
func (m *message) Read(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	if m.left == 0 {
		m.err = m.end()
		return 0, m.err
	}
	n, err := m.f.r.Read(p[:min(int64(len(p)), m.left)])
	m.left -= int64(n)
	m.f.pos += int64(n)
	m.sum.Write(p[:n])
	if m.left > 0 {
		m.err = short(err)
	} else if !errors.Is(err, io.EOF) {
		m.err = err
	}
	return n, m.err
}

// end gives io.EOF where nothing but the frame's own end follows.
func (m *message) end() error {
	if err := m.f.pad(m.size); err != nil {
		return err
	}
	if m.f.pos != m.f.size {
		return corrupt("tar members behind a large message")
	}
	err := m.f.end()
	if !errors.Is(err, io.EOF) {
		return err
	}
	m.record.Length = m.f.zstd.n
	if m.length != 0 && m.length != m.f.zstd.n {
		return corrupt("a frame of %d bytes, not of %d", m.f.zstd.n, m.length)
	}
	return io.EOF
}

// Close does not end the reading: what is left is passed over later.
func (m *message) Close() error { return nil }

func (m *message) finish() error {
	if m.err == nil {
		io.CopyBuffer(io.Discard, struct{ io.Reader }{m}, make([]byte, 64<<10))
	}
	if errors.Is(m.err, io.EOF) {
		return nil
	}
	return m.err
}

func (m *message) digest() (record.Digest, error) {
	if err := m.finish(); err != nil {
		return record.Digest{}, err
	}
	return record.Digest(m.sum.Sum(nil)), nil
}
