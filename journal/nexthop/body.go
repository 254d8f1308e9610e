package nexthop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

const (
	bodyBuffer = 64 << 10        // what is collected before it is written: a smaller message goes out in one piece with its dot
	bodyPause  = time.Second     // after this what there is goes out, so that the server sees a slow client move
	lastWords  = 2 * time.Second // for a reply that may be there already when a write has failed
)

var buffers = sync.Pool{New: func() any { return new([bodyBuffer]byte) }}

// body is the state of a message's body on its way.
type body struct {
	ctx     context.Context // for the writing
	asked   bool            // Data was called
	chunked bool            // it goes by BDAT (RFC 3030)
	owed    bool            // the reply to a chunk was not read yet
	sent    bool            // DATA was sent on this connection, and its reply not read
	begun   bool            // 354 came, or a chunk was sent: from here on there is no second try
	store   *[bodyBuffer]byte
	buf     []byte // in store: stuffed, not yet written
	flushed time.Time

	hash     hash.Hash // of the copy, before dot-stuffing
	size     int64     // of the same, bytes
	eightBit bool      // 8-bit bytes went to a server without 8BITMIME
	last     [2]byte   // the last two bytes
}

func (b *body) free() {
	if b.store != nil {
		buffers.Put(b.store)
		b.store, b.buf = nil, nil
	}
}

// Data begins the message: DATA is sent, and trace goes before the body. It does not wait for the reply, and has no error: what goes
// wrong from here on, Finish says. ctx is for all that is done until then.
//
// Where Mail.BareNewlines is set and the next hop offers CHUNKING the body goes by BDAT instead.
func (t *Transaction) Data(ctx context.Context, trace Trace) {
	b := &t.body
	b.ctx, b.asked, b.flushed, b.hash = ctx, true, time.Now(), sha256.New()
	if len(t.Accepted()) == 0 {
		t.fail(fmt.Errorf("%w: no recipient was accepted", ErrUnavailable))
	}
	if t.over() {
		return
	}
	b.store = buffers.Get().(*[bodyBuffer]byte)
	b.buf = b.store[:0]
	if b.chunked = t.mail.BareNewlines && t.c.caps.chunking; !b.chunked {
		b.sent = t.c.send(ctx, t.pool.timeouts.Command, []byte("DATA\r\n")) == nil // a failure shows when the reply is read
	}
	t.Write(trace.appendReceived(nil))
}

// over says that nothing more can be sent of this message.
func (t *Transaction) over() bool { return t.failed != nil || t.refusal != nil || t.ended }

// Write sends a part of the body. It never fails and always takes all of p, so that nothing that happens to the next hop gets in the
// way of custody. It may block as long as the next hop does, up to Timeouts.DataBlock for each 64 KiB.
func (t *Transaction) Write(p []byte) (int, error) {
	b := &t.body
	if t.over() || !b.asked || len(p) == 0 {
		return len(p), nil
	}
	b.hash.Write(p)
	b.size += int64(len(p))
	if b.chunked {
		t.put(p)
	} else {
		t.stuff(p)
	}
	if !t.over() && time.Since(b.flushed) > bodyPause {
		t.flush(b.ctx)
	}
	return len(p), nil
}

// stuff doubles each dot at the start of a line (RFC 5321 section 4.5.2), a line being what follows CRLF and nothing else. A CR or LF
// that is not part of a CRLF ends the transaction with ErrBareNewline.
func (t *Transaction) stuff(p []byte) {
	b := &t.body
	open := 0 // a CR before p, whose LF must be p's first byte
	if b.last[1] == '\r' {
		open = 1
	}
	done, lines := 0, 0 // p[:done] is in the buffer
	if p[0] == '.' && b.last == [2]byte{'\r', '\n'} {
		t.put(p[:1])
	}
	for i := 0; ; {
		n := bytes.IndexByte(p[i:], '\n')
		if n < 0 {
			break
		}
		i += n
		if i > 0 && p[i-1] != '\r' || i == 0 && open == 0 {
			t.fail(ErrBareNewline)
			return
		}
		i++
		lines++
		if i < len(p) && p[i] == '.' {
			t.put(p[done : i+1])
			done = i
		}
	}
	if n := len(p); n > 1 {
		b.last = [2]byte{p[n-2], p[n-1]}
	} else {
		b.last = [2]byte{b.last[1], p[0]}
	}
	open += bytes.Count(p, []byte{'\r'}) - lines
	if open > 1 || open == 1 && b.last[1] != '\r' {
		t.fail(ErrBareNewline)
		return
	}
	t.put(p[done:])
}

// put collects p, and writes out whatever fills the buffer.
func (t *Transaction) put(p []byte) {
	b := &t.body
	for len(p) > 0 && !t.over() {
		n := min(len(p), bodyBuffer-len(b.buf))
		b.buf = append(b.buf, p[:n]...)
		if p = p[n:]; len(b.buf) == bodyBuffer {
			t.flush(b.ctx)
		}
	}
}

// flush writes out what is collected. A failure ends the transaction: with the reply that the server may have sent before it broke off.
func (t *Transaction) flush(ctx context.Context) {
	b := &t.body
	if b.chunked {
		t.chunk(ctx, false)
		return
	}
	if t.start(ctx) {
		t.transmit(ctx, b.buf)
	}
}

// transmit writes p, in which buf is, and empties buf.
func (t *Transaction) transmit(ctx context.Context, p []byte) {
	b := &t.body
	if !t.last.caps.eightBit && !b.eightBit {
		b.eightBit = !isASCII(b.buf)
	}
	err := t.c.send(ctx, t.pool.timeouts.DataBlock, p)
	b.buf, b.flushed = b.store[:0], time.Now()
	if err == nil {
		return
	}
	if reply, replyErr := t.c.answer(ctx, lastWords); replyErr == nil && !reply.ok() {
		t.refusal = reply
		t.drop()
		return
	}
	t.broke(ctx, fmt.Errorf("in the body: %w", err), ErrUnavailable)
}

