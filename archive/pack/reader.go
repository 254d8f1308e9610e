package pack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Reader reads single records out of one pack. Safe for concurrent use. It holds nothing open; of an encrypted pack it keeps the header
// and the last chunk (up to 64 KiB).
type Reader struct {
	src    Source
	size   int64
	sealed *sealedPack // nil: not encrypted
}

// Open looks at the beginning of a pack of size bytes and, where it is encrypted, at its end. Errors: ErrNoIdentity, ErrCorrupt, or a
// fault of the source.
func Open(ctx context.Context, src Source, size int64, identities ...age.Identity) (*Reader, error) {
	r, err := src(ctx, 0, min(size, maxHeader))
	if err != nil {
		return nil, fmt.Errorf("read pack: %w", err)
	}
	defer r.Close()
	s := &source{r: r}
	br := bufio.NewReader(s)
	magic, err := br.Peek(int(min(size, int64(len(ageMagic)))))
	if err != nil {
		return nil, s.fault(err)
	}
	p := &Reader{src: src, size: size}
	if string(magic) != ageMagic {
		return p, nil
	}
	if p.sealed, err = openSealed(size, br, identities); err != nil {
		return nil, s.fault(err)
	}
	if err := p.sealed.readTail(ctx, src); err != nil {
		return nil, err
	}
	return p, nil
}

// Read reads one record from a frame: that of a message, refused mail or act with this id, or with a name, the late supplement. The
// documents are held; the message of a small record is held as well, that of a large one is read again from the source each time that
// Item().Body is called, under the same ctx. Errors: ErrNotFound, ErrCorrupt, or a fault of the source.
func (p *Reader) Read(ctx context.Context, at Place, id record.ID, name string) (*Record, error) {
	f, closer, err := p.frame(ctx, at)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	for {
		r, err := f.record()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("record %s: %w", id, ErrNotFound)
		}
		if err != nil {
			return nil, err
		}
		if r.ID != id || r.Name != name {
			continue
		}
		r.Length = at.Length
		if f.msg != nil {
			r.open = func() (io.ReadCloser, error) {
				m, err := p.message(ctx, at, id)
				if err != nil {
					return nil, err
				}
				return m, nil
			}
			r.digest = func() (record.Digest, error) { return p.digest(ctx, at, id) }
		}
		return r, nil
	}
}

// frame opens the frame at a place. The frame's memory is its own: records outlive it.
func (p *Reader) frame(ctx context.Context, at Place) (*frame, io.Closer, error) {
	if at.Frame < 0 || at.Length <= 0 || at.Frame > p.size || at.Length > p.size-at.Frame {
		return nil, nil, corrupt("a frame of %d bytes at %d is outside the pack of %d", at.Length, at.Frame, p.size)
	}
	var s *source
	var r io.ReadCloser
	var err error
	if p.sealed != nil {
		s, r, err = p.sealed.open(ctx, p.src, at.Frame, at.Length)
	} else if r, err = p.src(ctx, at.Frame, at.Length); err != nil {
		err = fmt.Errorf("read pack: %w", err)
	} else {
		s = &source{r: r}
		r = struct {
			io.Reader
			io.Closer
		}{s, r}
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := openFrame(s, bufio.NewReaderSize(r, int(min(at.Length, 64<<10))), at.Frame, &memory{})
	if errors.Is(err, errSkippable) {
		err = corrupt("seek table where a frame was looked for")
	}
	if err == nil && f.raw != nil && f.zstd.n != at.Length {
		err = corrupt("a frame of %d bytes at %d, not of %d", f.zstd.n, at.Frame, at.Length)
	}
	if err != nil {
		r.Close()
		return nil, nil, s.fault(err)
	}
	return f, r, nil
}

// message opens the message of a large record.
func (p *Reader) message(ctx context.Context, at Place, id record.ID) (*largeMessage, error) {
	f, closer, err := p.frame(ctx, at)
	if err != nil {
		return nil, err
	}
	if _, err := f.record(); err != nil {
		closer.Close()
		return nil, err
	}
	if f.msg == nil || f.msg.record.ID != id {
		closer.Close()
		return nil, corrupt("record %s is not there any more", id)
	}
	f.msg.length = at.Length
	return &largeMessage{f.msg, closer}, nil
}

// largeMessage closes its source.
type largeMessage struct {
	*message
	source io.Closer
}

func (m *largeMessage) Close() error { return m.source.Close() }

func (p *Reader) digest(ctx context.Context, at Place, id record.ID) (record.Digest, error) {
	m, err := p.message(ctx, at, id)
	if err != nil {
		return record.Digest{}, err
	}
	defer m.Close()
	return m.digest()
}
