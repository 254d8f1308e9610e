package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	bleveindex "github.com/blevesearch/bleve_index_api"
	segmentapi "github.com/blevesearch/scorch_segment_api/v2"
	zap "github.com/blevesearch/zapx/v17"
)

func TestSelfTest(t *testing.T) {
	if err := SelfTest(); err != nil {
		t.Fatal(err)
	}
}

// random is a document of random words, made anew at each call from its seed.
type random struct {
	seed  uint64
	words int
}

func (r random) Emit(to Sink) {
	rng := rand.New(rand.NewPCG(r.seed, 1))
	for _, field := range []int{sampleWords, sampleNames} {
		pos := 0
		vocabulary := 1 + rng.IntN(200)
		for range rng.IntN(r.words + 1) {
			pos += rng.IntN(3)
			if rng.IntN(50) == 0 {
				pos += rng.IntN(1 << 20)
			}
			to.Token(field, "", fmt.Sprint(rng.IntN(vocabulary)), pos+1)
		}
	}
	for range rng.IntN(5) {
		to.Term(sampleExact, byte(rng.IntN(256)), string([]byte{byte(rng.IntN(256)), byte(rng.IntN(4))}))
	}
	to.Term(sampleKeys, 'k', fmt.Sprint(rng.IntN(1000)))
	to.Store(sampleShown, []byte(fmt.Sprint(r.seed)))
}

// TestSameAsStock builds random documents by both builders, compares, merges all that they made in all mixtures, with documents dropped, and
// compares again.
func TestSameAsStock(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	schema, _ := sample(0)
	var own, stock []segmentapi.Segment
	var drops []*roaring.Bitmap
	sizes := []int{1, 2, 3, 1023, 1024, 1025, 2500, 5000}
	if testing.Short() {
		sizes = sizes[:6]
	}
	for _, n := range sizes {
		var docs []*Document
		var list []bleveindex.Document
		for i := range n {
			d := schema.Document(fmt.Sprintf("%d-%08d", n, i), random{rng.Uint64(), 1 + 3000/n})
			docs, list = append(docs, d), append(list, d)
		}
		a, _, err := schema.build(docs, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := new(zap.ZapPlugin).NewUsing(list, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := compare(schema, a, b); err != nil {
			t.Fatalf("%d documents: %v", n, err)
		}
		drop := roaring.New()
		for range rng.IntN(n/2 + 1) {
			drop.Add(uint32(rng.IntN(n)))
		}
		own, stock, drops = append(own, a), append(stock, b), append(drops, drop)
	}
	want := merge(t, stock, drops)
	mixed := slices.Clone(own)
	for i := range mixed {
		if i%2 == 0 {
			mixed[i] = stock[i]
		}
	}
	for _, list := range [][]segmentapi.Segment{own, mixed} {
		once := merge(t, list, drops)
		if err := compare(schema, once, want); err != nil {
			t.Errorf("merged: %v", err)
		}
		if err := compare(schema, merge(t, []segmentapi.Segment{once}, []*roaring.Bitmap{nil}), want); err != nil {
			t.Errorf("merged twice: %v", err)
		}
	}
}

func merge(t *testing.T, list []segmentapi.Segment, drops []*roaring.Bitmap) segmentapi.Segment {
	t.Helper()
	path := filepath.Join(t.TempDir(), "merged.zap")
	if _, _, err := new(zap.ZapPlugin).Merge(list, drops, path, make(chan struct{}), nil); err != nil {
		t.Fatal(err)
	}
	s, err := new(Plugin).Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestOrder makes the same bytes of the same documents in whatever order they come, by a builder that was used before.
func TestOrder(t *testing.T) {
	schema, docs := sample(300)
	b := newBuilder(schema)
	var want []byte
	for range 3 {
		rand.Shuffle(len(docs), func(i, j int) { docs[i], docs[j] = docs[j], docs[i] })
		if _, err := b.build(docs, nil); err != nil {
			t.Fatal(err)
		}
		if want != nil && !slices.Equal(b.out, want) {
			t.Error("another segment of the same documents")
		}
		want = b.out
		b.reset()
	}
}

type failing struct{}

func (failing) Emit(Sink) { panic("a fault") }

// TestWayBack sees a builder that fails give way to zapx's own, and stay away.
func TestWayBack(t *testing.T) {
	t.Cleanup(func() { distrusted.Store(nil) })
	schema, docs := sample(10)
	p := new(Plugin)
	if _, _, err := schema.build([]*Document{schema.Document("x", failing{})}, nil); err == nil {
		t.Error("a panic passed for a segment")
	}
	distrust(errors.New("for a test"))
	var list []bleveindex.Document
	for _, d := range docs {
		list = append(list, d)
	}
	got, _, err := p.NewUsing(list, nil)
	if err != nil {
		t.Fatal(err)
	}
	if Distrusted() == nil {
		t.Error("trusted again")
	}
	want, _, err := schema.build(docs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := compare(schema, got, want); err != nil {
		t.Error(err)
	}
}

// TestCompareSeesDifferences keeps the self-test honest.
func TestCompareSeesDifferences(t *testing.T) {
	t.Parallel()
	schema, docs := sample(100)
	want, _, err := schema.build(slices.Clone(docs), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range docs {
		other := slices.Clone(docs)
		other[i] = schema.Document(other[i].id, sampleDocument(i+1))
		got, _, err := schema.build(other, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := compare(schema, got, want); !errors.Is(err, errDiffers) {
			t.Errorf("document %d is another: %v", i, err)
		}
	}
}
