package bleve

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
)

// keys are what hits are sorted by and ranges are taken over.
type keys struct {
	received int64 // Unix nanoseconds
	sent     int64 // Unix seconds: a Date header knows no finer ones; noTime where there is none
	size     int64 // bytes
}

// noTime sorts before every time.
const noTime = math.MinInt64

func keysOf(d *document.Document) keys {
	k := keys{received: nanoseconds(d.Received), sent: noTime, size: d.Size}
	if !d.Sent.IsZero() {
		k.sent = d.Sent.Unix()
	}
	return k
}

// nanoseconds gives t since 1970, the first or last moment that int64 has (in 1677 and 2262) where t lies outside.
func nanoseconds(t time.Time) int64 {
	const last = math.MaxInt64 / int64(time.Second)
	switch s := t.Unix(); {
	case s <= -last:
		return -math.MaxInt64
	case s >= last:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// Seven bits a byte: a doc value must not hold Bleve's separator, 0xff.
const (
	numberSize = 10
	keysSize   = 3 * numberSize
)

func encodeKeys(k keys) string {
	b := make([]byte, 0, keysSize)
	for _, n := range [...]int64{k.received, k.sent, k.size} {
		for shift := 63; shift >= 0; shift -= 7 {
			b = append(b, byte(uint64(n)>>shift)&0x7f)
		}
	}
	return string(b)
}

// decodeKeys reads what encodeKeys wrote; false for anything else.
func decodeKeys(b []byte) (keys, bool) {
	if len(b) != keysSize {
		return keys{}, false
	}
	var n [3]uint64
	for i := range n {
		for _, c := range b[i*numberSize : (i+1)*numberSize] {
			n[i] = n[i]<<7 | uint64(c)
		}
	}
	return keys{int64(n[0]), int64(n[1]), int64(n[2])}, true
}

// hitVersion begins a stored hit. FORMAT.md has what follows.
const hitVersion = 1

// Flags of a stored hit.
const (
	flagPartial byte = 1 << iota
	flagReport
)

func encodeHit(d *document.Document, partial bool) []byte {
	b := make([]byte, 0, 256+len(d.Subject))
	b = append(b, hitVersion, 0)
	if partial {
		b[1] |= flagPartial
	}
	if d.Report {
		b[1] |= flagReport
	}
	b = appendTime(b, d.Received)
	b = appendTime(b, d.Sent)
	b = binary.AppendVarint(b, d.Size)
	b = append(b, d.SHA256[:]...)
	b = appendText(b, d.Subject)
	for _, list := range [...][]document.Address{d.From, d.To, d.Cc} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, a := range list {
			b = appendText(b, a.Name)
			b = appendText(b, a.Address)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(d.Rcpt)))
	for _, a := range d.Rcpt {
		b = appendText(b, a.Address)
	}
	b = binary.AppendUvarint(b, uint64(len(d.Attachments)))
	for _, a := range d.Attachments {
		b = appendText(b, a.Name)
	}
	if d.Report {
		b = appendText(b, d.MessageID)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	b = binary.AppendVarint(append(b, 1), t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// decodeHit reads what encodeHit wrote into all of h but ID and Cursor. Damage is index.ErrCorrupt.
func decodeHit(b []byte, h *index.Hit) error {
	r := hitReader{b: b}
	if v := r.byte(); v != hitVersion {
		return fmt.Errorf("stored hit: version %d, want %d: %w", v, hitVersion, index.ErrCorrupt)
	}
	flags := r.byte()
	h.Partial, h.Report = flags&flagPartial != 0, flags&flagReport != 0
	h.Received, h.Sent, h.Size = r.time(), r.time(), r.varint()
	copy(h.SHA256[:], r.bytes(uint64(len(record.Digest{}))))
	h.Subject = r.text()
	h.From, h.To, h.Cc = r.addresses(), r.addresses(), r.addresses()
	h.Rcpt, h.Attachments = r.texts(), r.texts()
	if h.Report {
		h.MessageID = r.text()
	}
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("stored hit of %d bytes: %w", len(b), index.ErrCorrupt)
	}
	return nil
}

// hitReader reads on from the start of b. Once something is missing it is bad and gives zeros.
type hitReader struct {
	b   []byte
	bad bool
}

func (r *hitReader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *hitReader) byte() byte {
	if b := r.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (r *hitReader) varint() int64 {
	n, size := binary.Varint(r.b)
	r.skip(size)
	return n
}

func (r *hitReader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	r.skip(size)
	return n
}

func (r *hitReader) skip(size int) {
	if size <= 0 {
		r.b, r.bad = nil, true
		return
	}
	r.b = r.b[size:]
}

func (r *hitReader) text() string { return string(r.bytes(r.uvarint())) }

func (r *hitReader) time() time.Time {
	if r.byte() == 0 {
		return time.Time{}
	}
	sec := r.varint()
	return time.Unix(sec, int64(r.uvarint()%1e9)).UTC()
}

// count is the number of a list's elements, each of which takes at least min bytes.
func (r *hitReader) count(min int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/min) {
		r.b, r.bad = nil, true
		return 0
	}
	return int(n)
}

func (r *hitReader) texts() []string {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = r.text()
	}
	return list
}

func (r *hitReader) addresses() []document.Address {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	list := make([]document.Address, n)
	for i := range list {
		list[i].Name, list[i].Address = r.text(), r.text()
	}
	return list
}
