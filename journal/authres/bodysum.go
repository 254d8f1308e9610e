package authres

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
)

// bodySums hashes a body once for each way in which signatures want it hashed.
type bodySums struct {
	list []*bodySum
	size [2]int64 // bytes of the body in the simple and in the relaxed form, when it was read
}

// bodySum is the hash of the first bytes of a body.
type bodySum struct {
	relaxed bool
	limit   int64 // -1: all of it
	left    int64
	hash    hash.Hash
	sum     []byte
}

// want asks for the hash that a signature needs.
func (b *bodySums) want(s *signature) {
	if b.find(s) == nil {
		b.list = append(b.list, &bodySum{relaxed: s.bodyRelaxed, limit: s.length, left: s.length, hash: sha256.New()})
	}
}

func (b *bodySums) find(s *signature) *bodySum {
	for _, sum := range b.list {
		if sum.relaxed == s.bodyRelaxed && sum.limit == s.length {
			return sum
		}
	}
	return nil
}

// read reads the body to its end, if anything is wanted of it.
func (b *bodySums) read(ctx context.Context, r io.Reader) error {
	if len(b.list) == 0 {
		return nil
	}
	var canons []*bodyCanon
	for form, relaxed := range []bool{false, true} {
		var sums []*bodySum
		for _, s := range b.list {
			if s.relaxed == relaxed {
				sums = append(sums, s)
			}
		}
		if sums == nil {
			continue
		}
		out := buffers.Get().(*[]byte)
		defer buffers.Put(out)
		canons = append(canons, &bodyCanon{relaxed: relaxed, out: (*out)[:0], emit: func(p []byte) {
			b.size[form] += int64(len(p))
			for _, s := range sums {
				s.add(p)
			}
		}})
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	chunk := (*buf)[:bufSize]
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(chunk)
		for _, c := range canons {
			c.write(chunk[:n])
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	for _, c := range canons {
		c.close()
	}
	for _, s := range b.list {
		s.sum = s.hash.Sum(nil)
	}
	return nil
}

func (s *bodySum) add(p []byte) {
	if s.limit >= 0 {
		p = p[:min(int64(len(p)), s.left)]
		s.left -= int64(len(p))
	}
	s.hash.Write(p)
}

// sizeOf is how many bytes the body has in the form that a signature wants.
func (b *bodySums) sizeOf(s *signature) int64 {
	if s.bodyRelaxed {
		return b.size[1]
	}
	return b.size[0]
}
