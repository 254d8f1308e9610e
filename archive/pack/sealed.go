package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// Sizes of the age format (C2SP age, "Payload"): chunks of 64 KiB, each with a tag, after a nonce.
const (
	ageChunk    = 64 << 10
	ageTag      = 16
	ageNonce    = 16
	ageEncChunk = ageChunk + ageTag
	ageMagic    = "age-encryption.org/"
	maxHeader   = 128 << 10 // some hundred recipients, bytes
)

// sealedPack is what one keeps of an encrypted pack to read anywhere in it: the header, the key that it wraps, and the last chunk, which
// age looks at to know the size.
type sealedPack struct {
	size  int64 // of the object
	key   age.Identity
	head  []byte // header and nonce
	tail  []byte // the last chunk
	chunk int64  // number of the last chunk
}

// noIdentity is ErrNoIdentity where none of the identities fits.
func noIdentity(err error) error {
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return fmt.Errorf("%w: %w", ErrNoIdentity, err)
	}
	return err
}

// openSealed reads the header from the beginning of a pack and unwraps its key.
func openSealed(size int64, beginning io.Reader, identities []age.Identity) (*sealedPack, error) {
	if len(identities) == 0 {
		return nil, ErrNoIdentity
	}
	var seen bytes.Buffer
	header, err := age.ExtractHeader(io.TeeReader(beginning, &seen))
	if err != nil {
		return nil, err
	}
	payload := int64(len(header) + ageNonce)
	if missing := payload - int64(seen.Len()); missing > 0 { // age reads ahead
		if _, err := io.CopyN(&seen, beginning, missing); err != nil {
			return nil, err
		}
	}
	if size <= payload {
		return nil, io.ErrUnexpectedEOF
	}
	key, err := age.DecryptHeader(header, identities...)
	if err != nil {
		return nil, noIdentity(err)
	}
	return &sealedPack{
		size: size, key: age.NewInjectedFileKeyIdentity(key), head: bytes.Clone(seen.Bytes()[:payload]), chunk: (size - payload - 1) / ageEncChunk,
	}, nil
}

// readTail fetches the last chunk.
func (s *sealedPack) readTail(ctx context.Context, open Source) error {
	off := int64(len(s.head)) + s.chunk*ageEncChunk
	r, err := open(ctx, off, s.size-off)
	if err != nil {
		return fmt.Errorf("read pack: %w", err)
	}
	defer r.Close()
	src := &source{r: r}
	s.tail = make([]byte, s.size-off)
	_, err = io.ReadFull(src, s.tail)
	return src.fault(err)
}

// open gives length bytes of the plain stream from off, by one ranged read of the chunks that hold them.
func (s *sealedPack) open(ctx context.Context, src Source, off, length int64) (*source, io.ReadCloser, error) {
	first, last := off/ageChunk, (off+length-1)/ageChunk
	if off < 0 || length <= 0 || off > s.size || length > s.size || last > s.chunk {
		return nil, nil, corrupt("a frame of %d bytes at %d is outside the pack", length, off)
	}
	from := int64(len(s.head)) + first*ageEncChunk
	to := int64(len(s.head)) + min(last+1, s.chunk)*ageEncChunk // the last chunk is at hand
	at := &chunkReader{s: s, pos: from, src: &source{r: bytes.NewReader(nil)}, stream: io.NopCloser(nil)}
	if from < to {
		r, err := src(ctx, from, to-from)
		if err != nil {
			return nil, nil, fmt.Errorf("read pack: %w", err)
		}
		at.src, at.stream = &source{r: r}, r
	}
	plain, size, err := age.DecryptReaderAt(at, s.size, s.key)
	if err == nil && off+length > size {
		err = corrupt("a frame of %d bytes at %d is outside the pack", length, off)
	}
	if err != nil {
		at.stream.Close()
		return nil, nil, at.src.fault(err)
	}
	return at.src, struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(plain, off, length), at.stream}, nil
}

// chunkReader is the io.ReaderAt under age: header and last chunk are at hand, those between come from one stream, in order.
type chunkReader struct {
	s      *sealedPack
	pos    int64 // of the stream in the object
	src    *source
	stream io.Closer
}

func (c *chunkReader) ReadAt(p []byte, off int64) (int, error) {
	tail := c.s.size - int64(len(c.s.tail))
	switch {
	case off < int64(len(c.s.head)):
		n := copy(p, c.s.head[off:])
		return n, eofUnless(n == len(p))
	case off >= tail && off < c.s.size:
		n := copy(p, c.s.tail[off-tail:])
		return n, eofUnless(n == len(p))
	case off == c.pos:
		n, err := io.ReadFull(c.src, p)
		c.pos += int64(n)
		return n, err
	default:
		return 0, fmt.Errorf("chunk at %d is not the next, which is at %d", off, c.pos)
	}
}

func eofUnless(whole bool) error {
	if whole {
		return nil
	}
	return io.EOF
}
