// Package extract gets the text out of files that come with mail: documents, archives and what is in them.
//
// What it promises: a file of any bytes costs no more than Limits say, in time, memory and text, and what is wrong with it costs the text of
// that file and nothing else. Whatever text is not given is said: every file that could not be read to its end has a Mark, which says how it
// stands and why, so that a search can list what it has not seen. A file without a mark was read whole.
//
// Extract does the work where it is called. Files are hostile, and the libraries that read them were not made for that; so the index calls a
// Pool instead, which has Extract called in a process of its own, one that may hang, grow or die.
//
// A format is one Extractor and one row of the table in formats.go. Formats are told by their first bytes, then by the media type, then by
// the end of the name: senders mislabel. Pictures, sound and moving pictures have no text that this package knows of, and no mark.
package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Errors that an Extractor returns, or wraps, as they are. Any other means that the file is damaged or not understood: Failed.
var (
	// ErrEncrypted: the file can't be read without a key or a password.
	ErrEncrypted = errors.New("encrypted")
	// ErrLimit: more was asked than the limits allow. Output and what it gives return it; an Extractor stops then. The mark is made already.
	ErrLimit = errors.New("past the limit")
)

// Extractor reads one file and gives its text and the files in it to out. It has the file in memory, runs alone in its process, and may use
// as much as the limits allow; it must end soon when ctx does, as far as its library lets it. It stops when a method of out returns an error,
// and returns that error. It may panic: the file is then marked as Failed.
type Extractor func(ctx context.Context, in Input, out *Output) error

// Input is one file.
type Input struct {
	io.ReaderAt
	Size int64
	Name string // as it was sent, or as the archive has it; may be empty; no path to anything
	Type string // media type in lower case without parameters, as it was declared; may be empty
}

// Reader reads the file from its beginning.
func (in Input) Reader() *io.SectionReader { return io.NewSectionReader(in, 0, in.Size) }

// Bytes gives the file as a slice, which is not to be changed.
func (in Input) Bytes() ([]byte, error) {
	b := make([]byte, in.Size)
	if _, err := io.ReadFull(in.Reader(), b); err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	return b, nil
}

// Limits bound what one file, with all that is in it, may cost. A zero field is its default.
type Limits struct {
	Depth    int           // files inside files; 8
	Members  int           // files in archives, all in all; 10,000
	Inflated int64         // bytes read out of archives and compressed documents, all in all; 256 MiB
	File     int64         // bytes of one file in an archive; 64 MiB
	Text     int           // bytes of text; 16 MiB
	Time     time.Duration // 30 s
}

func (l Limits) withDefaults() Limits {
	l.Depth = or(l.Depth, 8)
	l.Members = or(l.Members, 10000)
	l.Inflated = or(l.Inflated, 256<<20)
	l.File = or(l.File, 64<<20)
	l.Text = or(l.Text, 16<<20)
	l.Time = or(l.Time, 30*time.Second)
	return l
}

func or[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// State says how a file stands that was not read whole.
type State string

// The states.
const (
	Failed    State = "failed"    // damaged, not understood, or it cost too much; some of its text may be there
	Partial   State = "partial"   // some of its text is missing
	Encrypted State = "encrypted" // it, or a file in it, can't be read without a key
)

// Mark says what was not read, and why.
type Mark struct {
	State  State
	File   string // its name, behind those of the archives that it is in, with slashes between
	Reason string // for people
}

// File is a file that was found in another one.
type File struct {
	Name string // as Mark.File
	Type string // media type, as far as declared
	Size int64  // bytes; what was read of it
}

// Result is what came out of a file.
type Result struct {
	Text  string // UTF-8 without NULs, lines ending in \n
	Files []File
	Marks []Mark // of a kind and a file no two
}

// Extract reads one file and all that is in it. It always has a result. It ends when ctx does, as far as the libraries let it.
func Extract(ctx context.Context, in Input, limits Limits) *Result {
	j := &job{limits: limits.withDefaults()}
	ctx, cancel := context.WithTimeout(ctx, j.limits.Time)
	defer cancel()
	j.ctx = ctx
	o := &Output{job: j, name: in.Name}
	o.run(in)
	j.result.Text = j.text.String()
	return &j.result
}
