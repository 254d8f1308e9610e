package segment

import (
	"encoding/binary"
	"hash/maphash"
)

// term is one term of one field of the segment under construction.
type term struct {
	hash uint32
	text uint32 // where it begins in dictionary.text
	size uint32 // bytes of it
	doc  uint32 // the last document it is in, from 1
	pos  uint32 // its last position there
	docs uint32 // in how many it is
	chain
}

// dictionary holds the terms of one field: a hash table with open addressing, which neither allocates for a term nor has pointers to follow.
type dictionary struct {
	table []uint32 // number of a term + 1; a power of two long
	terms []term
	text  []byte // of all terms
	doc   uint32 // the document under way
	kept  int    // terms that it has
}

// seed is of this process: terms are hostile input.
var seed = maphash.MakeSeed()

// find gives the term and, where there is none, the place in the table where it belongs.
func (d *dictionary) find(s string) (t *term, place uint32, hash uint32) {
	hash = uint32(maphash.String(seed, s))
	if len(d.table) == 0 {
		return nil, 0, hash
	}
	mask := uint32(len(d.table) - 1)
	for place = hash & mask; ; place = (place + 1) & mask {
		n := d.table[place]
		if n == 0 {
			return nil, place, hash
		}
		t = &d.terms[n-1]
		if t.hash == hash && string(d.text[t.text:t.text+t.size]) == s {
			return t, place, hash
		}
	}
}

// add makes a term that find did not.
func (d *dictionary) add(s string, place, hash uint32) *term {
	if 2*len(d.terms) >= len(d.table) {
		d.grow()
		mask := uint32(len(d.table) - 1)
		for place = hash & mask; d.table[place] != 0; place = (place + 1) & mask {
		}
	}
	d.terms = append(d.terms, term{hash: hash, text: uint32(len(d.text)), size: uint32(len(s))})
	d.text = append(d.text, s...)
	d.table[place] = uint32(len(d.terms))
	return &d.terms[len(d.terms)-1]
}

const firstTable = 256

func (d *dictionary) grow() {
	d.table = make([]uint32, max(firstTable, 2*len(d.table)))
	mask := uint32(len(d.table) - 1)
	for i := range d.terms {
		place := d.terms[i].hash & mask
		for d.table[place] != 0 {
			place = (place + 1) & mask
		}
		d.table[place] = uint32(i + 1)
	}
}

// begin goes on to a document, numbered from 1.
func (d *dictionary) begin(doc uint32) { d.doc, d.kept = doc, 0 }

// put adds an occurrence in the document under way. False: there are limit different terms in it, and this is not one of them.
func (d *dictionary) put(p *pool, s string, pos uint32, limit int) bool {
	t, place, hash := d.find(s)
	if t == nil || t.doc != d.doc {
		if d.kept == limit {
			return false
		}
		d.kept++
		if t == nil {
			t = d.add(s, place, hash)
		}
		p.append(&t.chain, (d.doc-t.doc)<<1|1)
		p.append(&t.chain, pos)
		t.doc, t.pos = d.doc, pos
		t.docs++
		return true
	}
	if pos > t.pos {
		p.append(&t.chain, (pos-t.pos)<<1)
		t.pos = pos
	}
	return true
}

// A chain is the postings of one term as they came: varints in slices of blocks that all terms share, each slice twice as long as the one
// before, and at its end where the next one begins. For each document
//
//	distance from the document before, times two, plus one; first position; distance to each further position, times two
//
// so that an occurrence takes a byte or two, and nothing is moved when a chain grows.
type chain struct {
	head  uint32 // where it begins
	tail  uint32 // where its next byte goes
	left  uint16 // bytes that fit into its last slice
	slice uint16 // length of its last slice; 0: there is none
}

const (
	blockBits  = 16
	blockSize  = 1 << blockBits
	linkSize   = 4
	firstSlice = 8 // the most terms stand in one document, once
	lastSlice  = 4096
)

// pool is where chains lie. An address is the number of a block, and a place in it.
type pool struct {
	blocks [][]byte
	used   int // addresses that are given out
}

// take gives the address of n bytes that lie in one block.
func (p *pool) take(n int) uint32 {
	if room := blockSize - p.used&(blockSize-1); room < n {
		p.used += room
	}
	at := p.used
	if at>>blockBits == len(p.blocks) {
		p.blocks = append(p.blocks, make([]byte, blockSize))
	}
	p.used += n
	return uint32(at)
}

func (p *pool) at(address uint32) []byte {
	return p.blocks[address>>blockBits][address&(blockSize-1):]
}

// append puts a number at the end of a chain.
func (p *pool) append(c *chain, n uint32) {
	for ; n >= 0x80; n >>= 7 {
		p.byte(c, byte(n)|0x80)
	}
	p.byte(c, byte(n))
}

func (p *pool) byte(c *chain, b byte) {
	if c.left == 0 {
		p.lengthen(c)
	}
	p.blocks[c.tail>>blockBits][c.tail&(blockSize-1)] = b
	c.tail++
	c.left--
}

func (p *pool) lengthen(c *chain) {
	n := min(2*c.slice, lastSlice)
	if c.slice == 0 {
		n = firstSlice
	}
	next := p.take(int(n))
	if c.slice == 0 {
		c.head = next
	} else {
		binary.LittleEndian.PutUint32(p.at(c.tail), next)
	}
	c.tail, c.slice, c.left = next, n, n-linkSize
}

// reader reads a chain.
type reader struct {
	p     *pool
	block []byte // the slice that is read, from the next byte on
	at    uint32 // its address
	tail  uint32
	left  uint16
	slice uint16
}

func (p *pool) read(c chain) reader {
	return reader{p: p, block: p.at(c.head), at: c.head, tail: c.tail, left: firstSlice - linkSize, slice: firstSlice}
}

func (r *reader) done() bool { return r.at == r.tail }

func (r *reader) next() (n uint32) {
	for shift := 0; ; shift += 7 {
		if r.left == 0 {
			r.at = binary.LittleEndian.Uint32(r.block)
			r.block = r.p.at(r.at)
			r.slice = min(2*r.slice, lastSlice)
			r.left = r.slice - linkSize
		}
		b := r.block[0]
		r.block = r.block[1:]
		r.at++
		r.left--
		n |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
}