// broke ends the transaction with kind because of what the host did after the body had begun.
func (t *Transaction) broke(ctx context.Context, err, kind error) {
	h := t.hosts[t.at]
	if ctx.Err() == nil {
		t.pool.failed(h, err)
	}
	t.fail(fmt.Errorf("%w: %s: %w", kind, h.target.Address, err))
}

// chunk sends what is collected by BDAT, once the chunk before it is answered.
func (t *Transaction) chunk(ctx context.Context, last bool) {
	b := &t.body
	if b.owed {
		b.owed = false
		reply, err := t.c.answer(ctx, t.pool.timeouts.DataBlock)
		var bye closing
		switch {
		case errors.As(err, &bye):
			t.refusal = bye.reply
		case err != nil:
			t.broke(ctx, fmt.Errorf("in the body: %w", err), ErrUnavailable)
		case !reply.ok():
			t.refusal = reply
		}
		if t.over() {
			t.drop()
			return
		}
	}
	p := strconv.AppendInt([]byte("BDAT "), int64(len(b.buf)), 10)
	if last {
		p = append(p, " LAST"...)
	}
	b.begun = true
	t.transmit(ctx, append(append(p, "\r\n"...), b.buf...))
	b.owed = true
}

// start waits for 354, and says whether the body may be written. A refusal of DATA is kept for Finish.
func (t *Transaction) start(ctx context.Context) bool {
	b := &t.body
	if b.begun {
		return true
	}
	var reply *Reply
	err := t.attempt(ctx, func() (err error) {
		if !b.sent {
			if err := t.c.send(ctx, t.pool.timeouts.Command, []byte("DATA\r\n")); err != nil {
				return lost{err}
			}
		}
		b.sent = false
		if reply, err = t.c.reply(ctx, t.pool.timeouts.DataInit); err == nil && reply.Code != 354 && reply.Code < 400 {
			err = fmt.Errorf("%w: %s to DATA", errReply, reply.Error())
		}
		return asLost(err)
	})
	switch {
	case err != nil:
		t.fail(err)
	case reply.Code != 354:
		t.refusal = reply
		t.release()
	default:
		b.begun = true
	}
	return b.begun
}

// Finish sends the final dot and waits for the reply. To be called once, after the whole body, and only when it is in custody.
//
// A reply is the next hop's last word: 2xx it is responsible now, 4xx or 5xx it is not. Without one the error is ErrUnknown where the
// dot was sent, and otherwise, nothing having been delivered, ErrUnavailable or ErrBareNewline. The end of ctx ends the wait.
//
// With LMTP there is a reply for each recipient, see Replies. Finish gives the first of them, and ErrUnknown where any did not come.
func (t *Transaction) Finish(ctx context.Context) (*Reply, error) {
	b := &t.body
	if !b.asked || t.ended {
		return nil, errors.New("nexthop: Finish without Data, or after the end")
	}
	if !t.over() {
		t.end(ctx)
	}
	t.ended, t.finished = true, record.Now()
	t.drop()
	b.free()
	switch {
	case t.failed != nil:
		t.pool.metrics.replied(0)
		return nil, t.failed
	case t.final != nil:
		t.pool.metrics.replied(t.final.Code)
		return t.final, nil
	}
	t.pool.metrics.replied(t.refusal.Code)
	return t.refusal, nil
}

// end sends the end of the message, in one write with what is left of it, and waits for the replies.
func (t *Transaction) end(ctx context.Context) {
	b := &t.body
	switch {
	case b.chunked:
		t.chunk(ctx, true)
	case b.last != [2]byte{'\r', '\n'}: // a body by DATA ends with CRLF: RFC 5321 section 4.1.1.4
		t.fail(ErrBareNewline)
	default:
		if len(b.buf) > bodyBuffer-3 {
			t.flush(ctx)
		}
		if !t.over() && t.start(ctx) {
			b.buf = append(b.buf, ".\r\n"...)
			t.flush(ctx)
		}
	}
	switch {
	case t.over():
	case t.lmtp():
		t.awaitEach(ctx)
	default:
		t.await(ctx)
	}
}

// await reads the reply to the dot. A write that failed was not whole, so the dot was not sent by it; one that did not fail leaves all
// to this reply.
func (t *Transaction) await(ctx context.Context) {
	reply, err := t.c.answer(ctx, t.pool.timeouts.Final)
	var bye closing
	switch {
	case err == nil:
		t.final = reply
		t.c.dirty = !reply.ok() // a server that said no before the dot may have more to say: the reply to RSET must come next
		t.release()
	case errors.As(err, &bye):
		t.final = bye.reply
		t.pool.failed(t.c.host, err)
	default:
		t.broke(ctx, err, ErrUnknown)
	}
}

// awaitEach reads a reply for each recipient that was accepted, in their order (RFC 2033 section 4.2).
func (t *Transaction) awaitEach(ctx context.Context) {
	dirty := false
	for i := range t.recipients {
		r := &t.recipients[i]
		if !r.accepted() {
			continue
		}
		reply, err := t.c.answer(ctx, t.pool.timeouts.Final)
		var bye closing
		if errors.As(err, &bye) { // of this one recipient; whether the others are spoken of too, the next read tells
			reply, err = bye.reply, nil
		}
		if err != nil {
			t.broke(ctx, err, ErrUnknown)
			return
		}
		r.final = reply
		if t.final == nil {
			t.final = reply
		}
		dirty = dirty || !reply.ok()
	}
	t.c.dirty = dirty
	t.release()
}
