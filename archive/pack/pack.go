// Package pack is the container of the archive: one object that holds many records which may expire in the same month.
//
// What it promises: a pack is an ordinary tar archive, compressed with zstd and, where recipients are given, encrypted with age, so that
// those three tools read it without us. It is written in one pass to an output that need not seek. One record is read with one ranged
// read, a whole pack in one pass, and whatever the bytes say, memory stays bounded: a message is streamed, never held. FORMAT.md beside
// this file describes every byte.
//
// The package knows nothing of object stores or ledgers. It is given bytes and places, and tells seals.
package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// What callers tell apart with errors.Is. An error that is none of these is a fault of the output or of the source.
var (
	ErrItem       = errors.New("record can't be packed")         // its own fault: the body is unreadable, or not what its envelope says
	ErrFull       = errors.New("pack is full")                   // MaxRecords
	ErrCorrupt    = errors.New("pack is damaged")                // the bytes are not what a Writer writes
	ErrNotFound   = errors.New("no such record in this frame")   // the place is sound and holds others
	ErrNoIdentity = errors.New("no identity can open this pack") // it is encrypted to others, or none was given
)

// MaxRecords bounds the records of one pack. At the usual size of a pack there are some ten thousand.
const MaxRecords = 1 << 20

const (
	// frameSize is how much raw tar the records of one frame may be together. A larger record has a frame of its own.
	frameSize = 1 << 20
	// maxRecord bounds one record, in bytes of raw tar: a frame's sizes in the seek table have 32 bits, and incompressible data grows a little.
	maxRecord = 1<<32 - 1<<24
	// maxDocuments bounds what is held in memory of one record: its JSON, with a tar header for each, in bytes.
	maxDocuments = 64 << 20
)

// Place is where in the pack's zstd stream (inside age, where encrypted) a frame is, in bytes. A ledger entry has it.
type Place struct{ Frame, Length int64 }

// Source opens n bytes of a pack from off, as it is stored. It is object.Store's Open with the key filled in. Safe for concurrent use. A
// stream that ends early without an error is taken for damage, one that ends with an error for a fault of the source.
type Source func(ctx context.Context, off, n int64) (io.ReadCloser, error)

// The members of a record, each under the record's id. Those that are not named here are supplements.
const (
	nameEnvelope = "envelope"
	nameAct      = "act"
	nameMessage  = "message.eml"
	nameIndex    = "index.json" // of the pack; it has no id
	suffixJSON   = ".json"
)

// supplementName is what a supplement may be called: it becomes a file name.
var supplementName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

func isSupplement(name string) bool {
	return name != nameEnvelope && name != nameAct && supplementName.MatchString(name)
}

// indexDocument is index.json: what is in the pack, in order. It serves those who come with standard tools; Scan holds it against what it saw.
type indexDocument struct {
	V       int          `json:"v"`
	Records []indexEntry `json:"records"`
}

type indexEntry struct {
	ID     record.ID   `json:"id"`
	Kind   record.Kind `json:"kind"`
	Name   string      `json:"name,omitempty"` // of a late supplement
	Frame  int64       `json:"frame"`
	Length int64       `json:"length"`
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrCorrupt)...)
}
