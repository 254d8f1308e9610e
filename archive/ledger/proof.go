package ledger

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// ErrProof is returned for a proof that is malformed or does not hold.
var ErrProof = errors.New("proof does not hold")

// proofHeading is the first line of a C2SP tlog-proof.
const proofHeading = "c2sp.org/tlog-proof@v1"

// Proof proves that entry n is in the log: a C2SP tlog-proof with the entry's own bytes as its extra data, so that the proof and the
// verifier key are all that CheckProof needs. ErrRange where the log has no such entry yet.
func (r *Reader) Proof(ctx context.Context, n uint64) ([]byte, error) {
	v, err := r.viewOf(ctx, n+1)
	if err != nil {
		return nil, err
	}
	e, err := r.Entry(ctx, n)
	if err != nil {
		return nil, err
	}
	hashes, err := tlog.ProveRecord(int64(v.Size), int64(n), v.hashes)
	if err == nil {
		err = tlog.CheckRecord(hashes, int64(v.Size), v.Root, int64(n), tlog.RecordHash(e.Raw))
	}
	if err != nil {
		return nil, fmt.Errorf("log %s: prove entry %d: %w", r.log, n, err)
	}
	return formatProof(n, e.Raw, hashes, v.Note), nil
}

// Consistency proves that the log of today holds the log that had size entries, unaltered and in its place (RFC 6962 section 2.1.2). The
// proof is checked by tlog.CheckTree with both roots. ErrRange where the log is not that large, or size is 0.
func (r *Reader) Consistency(ctx context.Context, size uint64) (tlog.TreeProof, Checkpoint, error) {
	if size == 0 {
		return nil, Checkpoint{}, fmt.Errorf("log %s: consistency with the empty log: %w", r.log, ErrRange)
	}
	v, err := r.viewOf(ctx, size)
	if err != nil {
		return nil, Checkpoint{}, err
	}
	proof, err := tlog.ProveTree(int64(v.Size), int64(size), v.hashes)
	if err != nil {
		return nil, Checkpoint{}, fmt.Errorf("log %s: prove consistency with size %d: %w", r.log, size, err)
	}
	return proof, v.Checkpoint, nil
}

// view is a tree and where its hashes are to be had.
type view struct {
	Checkpoint
	hashes tlog.HashReader
	tiled  tlog.HashReader // by tiles alone; nil where no checkpoint is published
}

// viewOf gives a view of at least size entries: by the published checkpoint and tiles; for what is newer, by these and the commits after
// them; and where a tile is missing or bad, by the commits alone, however many there are.
func (r *Reader) viewOf(ctx context.Context, size uint64) (*view, error) {
	cp, e, err := r.publishedEdge(ctx)
	if err != nil {
		return nil, err
	}
	newer := map[tlog.Tile][]byte{} // full tiles that came after the checkpoint
	var head Checkpoint
	if cp != nil {
		head = *cp
	}
	if cp == nil || cp.Size < size {
		newest, err := r.find(ctx)
		if err != nil {
			return nil, err
		}
		first := newest
		if cp != nil {
			first = cp.Commit + 1
		}
		for c, err := range r.chain(ctx, first, newest) {
			if err != nil {
				return nil, err
			}
			head = c.Checkpoint
			for _, leaf := range c.leaves {
				if cp != nil {
					e.add(leaf, func(t tlog.Tile, hashes []tlog.Hash) { newer[t] = tileData(hashes) })
				}
			}
		}
	}
	if head.Size < size {
		return nil, fmt.Errorf("log %s has %d entries: %w", r.log, head.Size, ErrRange)
	}
	v := &view{Checkpoint: head, hashes: r.replay(ctx, head)}
	if cp != nil {
		v.tiled = tlog.TileHashReader(head.Tree(), &tiles{ctx: ctx, r: r, edge: e, newer: newer})
		v.hashes = firstOf(v.tiled, v.hashes)
	}
	return v, nil
}

// firstOf asks readers in turn until one gives an answer.
func firstOf(readers ...tlog.HashReader) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) (hashes []tlog.Hash, err error) {
		for _, r := range readers {
			if hashes, err = r.ReadHashes(indexes); err == nil {
				break
			}
		}
		return hashes, err
	})
}

// tiles is a tlog.TileReader: partial tiles from an edge in memory, full ones from there or from the store. tlog verifies them.
type tiles struct {
	ctx   context.Context // of the one call that a tiles serves
	r     *Reader
	edge  edge
	newer map[tlog.Tile][]byte
	have  map[tlog.Tile][]byte // that were read last
}

// maxHave bounds what a tiles keeps, in tiles of 8 KiB.
const maxHave = 512

