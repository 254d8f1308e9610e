package message

import (
	"errors"
	"fmt"
	"io"
)

// ErrNoPart is returned for a path that names no leaf and no nested message.
var ErrNoPart = errors.New("no such part")

// OpenPart gives one part of a message by its Path, as Parse numbers them with the default limits, and its bytes after transfer decoding,
// as a stream: memory does not grow with the part. Text is not converted to UTF-8. A nested message comes whole. Errors are ErrNoPart and
// r's own. The reader takes from r as it is read; it need not be read to its end.
func OpenPart(r io.Reader, path string) (io.Reader, Part, error) {
	if path == "" {
		return nil, Part{}, fmt.Errorf("part %q: %w", path, ErrNoPart)
	}
	p := &partReader{w: newWalker(Limits{}.withDefaults()), lines: newLines(r)}
	p.w.target = path
	for p.w.opened == nil && p.err == nil {
		p.step()
	}
	switch {
	case p.w.opened != nil:
		return p, *p.w.opened, nil
	case p.err == io.EOF:
		return nil, Part{}, fmt.Errorf("part %q: %w", path, ErrNoPart)
	}
	return nil, Part{}, fmt.Errorf("part %q: %w", path, p.err)
}

type partReader struct {
	w     *walker
	lines *lines
	err   error // no more bytes will come; io.EOF: all have
	taken int   // of w.out
}

// step walks on by one line.
func (p *partReader) step() {
	line, start, err := p.lines.next()
	if err == nil {
		p.w.line(line, start)
		if !p.w.ended {
			return
		}
		err = io.EOF
	} else if err == io.EOF {
		p.w.leave(0, false)
	}
	p.err = err
	p.lines.free()
}

func (p *partReader) Read(b []byte) (int, error) {
	for p.taken == len(p.w.out) {
		if p.err != nil {
			return 0, p.err
		}
		p.w.out, p.taken = p.w.out[:0], 0
		p.step()
	}
	n := copy(b, p.w.out[p.taken:])
	p.taken += n
	return n, nil
}
