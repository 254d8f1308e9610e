package ledger

import (
	"bytes"
	"encoding/base64"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// checkProof checks a C2SP tlog-proof by its specification, with nothing of this package. It gives the size of its tree.
func checkProof(t *testing.T, w *world, text []byte, n uint64, leaf []byte) uint64 {
	t.Helper()
	lines := strings.Split(string(text), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" || lines[1] != "extra "+base64.StdEncoding.EncodeToString(leaf) || lines[2] != fmt.Sprintf("index %d", n) {
		t.Fatalf("proof of entry %d begins %q", n, lines[:3])
	}
	var proof tlog.RecordProof
	at := 3
	for ; lines[at] != ""; at++ {
		h, err := tlog.ParseHash(lines[at])
		check(t, err)
		proof = append(proof, h)
	}
	signed, err := note.Open([]byte(strings.Join(lines[at+1:], "\n")), note.VerifierList(w.verifier))
	check(t, err)
	checkpoint := strings.Split(signed.Text, "\n")
	if checkpoint[0] != "holdfast/"+testArchive+"/"+testLog {
		t.Fatalf("origin is %q", checkpoint[0])
	}
	size, err := strconv.ParseInt(checkpoint[1], 10, 64)
	check(t, err)
	root, err := tlog.ParseHash(checkpoint[2])
	check(t, err)
	if err := tlog.CheckRecord(proof, size, root, int64(n), tlog.RecordHash(leaf)); err != nil {
		t.Fatalf("entry %d of %d: %v", n, size, err)
	}
	return uint64(size)
}

// TestProofs grows a log to 600 entries and proves, at each size, some entries by what is published and by what is not yet.
func TestProofs(t *testing.T) {
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	w := newWorld(t)
	l := w.log()
	leaves := [][]byte{collect(t, l.Entries(t.Context(), 0))[0].Raw}
	roots := []tlog.Hash{{}, l.Head().Root}
	for len(leaves) < 600 {
		if rng.IntN(3) == 0 {
			w.clock.advance(time.Minute)
		}
		e := w.append(l, 1)[0]
		line, err := MarshalEntry(e)
		check(t, err)
		leaves = append(leaves, line)
		roots = append(roots, l.Head().Root)
		size := uint64(len(leaves))
		for _, n := range []uint64{size - 1, rng.Uint64N(size)} {
			text, err := l.Proof(t.Context(), n)
			check(t, err)
			if got := checkProof(t, w, text, n, leaves[n]); got > size || n == size-1 && got != size {
				t.Fatalf("entry %d is proved in a tree of %d, of %d", n, got, size)
			}
			got, cp, err := CheckProof(text, testArchive, testLog, w.verifier)
			check(t, err)
			if got.N != n || !bytes.Equal(got.Raw, leaves[n]) || cp.Size > size {
				t.Fatalf("CheckProof gives entry %d", got.N)
			}
		}
		_, err = l.Proof(t.Context(), size)
		wantErr(t, err, ErrRange)
		for _, n := range []uint64{size, 1 + rng.Uint64N(size)} {
			proof, cp, err := l.Consistency(t.Context(), n)
			check(t, err)
			if err := tlog.CheckTree(proof, int64(cp.Size), cp.Root, int64(n), roots[n]); err != nil {
				t.Fatalf("size %d in %d: %v", n, cp.Size, err)
			}
		}
		_, _, err = l.Consistency(t.Context(), size+1)
		wantErr(t, err, ErrRange)
	}
	_, _, err := l.Consistency(t.Context(), 0)
	wantErr(t, err, ErrRange)
	_, err = l.Proof(t.Context(), 1<<64-1)
	wantErr(t, err, ErrRange)
}

// TestEdge checks, at each size to 70,000, the edge, the frontier and the tiles against a tree computed without them.
func TestEdge(t *testing.T) {
	var tree naive
	var f frontier
	var e edge
	for n := range uint64(70_000) {
		leaf := []byte(strconv.FormatUint(n, 10))
		tree.add(t, n, leaf)
		f.add(tlog.RecordHash(leaf))
		e.add(tlog.RecordHash(leaf), func(tile tlog.Tile, hashes []tlog.Hash) {
			want, err := tlog.ReadTileData(tile, &tree)
			check(t, err)
			if !bytes.Equal(tileData(hashes), want) {
				t.Fatalf("tile %s is wrong", tile.Path())
			}
		})
		if n > 1000 && n%97 != 0 && (n+1)%256 != 0 && n%256 != 0 {
			continue
		}
		root := tree.root(t, n+1)
		g := e.frontier()
		if !f.valid() || !g.valid() || f.root() != root || g.root() != root {
			t.Fatalf("wrong root at %d", n+1)
		}
		for _, tile := range edgeTiles(n + 1) {
			want, err := tlog.ReadTileData(tile, &tree)
			check(t, err)
			if !bytes.Equal(tileData(e.partial(tile)), want) {
				t.Fatalf("tile %s is wrong at %d", tile.Path(), n+1)
			}
		}
	}
	if len(e.levels) != 3 {
		t.Errorf("%d levels", len(e.levels))
	}
	if f := (frontier{}); f.root() != tree.root(t, 0) {
		t.Error("wrong root of the empty tree")
	}
}

// TestReplay compares the way of computing hashes that needs no tiles with the stored ones, all of them.
func TestReplay(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	for _, n := range []int{1, 2, 300, 5, 1, 291} {
		w.append(l, n)
	}
	var tree naive
	for e, err := range l.Entries(t.Context(), 0) {
		check(t, err)
		tree.add(t, e.N, e.Raw)
	}
	var indexes []int64
	for i := range tree.stored {
		indexes = append(indexes, int64(i))
	}
	hashes, err := l.replay(t.Context(), l.Head().Checkpoint).ReadHashes(indexes)
	check(t, err)
	for i, h := range hashes {
		if h != tree.stored[i] {
			t.Fatalf("stored hash %d of %d is wrong", i, len(hashes))
		}
	}
}

func TestCheckProofRefuses(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	w.append(l, 20)
	check(t, l.Close(t.Context()))
	text, err := w.reader().Proof(t.Context(), 7)
	check(t, err)
	if _, _, err := CheckProof(text, "", "", w.verifier); err != nil {
		t.Fatal(err)
	}
	for i := range text {
		for bit := range 8 {
			other := bytes.Clone(text)
			other[i] ^= 1 << bit
			if _, _, err := CheckProof(other, "", "", w.verifier); err == nil {
				t.Fatalf("byte %d, bit %d: accepted as %s", i, bit, other)
			}
		}
		if _, _, err := CheckProof(text[:i], "", "", w.verifier); err == nil {
			t.Fatalf("the first %d bytes are accepted", i)
		}
	}
	_, _, err = CheckProof(text, strings.Repeat("0", 32), "", w.verifier)
	wantErr(t, err, ErrForeign)
	_, _, err = CheckProof(text, "", "acts", w.verifier)
	wantErr(t, err, ErrForeign)
	_, _, err = CheckProof(text, "", "", newWorld(t).verifier)
	wantErr(t, err, ErrKey)
}

func FuzzCheckProof(f *testing.F) {
	w := newWorld(f)
	l := w.log()
	w.append(l, 20)
	text, err := l.Proof(f.Context(), 7)
	check(f, err)
	f.Add(text)
	f.Fuzz(func(t *testing.T, other []byte) {
		if e, _, err := CheckProof(other, "", "", w.verifier); err == nil && !bytes.Equal(other, text) {
			t.Fatalf("accepted as entry %d (%s): %s", e.N, record.Sum(e.Raw), other)
		}
	})
}
