package spool

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// The layouts of this file and of segment.go are described in FORMAT.md.

// frameHeader is the size of a frame's header, bytes. The metadata follows it, then the body.
const frameHeader = 80

// maxMeta bounds the JSON of a frame. It is far above what the largest envelope takes, and keeps damage from asking for memory.
const maxMeta = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameKind is the kind of a frame, a byte of the format.
type frameKind byte

const (
	frameMessage    frameKind = 1 // envelope, and the message or the name of its file
	frameRefused    frameKind = 2 // envelope alone
	frameSupplement frameKind = 3
	frameAct        frameKind = 4
	frameDrop       frameKind = 5
	frameEnd        frameKind = 6 // nothing follows: the spool was closed in good order
	frameDone       frameKind = 7 // in a stub: sequences of older segments that are done with
	frameEnded      frameKind = 8 // in a stub: messages of older segments whose delivery has ended
)

// Flags of a frame.
const (
	flagAttempted byte = 1 << 0 // a message that is on its way to a next hop: settled by its outcome
	flagBig       byte = 1 << 1 // the body stands in big/<id>.eml
	flagOutcome   byte = 1 << 2 // a supplement that tells how a delivery ended
	flagStays     byte = 1 << 3 // a message that does not wait for its outcome to settle, and stays until it has one
	flagVerdict   byte = 1 << 4 // a message that waits for its verdict to settle; a supplement that is one
	flagLate      byte = 1 << 5 // a supplement whose message had settled before
)

// numbered says whether frames of a kind bear a sequence number of their own.
func (k frameKind) numbered() bool { return k == frameMessage || k == frameRefused || k == frameAct }

// frame is the header of one frame.
type frame struct {
	kind    frameKind
	flags   byte
	id      record.ID // zero for frameDrop, frameEnd, frameDone, frameEnded
	seq     uint64    // zero where the kind is not numbered
	off     int64     // of this frame in its segment, bytes
	durable int64     // all of the segment before this offset was on stable storage when the frame was written
	metaLen int64     // bytes of JSON
	bodyLen int64     // bytes of message.eml, here or in its own file
	metaCRC uint32
	bodyCRC uint32
}

// size is what the frame takes in its segment, bytes.
func (f *frame) size() int64 {
	n := frameHeader + f.metaLen
	if f.flags&flagBig == 0 {
		n += f.bodyLen
	}
	return n
}

// put writes the header to b.
func (f *frame) put(b []byte, mark marker) {
	b = b[:frameHeader]
	clear(b)
	copy(b, mark[:])
	b[8] = byte(f.kind)
	b[9] = f.flags
	le := binary.LittleEndian
	le.PutUint32(b[12:], uint32(f.metaLen))
	le.PutUint64(b[16:], uint64(f.bodyLen))
	le.PutUint64(b[24:], f.seq)
	le.PutUint64(b[32:], uint64(f.off))
	le.PutUint64(b[40:], uint64(f.durable))
	copy(b[48:], f.id[:])
	le.PutUint32(b[64:], f.metaCRC)
	le.PutUint32(b[68:], f.bodyCRC)
	le.PutUint32(b[76:], crc32.Checksum(b[:76], castagnoli))
}

// parseFrame reads the header of the frame at off. It is false for anything that put would not have written there.
func parseFrame(b []byte, mark marker, off int64) (frame, bool) {
	if len(b) < frameHeader || marker(b[:8]) != mark {
		return frame{}, false
	}
	b = b[:frameHeader]
	le := binary.LittleEndian
	if le.Uint32(b[76:]) != crc32.Checksum(b[:76], castagnoli) {
		return frame{}, false
	}
	f := frame{
		kind: frameKind(b[8]), flags: b[9], id: record.ID(b[48:64]), seq: le.Uint64(b[24:]),
		off: int64(le.Uint64(b[32:])), durable: int64(le.Uint64(b[40:])),
		metaLen: int64(le.Uint32(b[12:])), bodyLen: int64(le.Uint64(b[16:])),
		metaCRC: le.Uint32(b[64:]), bodyCRC: le.Uint32(b[68:]),
	}
	switch {
	case f.kind < frameMessage || f.kind > frameEnded,
		f.off != off,
		f.durable < 0 || f.durable > off,
		f.metaLen > maxMeta,
		f.bodyLen < 0 || f.bodyLen > 1<<50,
		f.bodyLen > 0 && f.kind != frameMessage,
		f.kind.numbered() != (f.seq != 0):
		return frame{}, false
	}
	return f, true
}
