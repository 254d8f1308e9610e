package pack

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Scanned describes a pack that was read from its start to its end.
type Scanned struct {
	Size    int64         // bytes of the object as stored
	SHA256  record.Digest // of the object as stored
	Records int           // that were given to the caller
}

// Scan reads a pack once, in order, and gives each record to fn, which may use it and its Item's Body until it returns (what the documents
// say may be kept). A large message is streamed: its Body can be opened once, and not after Seal; what fn leaves of it is read anyway. At
// the end the index and the seek table are held against what was there, so that a pack that is cut off or has lost frames is ErrCorrupt.
//
// Errors: that of fn as it is, ErrCorrupt, ErrNoIdentity, or a fault of r. With ErrCorrupt and ErrNoIdentity the rest of r has been read
// too: Size and SHA256 are of the whole object.
func Scan(r io.Reader, identities []age.Identity, fn func(*Record) error) (Scanned, error) {
	s := &scanner{src: &source{r: r, sum: sha256.New()}, fn: fn}
	err := s.scan(identities)
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNoIdentity) {
		if _, rest := io.Copy(io.Discard, struct{ io.Reader }{s.src}); rest != nil {
			err = fmt.Errorf("read pack: %w", rest)
		}
	}
	return Scanned{Size: s.src.n, SHA256: record.Digest(s.src.sum.Sum(nil)), Records: len(s.records)}, err
}

type scanner struct {
	src     *source
	fn      func(*Record) error
	br      *bufio.Reader // the zstd stream
	at      int64         // offset in it
	memory  memory
	frames  []frameSizes
	records []indexEntry
	indexed bool
}

func (s *scanner) scan(identities []age.Identity) error {
	s.br = bufio.NewReaderSize(s.src, 256<<10)
	if magic, _ := s.br.Peek(len(ageMagic)); string(magic) == ageMagic { // a fault comes up again
		if len(identities) == 0 {
			return ErrNoIdentity
		}
		plain, err := age.Decrypt(s.br, identities...)
		if err != nil {
			return s.src.fault(noIdentity(err))
		}
		s.br = bufio.NewReaderSize(plain, 64<<10)
	}
	for {
		f, err := openFrame(s.src, s.br, s.at, &s.memory)
		if errors.Is(err, errSkippable) {
			return s.seekTable()
		}
		if err != nil {
			return s.src.fault(err)
		}
		if s.indexed {
			return corrupt("frame at %d: behind the index", s.at)
		}
		if err := s.frame(f); err != nil {
			return err
		}
		s.frames = append(s.frames, frameSizes{compressed: uint32(f.zstd.n), raw: uint32(f.size)})
		s.at += f.zstd.n
	}
}

// frame gives the records of one frame.
func (s *scanner) frame(f *frame) error {
	first := len(s.records)
	for n := 0; ; n++ {
		m, err := f.member()
		if err == nil && n == 0 && m.id.IsZero() {
			s.indexed = true
			return s.damaged(s.index(f, m))
		}
		f.next = m
		var r *Record
		if err == nil {
			r, err = f.record()
		}
		if errors.Is(err, io.EOF) && n > 0 {
			break
		}
		if err != nil {
			return s.damaged(err)
		}
		if len(s.records) >= MaxRecords {
			return s.damaged(corrupt("more than %d records", MaxRecords))
		}
		s.records = append(s.records, indexEntry{ID: r.ID, Kind: r.Kind, Name: r.Name})
		if err := s.fn(r); err != nil {
			return err
		}
	}
	for i := range s.records[first:] {
		s.records[first+i].Frame, s.records[first+i].Length = f.at, f.zstd.n
	}
	return nil
}

// damaged names the frame.
func (s *scanner) damaged(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("frame at %d: %w", s.at, s.src.fault(err))
}

// index holds index.json against what was there.
func (s *scanner) index(f *frame, m *member) error {
	if limit := int64(200*len(s.records) + 100); m.size > limit {
		return corrupt("index.json of %d bytes for %d records", m.size, len(s.records))
	}
	f.held = memberSize(m.size) - maxDocuments // it may be larger than a record's documents; its size was looked at
	text, err := f.text(m)
	if err != nil {
		return err
	}
	var doc indexDocument
	if err := json.Unmarshal(text, &doc); err != nil {
		return corrupt("index.json: %v", err)
	}
	if len(doc.Records) != len(s.records) {
		return corrupt("index.json has %d records, there were %d", len(doc.Records), len(s.records))
	}
	for i, e := range doc.Records {
		if e != s.records[i] {
			return corrupt("record %s is not as index.json says", s.records[i].ID)
		}
	}
	end := make([]byte, len(endOfArchive))
	if err := f.read(end); err != nil {
		return err
	}
	if f.pos != f.size || !bytes.Equal(end, endOfArchive) {
		return corrupt("no end of the tar archive")
	}
	if err := f.end(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// seekTable holds the seek table against the frames. Nothing may follow it.
func (s *scanner) seekTable() error {
	if !s.indexed {
		return corrupt("ends without an index")
	}
	want := seekTable(s.frames)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s.br, got); err != nil {
		return fmt.Errorf("seek table: %w", s.src.fault(err))
	}
	if !bytes.Equal(got, want) {
		return corrupt("seek table is not of these frames")
	}
	switch _, err := s.br.ReadByte(); {
	case err == nil:
		return corrupt("bytes behind the seek table")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("end of pack: %w", s.src.fault(err))
	}
	return nil
}
