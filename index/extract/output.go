package extract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// job is what all files of one call of Extract share.
type job struct {
	ctx      context.Context
	limits   Limits
	text     strings.Builder
	inflated int64
	members  int
	result   Result
}

// maxMarks is how many marks are kept of each state.
const maxMarks = 100

// maxName is how long the name of a file may be, in bytes; what is longer is cut.
const maxName = 1024

// Output takes what comes out of one file. It is for one goroutine.
type Output struct {
	job   *job
	name  string // of the file, with those that it is in
	depth int
}

// Text adds a piece of text as it is, with a line's end behind it where it has none. What is not UTF-8 is replaced.
func (o *Output) Text(s string) error {
	if err := o.add(s); err != nil {
		return err
	}
	if s != "" && s[len(s)-1] != '\n' {
		return o.add("\n")
	}
	return nil
}

// Write adds text in UTF-8, without a line's end of its own. A character may not stand across two calls.
func (o *Output) Write(p []byte) (int, error) {
	if err := o.add(string(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteString is Write of a string.
func (o *Output) WriteString(s string) (int, error) {
	if err := o.add(s); err != nil {
		return 0, err
	}
	return len(s), nil
}

func (o *Output) add(s string) error {
	if err := o.job.ctx.Err(); err != nil {
		return err
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	room := o.job.limits.Text - o.job.text.Len()
	if len(s) <= room {
		o.job.text.WriteString(s)
		return nil
	}
	for room > 0 && !utf8.RuneStart(s[room]) {
		room--
	}
	o.job.text.WriteString(s[:max(0, room)])
	o.Partial("more text than the limit")
	return ErrLimit
}

// Partial says that some of the file's text is missing, and why.
func (o *Output) Partial(reason string) { o.mark(Partial, reason) }

// Encrypted says that part of the file can't be read without a key. An Extractor that can read nothing at all returns ErrEncrypted instead.
func (o *Output) Encrypted(reason string) { o.mark(Encrypted, reason) }

func (o *Output) mark(s State, reason string) {
	n := 0
	for _, m := range o.job.result.Marks {
		if m.State == s {
			if m.File == o.name {
				return
			}
			n++
		}
	}
	if n < maxMarks {
		o.job.result.Marks = append(o.job.result.Marks, Mark{s, o.name, strings.ToValidUTF8(reason, "\ufffd")})
	}
}

// Inflate gives a reader of something compressed or packed that counts what comes out of it. Everything that may grow is read through
// it. It returns ErrLimit where that is too much.
func (o *Output) Inflate(r io.Reader) io.Reader { return &inflated{o, r} }

type inflated struct {
	o *Output
	r io.Reader
}

func (r *inflated) Read(p []byte) (int, error) {
	j := r.o.job
	if err := j.ctx.Err(); err != nil {
		return 0, err
	}
	left := j.limits.Inflated - j.inflated
	if left <= 0 {
		r.o.Partial("what is compressed in it is larger than the limit")
		return 0, ErrLimit
	}
	n, err := r.r.Read(p[:min(int64(len(p)), left)])
	j.inflated += int64(n)
	return n, err
}

// Nested takes a file that is in this one: it is read to its end, counted as by Inflate, and its text added here. What is wrong with it is
// its own affair and marked so; an error says that the limits are reached, or that ctx has ended, and the Extractor stops. A nil reader is a
// file that can't be read, of which only the name is known: say why with NestedMark.
func (o *Output) Nested(name, mediaType string, r io.Reader) error {
	n, err := o.enter(name)
	if err != nil {
		return err
	}
	file := File{Name: n.name, Type: mediaType}
	defer func() { o.job.result.Files = append(o.job.result.Files, file) }()
	var b bytes.Buffer
	file.Size, err = io.Copy(&b, io.LimitReader(n.Inflate(r), o.job.limits.File+1))
	switch {
	case errors.Is(err, ErrLimit), o.job.ctx.Err() != nil:
		return err
	case errors.Is(err, ErrEncrypted):
		n.mark(Encrypted, err.Error())
		return nil
	case err != nil:
		n.mark(Failed, "can't be read: "+err.Error())
		return nil
	case file.Size > o.job.limits.File:
		n.Partial("larger than the limit")
		return nil
	}
	n.run(Input{ReaderAt: bytes.NewReader(b.Bytes()), Size: file.Size, Name: name, Type: mediaType})
	return o.job.ctx.Err()
}

// NestedMark notes a file that is in this one and can't be read.
func (o *Output) NestedMark(name, mediaType string, s State, reason string) error {
	n, err := o.enter(name)
	if err != nil {
		return err
	}
	o.job.result.Files = append(o.job.result.Files, File{Name: n.name, Type: mediaType})
	n.mark(s, reason)
	return nil
}

// enter counts a file in this one.
func (o *Output) enter(name string) (*Output, error) {
	if err := o.job.ctx.Err(); err != nil {
		return nil, err
	}
	if o.job.members++; o.job.members > o.job.limits.Members {
		o.Partial("more files than the limit")
		return nil, ErrLimit
	}
	if name = strings.ToValidUTF8(name, "\ufffd"); o.name != "" {
		name = o.name + "/" + name
	}
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	return &Output{job: o.job, name: name, depth: o.depth + 1}, nil
}

// run reads one file, and marks it where that is not all of it.
func (o *Output) run(in Input) {
	defer func() {
		if r := recover(); r != nil {
			o.mark(Failed, fmt.Sprint("the extractor broke: ", r))
		}
	}()
	f := sniff(in)
	switch {
	case f == nil:
		o.mark(Failed, "a kind of file that is not known")
		return
	case f.extract == nil || in.Size == 0:
		return
	case o.depth >= o.job.limits.Depth && f.container:
		o.Partial("files inside files deeper than the limit")
		return
	}
	err := f.extract(o.job.ctx, in, o)
	switch {
	case o.job.ctx.Err() != nil:
		o.mark(Failed, "not done within the time allowed")
	case err == nil, errors.Is(err, ErrLimit):
	case errors.Is(err, ErrEncrypted):
		o.mark(Encrypted, err.Error())
	default:
		o.mark(Failed, f.name+": "+err.Error())
	}
}
