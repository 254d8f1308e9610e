package spool

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// AcceptOptions are what a caller of Accept may add.
type AcceptOptions struct {
	// Finish is called once, when the body has been read to its end, with the envelope as it will be kept: Received, Size and SHA256 are
	// set. It may fill in what only the end of the body tells. An error of it refuses the message: nothing is kept, Accept returns it.
	Finish func(*record.Envelope) error

	// Early gives the archive the record at once, before its outcome, which then follows as an item of its own. For mode relay, where the
	// archive's answer is waited for (ack: archive). The message stays until its outcome is durable: a restart that finds none adds one,
	// unknown, as it does to any attempted message.
	Early bool

	// Verdict says that a supplement named record.SupplementAuth is owed (AppendSoon). Until it came, Waive was called, or 30 seconds have
	// passed the record does not settle, so that the archive gets both together. What comes later follows as an item of its own. The debt
	// is in memory only: after a restart none is owed. Without meaning where Early is set.
	Verdict bool
}

// Accept takes one message into custody. It reads body to its end once, sets what env does not say (V, ID, Nonce, Node) and what only the
// end tells (Received, Size, SHA256). Nil means on stable storage. On any other return nothing is kept that anyone will be given, except
// that a process that is killed at that moment may find the message in custody: it errs on the side of keeping.
//
// An error of body, io.ErrUnexpectedEOF among them, is returned wrapped; only io.EOF is an end. Those of the spool are as Ready has them.
// The context is looked at between reads of body, and until the committer has taken the message; after that its answer is waited for.
//
// A message whose Mode is record.ModeRelay is attempted: the caller owes a supplement with a Delivery (AppendSoon), which settles it. One
// whose Mode is record.ModeQueue settles at once and stays until its forwarding has ended: see Forwarding.
func (s *Spool) Accept(ctx context.Context, env record.Envelope, body io.Reader, opt AcceptOptions) (record.ID, error) {
	if !s.writers.enter() {
		return record.ID{}, ErrClosed
	}
	defer s.writers.leave()
	if err := s.Ready(env.DeclaredSize); err != nil {
		return record.ID{}, err
	}
	if env.ID.IsZero() {
		env.ID = record.NewID(time.Now())
	}
	in := &intake{spool: s, ctx: ctx, body: body, id: env.ID}
	defer in.close()
	if err := in.read(env.DeclaredSize); err != nil {
		return record.ID{}, err
	}
	s.complete(&env)
	env.Size, env.SHA256 = in.size, in.sha256
	if opt.Finish != nil {
		if err := opt.Finish(&env); err != nil {
			return record.ID{}, err
		}
	}
	meta, err := marshal(&env)
	if err != nil {
		return record.ID{}, err
	}
	f := frame{kind: frameMessage, id: env.ID, flags: messageFlags(&env, opt)}
	if in.big != "" {
		f.flags |= flagBig
		f.bodyLen, f.bodyCRC = in.size, in.crc
	}
	r := newRequest(f, meta, in.inline)
	r.big = in.big
	taken, err := s.submit(ctx, r)
	if taken {
		in.big = "" // it is the committer's
	}
	if err != nil {
		return record.ID{}, err
	}
	return env.ID, nil
}

// messageFlags says what a message waits for.
func messageFlags(env *record.Envelope, opt AcceptOptions) (flags byte) {
	switch env.Mode {
	case record.ModeRelay:
		flags |= flagAttempted
		if opt.Early {
			flags |= flagStays
		}
	case record.ModeQueue:
		flags |= flagStays
	}
	if opt.Verdict && !opt.Early {
		flags |= flagVerdict
	}
	return flags
}

// complete fills in what an envelope does not say yet.
func (s *Spool) complete(env *record.Envelope) {
	env.Received = record.Now()
	if env.V == 0 {
		env.V = record.Version
	}
	if env.Nonce == (record.Nonce{}) {
		env.Nonce = record.NewNonce()
	}
	if env.Node == "" {
		env.Node = s.opt.Node
	}
}

