package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Header is the first line of a commit. The checkpoint of the commit binds it by its SHA-256.
type Header struct {
	V        int           `json:"v"`
	Log      string        `json:"log"`
	Commit   uint64        `json:"commit"` // number, from 0
	Time     time.Time     `json:"time"`   // UTC, by the writer's clock, which may have been set back between two commits
	First    uint64        `json:"first"`  // number of the first entry: the size of the tree before
	Count    int           `json:"count"`
	Previous record.Digest `json:"previous,omitzero"` // of the bytes of the object before; zero in commit 0
	Pending  [][2]uint64   `json:"pending,omitempty"` // spool sequences that were in custody and not yet committed: first and last of each run
	Frontier []tlog.Hash   `json:"frontier,omitempty"`
}

// Numbered is an entry in its place.
type Numbered struct {
	N     uint64 // number in the log, from 0
	Entry record.Entry
	Raw   []byte // its line, without the newline: the bytes of the Merkle leaf. It shares memory with all of its commit
}

// Commit is one batch of entries, read and verified.
type Commit struct {
	Key        string
	SHA256     record.Digest // of the object
	Size       int64         // bytes of the object
	Header     Header
	Entries    []Numbered
	Checkpoint Checkpoint

	leaves []tlog.Hash
	after  frontier // of the tree with this commit in it
}

// end is the number of the entry after the last.
func (c *Commit) end() uint64 { return c.after.size }

// batch is a number of entries, encoded.
type batch struct {
	body  []byte // each line with its newline
	lines [][]byte
	seqs  [][2]uint64 // spool sequences that the entries account for
}

func encodeBatch(entries []record.Entry) (*batch, error) {
	if len(entries) == 0 {
		return nil, errors.New("a batch without entries")
	}
	if len(entries) > MaxBatch {
		return nil, fmt.Errorf("batch of %d entries, at most %d: %w", len(entries), MaxBatch, ErrTooLarge)
	}
	b := &batch{lines: make([][]byte, len(entries))}
	size := 0
	for i := range entries {
		e := &entries[i]
		line, err := MarshalEntry(*e)
		if err != nil {
			return nil, fmt.Errorf("entry %d of the batch, %s %s: %w", i, e.Kind, e.ID, err)
		}
		b.lines[i] = line
		size += len(line) + 1
		if e.Seq != 0 {
			b.seqs = append(b.seqs, [2]uint64{e.Seq, e.Seq})
		}
		if e.Drop != nil {
			b.seqs = append(b.seqs, [2]uint64{e.Drop.First, e.Drop.Last})
		}
	}
	if size > MaxBatchBytes {
		return nil, fmt.Errorf("batch of %d bytes, at most %d: %w", size, MaxBatchBytes, ErrTooLarge)
	}
	b.body = make([]byte, 0, size)
	for _, line := range b.lines {
		b.body = append(append(b.body, line...), '\n')
	}
	return b, nil
}

// newCommit is a commit on its way into the store. Its bytes are made once: whatever becomes of a Create, another try sends the same.
type newCommit struct {
	Commit
	object []byte
	body   []byte
}