func (t *tiles) Height() int                     { return tileHeight }
func (t *tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t *tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(want))
	for i, tile := range want {
		if hashes := t.edge.partial(tile); hashes != nil {
			data[i] = tileData(hashes)
			continue
		}
		if data[i] = t.newer[tile]; data[i] != nil {
			continue
		}
		if data[i] = t.have[tile]; data[i] != nil {
			continue
		}
		var err error
		if data[i], err = t.r.tile(t.ctx, tile); err != nil {
			return nil, err
		}
		if data[i] == nil {
			return nil, fmt.Errorf("%s: %w", tileKey(t.r.log, tile), ErrMissing)
		}
		if t.have == nil || len(t.have) >= maxHave {
			t.have = map[tlog.Tile][]byte{}
		}
		t.have[tile] = data[i]
	}
	return data, nil
}

// replay is a tlog.HashReader that computes hashes from all commits up to a checkpoint. It keeps only those that are asked for.
func (r *Reader) replay(ctx context.Context, through Checkpoint) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make(map[int64]tlog.Hash, len(indexes))
		for _, i := range indexes {
			found[i] = tlog.Hash{}
		}
		var f frontier
		for c, err := range r.chain(ctx, 0, through.Commit) {
			if err != nil {
				return nil, err
			}
			for _, leaf := range c.leaves {
				storedHashes(f, leaf, func(index int64, h tlog.Hash) {
					if _, ok := found[index]; ok {
						found[index] = h
					}
				})
				f.add(leaf)
			}
		}
		if f.root() != through.Root {
			return nil, fmt.Errorf("log %s: %w: the commits do not have the tree of the checkpoint of %d entries", r.log, ErrAltered, through.Size)
		}
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			hashes[i] = found[index]
		}
		return hashes, nil
	})
}

// storedHashes gives the hashes that a leaf completes on top of f, with their storage indexes in the order of package tlog.
func storedHashes(f frontier, leaf tlog.Hash, give func(int64, tlog.Hash)) {
	index := tlog.StoredHashIndex(0, int64(f.size))
	give(index, leaf)
	hashes := f.hashes
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(hashes) - 1
		leaf, hashes = tlog.NodeHash(hashes[last], leaf), hashes[:last]
		index++
		give(index, leaf)
	}
}

func formatProof(n uint64, extra []byte, hashes tlog.RecordProof, signed []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nextra %s\nindex %d\n", proofHeading, base64.StdEncoding.EncodeToString(extra), n)
	for _, h := range hashes {
		fmt.Fprintln(&b, h)
	}
	b.WriteByte('\n')
	b.Write(signed)
	return b.Bytes()
}

// CheckProof checks a proof that Proof has made, with nothing but the verifier key: the entry is in the log that the checkpoint signs.
// archive may be empty, which accepts any; so may log. It does no I/O. ErrProof where the proof is malformed or does not hold, or what
// OpenCheckpoint gives.
func CheckProof(text []byte, archive, log string, verifier note.Verifier) (Numbered, Checkpoint, error) {
	head, signed, ok := bytes.Cut(text, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !ok || len(lines) < 3 || lines[0] != proofHeading {
		return Numbered{}, Checkpoint{}, fmt.Errorf("%w: not a %s with extra data", ErrProof, proofHeading)
	}
	extra, ok1 := strings.CutPrefix(lines[1], "extra ")
	index, ok2 := strings.CutPrefix(lines[2], "index ")
	raw, err1 := base64.StdEncoding.DecodeString(extra)
	n, err2 := strconv.ParseUint(index, 10, 63)
	if !ok1 || !ok2 || err1 != nil || err2 != nil {
		return Numbered{}, Checkpoint{}, fmt.Errorf("%w: malformed", ErrProof)
	}
	proof := tlog.RecordProof{}
	for _, line := range lines[3:] {
		h, err := tlog.ParseHash(line)
		if err != nil {
			return Numbered{}, Checkpoint{}, fmt.Errorf("%w: hash %q", ErrProof, line)
		}
		proof = append(proof, h)
	}
	if log == "" {
		log = LogOf(signed)
	}
	cp, err := OpenCheckpoint(signed, archive, log, verifier)
	if err != nil {
		return Numbered{}, Checkpoint{}, err
	}
	if err := tlog.CheckRecord(proof, int64(cp.Size), cp.Root, int64(n), tlog.RecordHash(raw)); err != nil {
		return Numbered{}, Checkpoint{}, fmt.Errorf("%w: entry %d: %w", ErrProof, n, err)
	}
	if !bytes.Equal(text, formatProof(n, raw, proof, signed)) {
		return Numbered{}, Checkpoint{}, fmt.Errorf("%w: not in its canonical form", ErrProof)
	}
	e, err := UnmarshalEntry(raw)
	if err != nil {
		return Numbered{}, Checkpoint{}, err
	}
	return Numbered{N: n, Entry: e, Raw: raw}, cp, nil
}

// LogOf is the log that a checkpoint claims.
func LogOf(signed []byte) string {
	origin, _, _ := strings.Cut(string(signed), "\n")
	return origin[strings.LastIndexByte(origin, '/')+1:]
}
