package ledger

import (
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Tiles are 256 hashes wide (C2SP tlog-tiles).
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// frontier is what is needed of a tree to go on appending to it: the roots of its complete subtrees, the largest (leftmost) first, one for
// each bit that is set in its size.
type frontier struct {
	size   uint64
	hashes []tlog.Hash
}

// valid says whether there are as many hashes as a tree of this size has.
func (f *frontier) valid() bool { return len(f.hashes) == bits.OnesCount64(f.size) }

func (f *frontier) add(leaf tlog.Hash) {
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(f.hashes) - 1
		leaf = tlog.NodeHash(f.hashes[last], leaf)
		f.hashes = f.hashes[:last]
	}
	f.hashes = append(f.hashes, leaf)
	f.size++
}

// root is the tree's root (RFC 6962 section 2.1).
func (f *frontier) root() tlog.Hash {
	if len(f.hashes) == 0 {
		empty, _ := tlog.TreeHash(0, nil) // reads nothing
		return empty
	}
	last := len(f.hashes) - 1
	root := f.hashes[last]
	for i := last - 1; i >= 0; i-- {
		root = tlog.NodeHash(f.hashes[i], root)
	}
	return root
}

// edge is the right edge of a tree as tiles see it: for each level the hashes of its last, partial tile. A hash of zeros is one that is
// not known; it makes all that is above it unknown.
type edge struct {
	size   uint64
	levels [][]tlog.Hash
}

// add appends a leaf and hands each tile that it fills to full, which must not keep the slice.
func (e *edge) add(leaf tlog.Hash, full func(tlog.Tile, []tlog.Hash)) {
	number := e.size
	e.size++
	h := leaf
	for l := 0; ; l++ {
		if l == len(e.levels) {
			e.levels = append(e.levels, make([]tlog.Hash, 0, tileWidth))
		}
		e.levels[l] = append(e.levels[l], h)
		if len(e.levels[l]) < tileWidth {
			return
		}
		full(tlog.Tile{H: tileHeight, L: l, N: int64(number >> (tileHeight * (l + 1))), W: tileWidth}, e.levels[l])
		h = subtree(e.levels[l])
		e.levels[l] = e.levels[l][:0]
	}
}

// frontier gives the same edge as roots of complete subtrees.
func (e *edge) frontier() frontier {
	f := frontier{size: e.size}
	for l := len(e.levels) - 1; l >= 0; l-- {
		rest := e.levels[l]
		for bit := tileWidth / 2; bit > 0; bit /= 2 {
			if len(e.levels[l])&bit != 0 {
				f.hashes = append(f.hashes, subtree(rest[:bit]))
				rest = rest[bit:]
			}
		}
	}
	return f
}

// partial gives the hashes of a tile on the edge, or nil where t is not one of them. The slice is valid until the next add.
func (e *edge) partial(t tlog.Tile) []tlog.Hash {
	if t.L >= len(e.levels) || t.W > len(e.levels[t.L]) || uint64(t.N) != e.size>>(tileHeight*(t.L+1)) {
		return nil
	}
	return e.levels[t.L][:t.W]
}

// edgeTiles lists the partial tiles of a tree of this size, lowest level first.
func edgeTiles(size uint64) (tiles []tlog.Tile) {
	for l := 0; size>>(tileHeight*l) > 0; l++ {
		if w := int(size >> (tileHeight * l) % tileWidth); w > 0 {
			tiles = append(tiles, tlog.Tile{H: tileHeight, L: l, N: int64(size >> (tileHeight * (l + 1))), W: w})
		}
	}
	return tiles
}

// subtree is the root over a power of two of hashes, unknown where one of them is.
func subtree(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	left, right := subtree(hashes[:half]), subtree(hashes[half:])
	if left == (tlog.Hash{}) || right == (tlog.Hash{}) {
		return tlog.Hash{}
	}
	return tlog.NodeHash(left, right)
}

// tileData is the content of a tile object.
func tileData(hashes []tlog.Hash) []byte {
	b := make([]byte, 0, len(hashes)*tlog.HashSize)
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return b
}

// tileHashes is the converse of tileData.
func tileHashes(data []byte) []tlog.Hash {
	hashes := make([]tlog.Hash, 0, tileWidth)
	for ; len(data) >= tlog.HashSize; data = data[tlog.HashSize:] {
		hashes = append(hashes, tlog.Hash(data))
	}
	return hashes
}