// commit signs a batch on top of the tree before. Of h, V, Log, Commit, Time, Previous and Pending are the caller's.
func (b *batch) commit(signer note.Signer, archive string, h Header, before frontier) (*newCommit, error) {
	h.Time = h.Time.UTC().Truncate(time.Millisecond)
	h.First, h.Count, h.Frontier = before.size, len(b.lines), before.hashes
	if h.Commit > maxCommit || h.First > maxEntries-MaxBatch {
		return nil, fmt.Errorf("commit %d of log %s: %w", h.Commit, h.Log, ErrTooLarge)
	}
	header, err := marshalLine(&h)
	if err != nil {
		return nil, fmt.Errorf("commit %d of log %s: %w", h.Commit, h.Log, err)
	}
	c := &newCommit{body: b.body, Commit: Commit{Key: CommitKey(h.Log, h.Commit), Header: h}}
	c.after = frontier{size: before.size, hashes: slices.Clone(before.hashes)}
	c.leaves = make([]tlog.Hash, len(b.lines))
	for i, line := range b.lines {
		c.leaves[i] = tlog.RecordHash(line)
		c.after.add(c.leaves[i])
	}
	c.Checkpoint = Checkpoint{
		Archive: archive, Log: h.Log, Size: c.after.size, Root: c.after.root(), Commit: h.Commit, Header: record.Sum(header),
	}
	if err := c.Checkpoint.sign(signer); err != nil {
		return nil, err
	}
	text := slices.Concat(header, []byte("\n"), b.body, []byte("\n"), c.Checkpoint.Note)
	if len(text) > maxText {
		return nil, fmt.Errorf("commit of %d bytes, at most %d: %w", len(text), maxText, ErrTooLarge)
	}
	c.object = encodeObject(text)
	c.SHA256, c.Commit.Size = record.Sum(c.object), int64(len(c.object))
	return c, nil
}

func (c *newCommit) create(ctx context.Context, store object.Store, lock object.Lock) error {
	_, err := store.Create(ctx, c.Key, bytes.NewReader(c.object), lock)
	return err
}

// The object is a zstd frame (RFC 8878) and after it a skippable frame with the SHA-256 of the first, so that each flipped byte shows, in
// the last commit too, to which no other bears witness.
const (
	maxText     = MaxBatchBytes + 1<<20
	maxObject   = maxText + 1<<16 // what does not compress takes a little more
	trailerSize = 8 + 32
)

var trailerMagic = []byte{0x5A, 0x2A, 0x4D, 0x18, 32, 0, 0, 0} // skippable frame 0x184D2A5A with 32 bytes

// Both are safe for concurrent use as they are used here: EncodeAll and DecodeAll.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression),
			zstd.WithAllLitEntropyCompression(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxText))
		if err != nil {
			panic(err) // the options are constants
		}
		return d
	})
)

func encodeObject(text []byte) []byte {
	object := encoder().EncodeAll(text, nil)
	sum := record.Sum(object)
	return append(append(object, trailerMagic...), sum[:]...)
}

func decodeObject(object []byte) (text []byte, err error) {
	cut := len(object) - trailerSize
	if cut < 0 || !bytes.Equal(object[cut:cut+8], trailerMagic) {
		return nil, fmt.Errorf("%w: the SHA-256 at the end is not there", ErrAltered)
	}
	frame, sum := object[:cut], record.Digest(object[cut+8:])
	if record.Sum(frame) != sum {
		return nil, fmt.Errorf("%w: the bytes do not have the SHA-256 at the end", ErrAltered)
	}
	if len(frame) < 4 || binary.LittleEndian.Uint32(frame) != 0xFD2FB528 {
		return nil, fmt.Errorf("%w: not a zstd frame", ErrAltered)
	}
	if text, err = decoder().DecodeAll(frame, nil); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAltered, err)
	}
	return text, nil
}

// decodeHeader reads a commit's header and gives its line and what comes after it.
func decodeHeader(data []byte) (h Header, line, rest []byte, err error) {
	text, err := decodeObject(data)
	if err != nil {
		return Header{}, nil, nil, err
	}
	line, rest, _ = bytes.Cut(text, []byte("\n"))
	err = unmarshalLine(line, &h)
	if err == nil {
		err = h.validate()
	}
	if err != nil {
		return Header{}, nil, nil, fmt.Errorf("%w: header: %w", ErrAltered, err)
	}
	return h, line, rest, nil
}

// decodeCommit reads a commit and checks it in itself; all but the signature. Every error is ErrAltered.
func decodeCommit(data []byte) (*Commit, error) {
	h, line, rest, err := decodeHeader(data)
	if err != nil {
		return nil, err
	}
	c := &Commit{SHA256: record.Sum(data), Size: int64(len(data)), Header: h}
	if rest, err = c.decodeEntries(rest); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAltered, err)
	}
	signed, ok := bytes.CutPrefix(rest, []byte("\n"))
	if !ok {
		return nil, fmt.Errorf("%w: no empty line after %d entries", ErrAltered, h.Count)
	}
	c.Checkpoint.Note = signed
	c.Checkpoint.Header = record.Sum(line)
	return c, nil
}

