package ledger

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Prover makes proofs against one checkpoint of a log, however the log grows meanwhile: the same entry gives the same proof at any time.
// It is made for many proofs in the order of the log, and keeps the hashes of the tiles that it read last. It is for one goroutine.
type Prover struct {
	Checkpoint Checkpoint
	hashes     tlog.HashReader
	tiles      map[tileAt][][]tlog.Hash // the hashes of a tile: its leaves, and the levels above them
}

type tileAt struct {
	level int // of tiles: 0 is that of the entries
	n     int64
}

// proverTiles bounds what a Prover keeps: 16 KiB each.
const proverTiles = 128

// ProverAt gives a Prover for the checkpoint of a commit. It may read with ctx for as long as it is used.
func (r *Reader) ProverAt(ctx context.Context, commit uint64) (*Prover, error) {
	c, err := r.Commit(ctx, commit)
	if err != nil {
		return nil, err
	}
	v, err := r.viewOf(ctx, c.Checkpoint.Size)
	if err != nil {
		return nil, err
	}
	return &Prover{Checkpoint: c.Checkpoint, hashes: v.hashes, tiles: map[tileAt][][]tlog.Hash{}}, nil
}

// Proof proves that an entry is in the log, as Reader.Proof does. ErrRange where it came after the checkpoint, ErrAltered where it is not
// the entry that the log has under its number.
func (p *Prover) Proof(e Numbered) ([]byte, error) {
	if e.N >= p.Checkpoint.Size {
		return nil, fmt.Errorf("log %s: entry %d, of %d: %w", p.Checkpoint.Log, e.N, p.Checkpoint.Size, ErrRange)
	}
	size, n := int64(p.Checkpoint.Size), int64(e.N)
	hashes, err := tlog.ProveRecord(size, n, tlog.HashReaderFunc(p.read))
	if err != nil {
		return nil, fmt.Errorf("log %s: prove entry %d: %w", p.Checkpoint.Log, e.N, err)
	}
	if err := tlog.CheckRecord(hashes, size, p.Checkpoint.Root, n, tlog.RecordHash(e.Raw)); err != nil {
		return nil, fmt.Errorf("log %s: entry %d: %w: %w", p.Checkpoint.Log, e.N, ErrAltered, err)
	}
	return formatProof(e.N, e.Raw, hashes, p.Checkpoint.Note), nil
}

// read gives stored hashes out of whole tiles.
func (p *Prover) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		within := level % tileHeight
		levels, err := p.tile(tileAt{level / tileHeight, n << within >> tileHeight})
		if err != nil {
			return nil, err
		}
		at := n - n<<within>>tileHeight<<tileHeight>>within
		if within >= len(levels) || at >= int64(len(levels[within])) {
			return nil, fmt.Errorf("hash %d of level %d: %w", n, level, ErrRange)
		}
		out[i] = levels[within][at]
	}
	return out, nil
}

// tile gives the hashes of a tile, as far as the tree of the checkpoint has them.
func (p *Prover) tile(at tileAt) ([][]tlog.Hash, error) {
	if levels := p.tiles[at]; levels != nil {
		return levels, nil
	}
	first := at.n << tileHeight
	width := min(tileWidth, int64(p.Checkpoint.Size)>>(tileHeight*at.level)-first)
	indexes := make([]int64, max(0, width))
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(tileHeight*at.level, first+int64(i))
	}
	leaves, err := p.hashes.ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	levels := [][]tlog.Hash{leaves}
	for len(leaves) > 1 && len(levels) < tileHeight {
		above := make([]tlog.Hash, len(leaves)/2)
		for i := range above {
			above[i] = tlog.NodeHash(leaves[2*i], leaves[2*i+1])
		}
		leaves = above
		levels = append(levels, above)
	}
	if len(p.tiles) >= proverTiles {
		clear(p.tiles)
	}
	p.tiles[at] = levels
	return levels, nil
}
