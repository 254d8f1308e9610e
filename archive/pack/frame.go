package pack

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// level is the better one: on real mail, with its envelopes and deliveries, packs come out 4 % smaller than with the default, for 40 µs more
// on a message of 10 KB (BenchmarkLevels). What is written once is kept for years.
const level = zstd.SpeedBetterCompression

// Windows of large frames: what a Writer uses, and the most that is accepted, which is what every zstd decoder supports (RFC 8878, 3.1.1.1.2).
const (
	window    = 4 << 20
	maxWindow = 8 << 20
)

func encoderOptions() []zstd.EOption {
	return []zstd.EOption{
		zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithEncoderCRC(true),
		zstd.WithAllLitEntropyCompression(true), // base64 of compressed files has no matches, but only 64 of 256 byte values
	}
}

// frameEncoder compresses whole frames. Its memory (some MiB of tables) is shared by all Writers, of which few write at one time.
var frameEncoder = sync.OnceValue(func() *zstd.Encoder { return must(zstd.NewWriter(nil, encoderOptions()...)) })

// streamEncoders compress records that are larger than a frame.
var streamEncoders = sync.Pool{New: func() any { return must(zstd.NewWriter(nil, encoderOptions()...)) }}

// frameDecoder decompresses frames of up to frameSize; it never writes past the capacity it is given.
var frameDecoder = sync.OnceValue(func() *zstd.Decoder {
	return must(zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(frameSize), zstd.WithDecoderConcurrency(0)))
})

// newStreamDecoder decompresses one larger frame. It starts no goroutine and so needs no Close.
func newStreamDecoder(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

// must is for constructors that fail on bad options only.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// frameReader gives the bytes of one zstd frame (RFC 8878, 3.1.1) and no more: it follows the sizes of the blocks.
type frameReader struct {
	br       *bufio.Reader
	raw      int64 // decompressed size, from the header
	left     int   // bytes of the segment at hand
	last     bool  // it is the last block
	checksum bool  // it is the checksum
	n        int64 // bytes given
}

// errSkippable is the end of a pack's data frames.
var errSkippable = errors.New("skippable frame")

// newFrameReader looks at the frame that br is at. Errors: io.EOF where there is nothing more, errSkippable, ErrCorrupt, those of br.
func newFrameReader(br *bufio.Reader) (*frameReader, error) {
	head, err := br.Peek(zstd.HeaderMaxSize)
	if len(head) == 0 || err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var h zstd.Header
	if err := h.Decode(head); err != nil {
		return nil, corrupt("zstd frame: %v", err)
	}
	switch large := h.FrameContentSize > frameSize; {
	case h.Skippable:
		return nil, errSkippable
	case !h.HasFCS, !h.HasCheckSum, h.DictionaryID != 0, h.FrameContentSize > maxRecord, large && h.WindowSize > maxWindow: // of a single segment the window is all of it
		return nil, corrupt("zstd frame with a header that no pack has")
	}
	return &frameReader{br: br, raw: int64(h.FrameContentSize), left: h.HeaderSize}, nil
}

// Read ends with io.EOF after the frame's last byte and with io.ErrUnexpectedEOF where the source ends before.
func (f *frameReader) Read(p []byte) (int, error) {
	for f.left == 0 {
		if f.checksum {
			return 0, io.EOF
		}
		if err := f.nextSegment(); err != nil {
			return 0, err
		}
	}
	n, err := f.br.Read(p[:min(len(p), f.left)])
	f.left -= n
	f.n += int64(n)
	return n, noEOF(err)
}

func (f *frameReader) nextSegment() error {
	if f.last {
		f.checksum, f.left = true, 4
		return nil
	}
	b, err := f.br.Peek(3)
	if err != nil {
		return noEOF(err)
	}
	header := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
	f.last = header&1 != 0
	f.left = 3 + header>>3
	switch header >> 1 & 3 {
	case 1: // one byte, repeated
		f.left = 3 + 1
	case 3:
		return corrupt("zstd block of a reserved kind")
	}
	return nil
}

// decode gives the frame's content, at most frameSize bytes of it, in dst's memory or new one. comp is lent for the compressed bytes.
func (f *frameReader) decode(dst, comp []byte) (raw, usedComp []byte, err error) {
	comp = comp[:0]
	for {
		if len(comp) == cap(comp) {
			// Blocks that no encoder writes, by the thousand, could make a small frame a large one.
			if len(comp) > frameSize+frameSize/16 {
				return nil, comp, corrupt("zstd frame larger than its content")
			}
			comp = append(comp, make([]byte, max(64<<10, len(comp)/2))...)[:len(comp)]
		}
		n, err := f.Read(comp[len(comp):cap(comp)])
		comp = comp[:len(comp)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, comp, err
		}
	}
	if int64(cap(dst)) < f.raw+decodeSlack {
		dst = make([]byte, 0, f.raw+decodeSlack)
	}
	raw, err = frameDecoder().DecodeAll(comp, dst[:0])
	if err == nil && int64(len(raw)) != f.raw {
		err = zstd.ErrFrameSizeMismatch
	}
	if err != nil {
		return nil, comp, corrupt("zstd frame: %v", err)
	}
	return raw, comp, nil
}

// decodeSlack lets the decoder copy in whole words at the end of a buffer.
const decodeSlack = 32

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// The seek table is that of the zstd seekable format 0.1.0 (facebook/zstd, contrib/seekable_format): a skippable frame with the sizes of
// each frame, without checksums, as the frames have their own.
const (
	seekTableMagic  = 0x184D2A5E
	seekFooterMagic = 0x8F92EAB1
	seekTableFixed  = 8 + 9 // header and footer, bytes
	seekEntrySize   = 8
)

type frameSizes struct{ compressed, raw uint32 }

func seekTable(frames []frameSizes) []byte {
	b := make([]byte, 0, seekTableFixed+seekEntrySize*len(frames))
	b = binary.LittleEndian.AppendUint32(b, seekTableMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(seekEntrySize*len(frames)+9))
	for _, f := range frames {
		b = binary.LittleEndian.AppendUint32(b, f.compressed)
		b = binary.LittleEndian.AppendUint32(b, f.raw)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frames)))
	b = append(b, 0) // descriptor: no checksums
	return binary.LittleEndian.AppendUint32(b, seekFooterMagic)
}