func (c *Commit) decodeEntries(text []byte) (rest []byte, err error) {
	h := &c.Header
	room := min(h.Count, len(text)/64) // an entry is never that short; a count is only a claim
	c.Entries, c.leaves = make([]Numbered, 0, room), make([]tlog.Hash, 0, room)
	c.after = frontier{size: h.First, hashes: slices.Clone(h.Frontier)}
	pack := ""
	for i := range h.Count {
		line, after, ok := bytes.Cut(text, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("%d entries, %d announced", i, h.Count)
		}
		c.Entries = append(c.Entries, Numbered{N: h.First + uint64(i), Raw: line[:len(line):len(line)]})
		e := &c.Entries[i].Entry
		if err := unmarshalEntry(line, e, pack); err != nil {
			return nil, fmt.Errorf("entry %d: %w", h.First+uint64(i), err)
		}
		pack = e.Pack
		leaf := tlog.RecordHash(line)
		c.leaves = append(c.leaves, leaf)
		c.after.add(leaf)
		text = after
	}
	return text, nil
}

func (h *Header) validate() error {
	before := frontier{h.First, h.Frontier}
	switch {
	case h.V != record.Version:
		return fmt.Errorf("v is %d, not %d", h.V, record.Version)
	case !logName.MatchString(h.Log):
		return fmt.Errorf("log %q", h.Log)
	case h.Commit > maxCommit || h.First > maxEntries-MaxBatch:
		return errors.New("numbers out of range")
	case h.Count < 1 || h.Count > MaxBatch:
		return fmt.Errorf("count is %d", h.Count)
	case (h.Commit == 0) != (h.First == 0) || (h.Commit == 0) != h.Previous.IsZero():
		return fmt.Errorf("commit %d begins at entry %d, after object %s", h.Commit, h.First, h.Previous)
	case !before.valid():
		return fmt.Errorf("frontier of %d hashes before entry %d", len(h.Frontier), h.First)
	case !isUTC(h.Time):
		return fmt.Errorf("time %v is not UTC", h.Time)
	}
	return nil
}

// authenticate checks a decoded commit against its key's number, its signature, and its tree.
func (c *Commit) authenticate(number uint64, archive, log string, verifier note.Verifier) error {
	cp, err := OpenCheckpoint(c.Checkpoint.Note, archive, log, verifier)
	if err != nil {
		return err
	}
	h := &c.Header
	switch {
	case h.Log != log || h.Commit != number:
		return fmt.Errorf("%w: holds commit %d of log %s", ErrAltered, h.Commit, h.Log)
	case cp.Commit != number || cp.Header != c.Checkpoint.Header:
		return fmt.Errorf("%w: header is not the one that was signed", ErrAltered)
	case cp.Size != c.end() || cp.Root != c.after.root():
		return fmt.Errorf("%w: entries are not those that were signed", ErrAltered)
	}
	c.Checkpoint = cp
	return nil
}

// follows checks that a commit goes on where the one before it ended. Both are authentic, so what does not fit was signed twice over:
// the fault is laid to the earlier, whose bytes are not those that the later was written after.
func (c *Commit) follows(prev *Commit) error {
	h := &c.Header
	switch {
	case h.Previous != prev.SHA256:
		return fmt.Errorf("%s: %w: commit %d was written after other bytes", prev.Key, ErrAltered, h.Commit)
	case h.First != prev.end() || !slices.Equal(h.Frontier, prev.after.hashes):
		return fmt.Errorf("%s: %w: commit %d goes on from another tree", prev.Key, ErrAltered, h.Commit)
	}
	return nil
}
