package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive/object"
)

// listTiles lists all that is not a commit, without listing the commits, which may be many more.
func (v *verification) listTiles(ctx context.Context) error {
	inCommits := false
	for _, after := range []string{"", commitPrefix(v.log) + "~"} { // digits come before ~
		for info, err := range v.store.List(ctx, prefix(v.log), after) {
			if err != nil {
				return err
			}
			if inCommits = strings.HasPrefix(info.Key, commitPrefix(v.log)); inCommits {
				if after == "" {
					break
				}
				continue // it is looked at with the commits
			}
			if t, ok := parseTileKey(v.log, info.Key); ok {
				v.tiles = append(v.tiles, t)
			} else if info.Key != checkpointKey(v.log) {
				v.report(Unknown, info.Key, errors.New("no object of a ledger"))
			}
		}
		if !inCommits {
			break // the first list went to its end
		}
	}
	slices.SortFunc(v.tiles, compareTiles)
	return nil
}

func compareTiles(a, b tlog.Tile) int {
	return cmp.Or(cmp.Compare(a.L, b.L), cmp.Compare(a.N, b.N), cmp.Compare(a.W, b.W))
}

// full checks what there is of a tile that the commits have filled.
func (v *verification) full(ctx context.Context, t tlog.Tile, hashes []tlog.Hash) {
	there := v.widths(t)
	if len(there) == 0 || there[len(there)-1].W != tileWidth {
		kind, why := Missing, errors.New("the commits have filled it")
		if end := (uint64(t.N) + 1) << (tileHeight * (t.L + 1)); end > v.published {
			kind, why = Behind, errors.New("not yet published")
		}
		v.report(kind, tileKey(v.log, t), why)
	}
	v.compare(ctx, there, hashes)
}

// widths gives the objects that are there of a tile, the narrowest first.
func (v *verification) widths(t tlog.Tile) []tlog.Tile {
	t.W = 0
	first, _ := slices.BinarySearchFunc(v.tiles, t, compareTiles)
	t.W = tileWidth + 1
	end, _ := slices.BinarySearchFunc(v.tiles, t, compareTiles)
	return v.tiles[first:end]
}

// compare reads tiles of one place and compares them with its hashes, as far as these are known.
func (v *verification) compare(ctx context.Context, there []tlog.Tile, hashes []tlog.Hash) {
	if len(there) == 0 {
		return
	}
	hashes = slices.Clone(hashes)
	v.group.Go(func() error {
		for _, t := range there {
			key := tileKey(v.log, t)
			data, err := v.read(ctx, key, maxTile)
			switch {
			case errors.Is(err, object.ErrNotFound):
				v.report(Missing, key, errors.New("listed, and gone when it was read"))
				continue
			case errors.Is(err, ErrAltered):
			case err != nil:
				return err
			default:
				err = compareTile(data, hashes[:t.W])
			}
			if err != nil {
				v.report(Altered, key, err)
			}
		}
		return nil
	})
}

func compareTile(data []byte, hashes []tlog.Hash) error {
	if len(data) != len(hashes)*tlog.HashSize {
		return fmt.Errorf("%w: %d bytes", ErrAltered, len(data))
	}
	for i, h := range tileHashes(data) {
		if hashes[i] != (tlog.Hash{}) && hashes[i] != h {
			return fmt.Errorf("%w: hash %d is not what the commits say", ErrAltered, i)
		}
	}
	return nil
}

// checkpointTiles checks that the partial tiles of the published checkpoint are there, or the full ones that took their place.
func (v *verification) checkpointTiles(cp *Checkpoint) {
	for _, t := range edgeTiles(cp.Size) {
		there := slices.ContainsFunc(v.widths(t), func(o tlog.Tile) bool { return o.W == t.W || o.W == tileWidth })
		if !there {
			v.report(Missing, tileKey(v.log, t), errors.New("the published checkpoint needs it"))
		}
	}
}