func marshal(doc any) ([]byte, error) {
	meta, err := json.Marshal(doc)
	if err == nil && len(meta) > maxMeta {
		err = fmt.Errorf("%d bytes of JSON are more than %d", len(meta), maxMeta)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return meta, nil
}

// submit hands a request to the committer and waits. taken is false where the committer has never seen it.
func (s *Spool) submit(ctx context.Context, r *request) (taken bool, err error) {
	r.done = make(chan error, 1)
	if err := s.inbox.put(r, 0); err != nil {
		return false, err
	}
	select {
	case err = <-r.done:
	case <-ctx.Done():
		if s.inbox.withdraw(r) {
			return false, fmt.Errorf("spool: %w", ctx.Err())
		}
		err = <-r.done
	}
	return true, err
}

// intake is a message that is being received: in a buffer while it is small, then in a file of its own.
type intake struct {
	spool *Spool
	ctx   context.Context
	body  io.Reader
	id    record.ID

	pooled *[]byte
	buf    []byte
	inline []byte // the whole of a small message, in buf
	big    string // path of the file of a large one
	size   int64
	sha256 record.Digest
	crc    uint32 // of a large one
}

// buffers are kept as pointers to slices, so that putting one back does not allocate.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// close gives the buffer back and removes the file unless the committer has it.
func (in *intake) close() {
	in.spool.inflight.Add(-in.size)
	if in.pooled != nil {
		*in.pooled = in.buf
		buffers.Put(in.pooled)
	}
	if in.big != "" {
		in.spool.fs.Remove(in.big) // or the next start: no frame names it
	}
}

// read reads the body to its end. declared is a hint.
func (in *intake) read(declared int64) error {
	limit := in.spool.cfg.InlineBytes
	in.pooled = buffers.Get().(*[]byte)
	in.buf = (*in.pooled)[:0]
	in.grow(int(min(max(declared, 16<<10), int64(limit))) + 1)
	for {
		n, err := in.next(in.buf[len(in.buf):cap(in.buf)])
		in.buf = in.buf[:len(in.buf)+n]
		if len(in.buf) > limit {
			return in.readBig(err)
		}
		if err == io.EOF {
			in.inline = in.buf
			in.sha256 = record.Sum(in.inline)
			return nil
		}
		if err != nil {
			return err
		}
		if len(in.buf) == cap(in.buf) {
			in.grow(min(4*cap(in.buf), limit+1))
		}
	}
}

// grow makes the buffer hold n bytes at least.
func (in *intake) grow(n int) {
	if cap(in.buf) < n {
		in.buf = append(make([]byte, 0, n), in.buf...)
	}
}

// next reads once, and counts.
func (in *intake) next(b []byte) (n int, err error) {
	if err := in.ctx.Err(); err != nil {
		return 0, fmt.Errorf("spool: %w", err)
	}
	for range 100 {
		if n, err = in.body.Read(b); n != 0 || err != nil {
			break
		}
	}
	if n == 0 && err == nil {
		err = io.ErrNoProgress
	}
	in.size += int64(n)
	in.spool.inflight.Add(int64(n))
	if err != nil && err != io.EOF {
		return n, fmt.Errorf("spool: message %s: %w", in.id, err)
	}
	if full := in.spool.room(0); full != nil {
		return n, full
	}
	return n, err
}

// readBig goes on in a file: what is in the buffer first, then the rest through the buffer. err is what the last read said.
func (in *intake) readBig(err error) error {
	s, path := in.spool, in.spool.paths.bigFile(in.id)
	f, ferr := s.fs.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(ferr, os.ErrExist) {
		return fmt.Errorf("%w: its id was used before: %w", ErrInvalid, ferr)
	}
	if ferr != nil {
		return s.failed("big", ferr)
	}
	in.big = path
	w := &bigWriter{file: f, hash: sha256.New()}
	b, chunk := in.buf, in.buf[:cap(in.buf)]
	for {
		if werr := w.write(b); werr != nil {
			return errors.Join(s.failed("big", werr), f.Close())
		}
		if err != nil {
			break
		}
		var n int
		n, err = in.next(chunk)
		b = chunk[:n]
	}
	if err != io.EOF {
		return errors.Join(err, f.Close())
	}
	w.hash.Sum(in.sha256[:0])
	in.crc = w.crc
	err = s.timed(f.Sync)
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.fs.SyncDir(s.paths.big)
	}
	if err != nil {
		return s.failed("big", err)
	}
	return nil
}

// bigWriter writes a file in order and sums it up.
type bigWriter struct {
	file File
	hash hash.Hash
	crc  uint32
	off  int64
}

func (w *bigWriter) write(b []byte) error {
	if _, err := w.file.WriteAt(b, w.off); err != nil {
		return err
	}
	w.hash.Write(b)
	w.crc = crc32.Update(w.crc, castagnoli, b)
	w.off += int64(len(b))
	return nil
}
