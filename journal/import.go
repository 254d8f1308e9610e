package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/report"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

// ErrNotMail is given for a file in a searched folder that is neither .eml nor mbox.
var ErrNotMail = errors.New("not a message or mailbox")

// Import puts one message, in the bytes that body gives, into custody. Of its envelope nothing is known but the header, and where formats
// are named what a journal report of one of these says. origin says where it comes from, as a reader will see it. Nil means on stable
// storage.
//
// Who imports what is an act, to be recorded by the caller beforehand, once for all messages of one import.
func Import(ctx context.Context, custody Custody, origin string, formats []string, body io.Reader) (record.ID, error) {
	var opt spool.AcceptOptions
	if len(formats) > 0 {
		reader := report.New(formats)
		body = io.TeeReader(body, reader)
		opt.Finish = func(env *record.Envelope) error {
			reader.Finish(env)
			return nil
		}
	}
	id, err := custody.Accept(ctx, record.Envelope{
		Source: record.SourceImport, Completeness: record.HeaderOnly, Origin: origin,
	}, body, opt)
	if err != nil {
		return record.ID{}, fmt.Errorf("%s: %w", origin, err)
	}
	return id, nil
}

// Message is one message found on disk.
type Message struct {
	Origin string // the path; for a message in an mbox with its place, "path#3", counted from 1
	Open   func() (io.ReadCloser, error)
}

// Messages finds the messages in paths, one by one, with bounded memory. A path is
//
//   - a message: .eml, or any file that does not begin with "From "; its bytes as they are;
//   - an mbox: a file that begins with "From "; see mbox.go for what becomes of its bytes;
//   - a folder, searched with all below it: of a Maildir all files in cur and new, elsewhere .eml files and mboxes.
//
// What can't be read, and in folders what is not mail (ErrNotMail), is given as an error beside its Origin, and the search goes on. A
// Message is to be opened and read before the next one is asked for.
func Messages(paths ...string) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for _, path := range paths {
			info, err := os.Stat(path)
			var more bool
			switch {
			case err != nil:
				more = yield(Message{Origin: path}, err)
			case info.IsDir():
				more = inFolder(path, yield)
			default:
				more = inFile(path, true, yield)
			}
			if !more {
				return
			}
		}
	}
}

// inFolder searches a folder in the order of names. Symbolic links to folders are not followed. false: enough.
func inFolder(root string, yield func(Message, error) bool) (more bool) {
	more = true
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		dir := filepath.Dir(path)
		switch {
		case err != nil:
			more = yield(Message{Origin: path}, err)
		case d.IsDir() && d.Name() == "tmp" && isMaildir(dir):
			return fs.SkipDir // what is there was never delivered
		case d.IsDir():
		case d.Type().IsRegular() && (filepath.Base(dir) == "cur" || filepath.Base(dir) == "new") && isMaildir(filepath.Dir(dir)):
			if !strings.HasPrefix(d.Name(), ".") { // those are no messages: maildir(5)
				more = yield(single(path), nil)
			}
		default:
			more = inFile(path, false, yield)
		}
		if !more {
			return fs.SkipAll
		}
		return nil
	})
	return more
}

// isMaildir looks for cur alone: copies of Maildirs have often lost their empty folders.
func isMaildir(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, "cur"))
	return err == nil && info.IsDir()
}

// inFile looks what a file is. One that was named is at least a message. false: enough.
func inFile(path string, named bool, yield func(Message, error) bool) (more bool) {
	if info, err := os.Stat(path); err != nil {
		return yield(Message{Origin: path}, err)
	} else if !info.Mode().IsRegular() { // to open a pipe would wait for ever
		return yield(Message{Origin: path}, fmt.Errorf("%s: %w", path, ErrNotMail))
	}
	if strings.EqualFold(filepath.Ext(path), ".eml") {
		return yield(single(path), nil)
	}
	f, err := os.Open(path)
	if err != nil {
		return yield(Message{Origin: path}, err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	head, err := r.Peek(len(fromLine))
	switch {
	case err != nil && err != io.EOF:
		return yield(Message{Origin: path}, err)
	case string(head) == fromLine:
		return inMbox(path, r, yield)
	case named:
		return yield(single(path), nil)
	}
	return yield(Message{Origin: path}, fmt.Errorf("%s: %w", path, ErrNotMail))
}

func single(path string) Message {
	return Message{Origin: path, Open: func() (io.ReadCloser, error) { return os.Open(path) }}
}
