package index_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

const node = "n1"

var (
	nodeLog = archive.NodeLog(node)
	errTry  = errors.New("try again")
	errGone = errors.New("released")
)

// fakeNode is a spool and a ledger in memory. Everything that the real ones may do to a reader it does often.
type fakeNode struct {
	t *testing.T

	mu       sync.Mutex
	rand     *rand.Rand
	seq      uint64
	waiting  *roaring64.Bitmap
	settled  []*record.Item // in the order of settlement
	released map[uint64]bool
	changed  chan struct{}
	entries  []record.Entry
	items    map[record.ID]*record.Item // as the archive has them
	damaged  map[record.ID]bool
	late     map[record.ID][]record.SupplementDoc // that came after the record was archived
	kept     map[record.ID]string                 // what must be found, and by which subject
	faults   float64                              // how likely a read fails
}

func newNode(t *testing.T, seed uint64) *fakeNode {
	t.Logf("seed %d", seed)
	n := &fakeNode{
		t: t, rand: rand.New(rand.NewPCG(seed, 7)), waiting: roaring64.New(), released: map[uint64]bool{}, changed: make(chan struct{}),
		items: map[record.ID]*record.Item{}, damaged: map[record.ID]bool{}, late: map[record.ID][]record.SupplementDoc{}, kept: map[record.ID]string{},
	}
	n.commit(record.Entry{Kind: record.KindInit})
	return n
}

func (n *fakeNode) chance(p float64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rand.Float64() < p
}

// accept takes a message into custody; it is not settled yet.
func (n *fakeNode) accept() *record.Item {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seq++
	n.waiting.Add(n.seq)
	id := record.NewID(time.Now())
	text := fmt.Sprintf("Subject: s%d\r\n\r\nbody\r\n", n.seq)
	it := &record.Item{
		Kind: record.KindMessage, ID: id, Seq: n.seq,
		Envelope: &record.Envelope{ID: id, Source: record.SourceSMTP, Mode: record.ModeQueue, Received: time.Now(), Size: int64(len(text)), SHA256: record.Sum([]byte(text))},
	}
	seq := n.seq
	it.Body = func() (io.ReadCloser, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.released[seq] {
			return nil, errGone
		}
		if n.rand.Float64() < n.faults {
			return io.NopCloser(io.MultiReader(bytes.NewReader([]byte(text[:5])), failing{errGone})), nil
		}
		return io.NopCloser(bytes.NewReader([]byte(text))), nil
	}
	return it
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func delivered(it *record.Item, o record.Outcome) *record.Item {
	it.Supplements = []record.SupplementDoc{{Supplement: record.Supplement{ID: it.ID, Name: "delivery-1", Delivery: &record.Delivery{Outcome: o}}}}
	return it
}

func (n *fakeNode) act() *record.Item {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seq++
	n.waiting.Add(n.seq)
	return &record.Item{Kind: record.KindAct, ID: record.NewID(time.Now()), Seq: n.seq, Act: &record.Act{}}
}

func (n *fakeNode) drop() *record.Item {
	n.mu.Lock()
	defer n.mu.Unlock()
	first := n.seq + 1
	n.seq += 3
	n.waiting.AddRange(first, n.seq+1)
	return &record.Item{Kind: record.KindDropped, Seq: first, Drop: &record.Drop{First: first, Last: n.seq}}
}

// settle lets the tail have an item. From here on it must be found, or be about to be.
func (n *fakeNode) settle(it *record.Item) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settled = append(n.settled, it)
	if it.Kind == record.KindMessage {
		if d := it.Delivery(); d == nil || d.Outcome != record.Refused {
			n.kept[it.ID] = fmt.Sprintf("s%d", it.Seq)
		}
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// archive commits what has settled and is not released, and releases it.
func (n *fakeNode) archive(most int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, it := range n.settled {
		key := it.Seq
		if it.Kind == record.KindSupplement {
			continue
		}
		if n.released[key] || most == 0 {
			continue
		}
		most--
		e := record.Entry{Kind: it.Kind, ID: it.ID, Time: time.Now(), Seq: it.Seq, Drop: it.Drop}
		stored := *it
		if d := it.Delivery(); d != nil && d.Outcome == record.Refused {
			e.Kind, stored.Kind, stored.Body = record.KindRefused, record.KindRefused, nil
			n.kept[it.ID] = ""
		} else if it.Body != nil {
			text := fmt.Sprintf("Subject: s%d\r\n\r\nbody\r\n", it.Seq)
			stored.Body = func() (io.ReadCloser, error) {
				if n.chance(n.faults) {
					return nil, errTry
				}
				return io.NopCloser(bytes.NewReader([]byte(text))), nil
			}
		}
		n.items[it.ID] = &stored
		n.commit(e)
		if it.Kind == record.KindMessage && n.rand.IntN(4) == 0 {
			n.learn(it.ID)
		}
		if it.Drop != nil {
			n.waiting.RemoveRange(it.Drop.First, it.Drop.Last+1)
		} else {
			n.waiting.Remove(it.Seq)
		}
		n.released[key] = true
	}
}

// learn commits a supplement with the outcome. mu is held.
func (n *fakeNode) learn(id record.ID) {
	name := fmt.Sprint("delivery-", 2+len(n.late[id]))
	n.late[id] = append(n.late[id], record.SupplementDoc{Supplement: record.Supplement{ID: id, Name: name, Time: time.Now(), Delivery: &record.Delivery{
		Outcome: record.Refused, Recipients: []record.RecipientDelivery{{Address: "a", Outcome: record.Refused, Code: 550 + len(n.late[id])}},
	}}})
	n.commit(record.Entry{Kind: record.KindSupplement, ID: id, Name: name})
}

func (n *fakeNode) Fetch(_ context.Context, id record.ID) (*archive.Stored, error) {
	if n.chance(n.faults) {
		return nil, errTry
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.damaged[id] {
		return nil, fmt.Errorf("%s: %w", id, archive.ErrAltered)
	}
	it := *n.items[id]
	it.Supplements = append(slices.Clip(it.Supplements), n.late[id]...)
	return &archive.Stored{Item: &it}, nil
}

func (n *fakeNode) commit(e record.Entry) {
	e.Time = time.Now()
	n.entries = append(n.entries, e)
}

func (n *fakeNode) Logs() []string { return []string{nodeLog} }

func (n *fakeNode) Size(log string) uint64 {
	if log != nodeLog {
		n.t.Errorf("size of log %q", log)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return uint64(len(n.entries))
}

func (n *fakeNode) Replay(ctx context.Context, log string, from uint64, want func(*record.Entry) bool) iter.Seq2[archive.Replayed, error] {
	return func(yield func(archive.Replayed, error) bool) {
		n.mu.Lock()
		entries := n.entries
		n.mu.Unlock()
		var open *record.Item
		for i := from; i < uint64(len(entries)); i++ {
			if n.chance(n.faults / 10) {
				yield(archive.Replayed{}, errTry)
				return
			}
			out := archive.Replayed{N: i, Entry: entries[i], Tree: treeOf(entries[:i+1])}
			if open != nil { // the one before can't be read any more
				open.Body = func() (io.ReadCloser, error) { return nil, errors.New("read after the next was asked for") }
			}
			if e := entries[i]; want(&e) {
				n.mu.Lock()
				it := *n.items[e.ID]
				damaged := n.damaged[e.ID]
				for i := range n.late[e.ID] {
					if s := &n.late[e.ID][i]; s.Name == e.Name {
						it = record.Item{Kind: e.Kind, ID: e.ID, Supplement: s}
					}
				}
				n.mu.Unlock()
				switch {
				case damaged:
					out.Err = fmt.Errorf("%s: %w", e.ID, archive.ErrAltered)
				case n.chance(n.faults):
					out.Err = errTry
				default:
					out.Item, open = &it, &it
				}
			}
			if ctx.Err() != nil {
				yield(archive.Replayed{}, ctx.Err())
				return
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

// treeOf is the tree of a log in which each entry is a commit: for a test, a hash of the ids in it.
func treeOf(entries []record.Entry) tlog.Tree {
	h := sha256.New()
	for i := range entries {
		h.Write(entries[i].ID[:])
	}
	return tlog.Tree{N: int64(len(entries)), Hash: tlog.Hash(h.Sum(nil))}
}

// fakeTail reads the node's custody from its beginning.
type fakeTail struct {
	*fakeNode
	pos int
}

func (t *fakeTail) Waiting() [][2]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list [][2]uint64
	for it := t.waiting.Iterator(); it.HasNext(); {
		n := it.Next()
		list = append(list, [2]uint64{n, n})
	}
	return list
}

func (t *fakeTail) Rewind() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pos = 0
}

func (t *fakeTail) Next(ctx context.Context) (*record.Item, error) {
	if t.chance(t.faults / 4) {
		return nil, errTry
	}
	for {
		t.mu.Lock()
		for t.pos < len(t.settled) {
			it := t.settled[t.pos]
			t.pos++
			if !t.released[it.Seq] {
				t.mu.Unlock()
				return it, nil
			}
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// fakeIndex is a Backend in memory that holds the Follower to its word: whatever a cursor says is done is there.
type fakeIndex struct {
	node *fakeNode

	mu      sync.Mutex
	docs    map[record.ID]*document.Document
	through map[string]uint64
	batches int
	largest int
	faults  float64
	trees   map[string]tlog.Tree
	lost    []index.Loss
	losses  uint64
	stale   bool // the spool's cursor is of another life
	anew    bool // cursors may go back
}

func newIndex(n *fakeNode) *fakeIndex {
	return &fakeIndex{node: n, docs: map[record.ID]*document.Document{}, through: map[string]uint64{}, trees: map[string]tlog.Tree{}}
}

func (x *fakeIndex) Apply(ctx context.Context, b index.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fail := x.fails()
	x.mu.Lock()
	defer x.mu.Unlock()
	if fail && x.node.chance(0.5) {
		return errTry
	}
	for _, d := range b.Documents {
		if old := x.docs[d.ID]; old != nil && old.Subject != "" && d.Subject == "" {
			x.node.t.Errorf("%s: a document with its text was replaced by one without", d.ID)
		}
		x.docs[d.ID] = d
	}
	x.lost = slices.DeleteFunc(x.lost, func(l index.Loss) bool { return slices.Contains(b.Restored, l) })
	if len(x.lost) == 0 {
		x.check(b.Through)
	}
	if fail {
		return errTry // applied in part: the documents, not the cursors
	}
	for name, n := range b.Through {
		if n < x.through[name] && !x.anew {
			x.node.t.Errorf("cursor %s goes back from %d to %d", name, x.through[name], n)
		}
	}
	maps.Copy(x.through, b.Through)
	maps.Copy(x.trees, b.Trees)
	x.batches++
	x.largest = max(x.largest, len(b.Documents))
	return nil
}

// check holds cursors against documents.
func (x *fakeIndex) check(through map[string]uint64) {
	x.node.mu.Lock()
	defer x.node.mu.Unlock()
	for _, e := range x.node.entries[:through[nodeLog]] {
		if (e.Kind == record.KindMessage || e.Kind == record.KindRefused) && x.docs[e.ID] == nil {
			x.node.t.Errorf("cursor %d of the log, and entry of %s is not there", through[nodeLog], e.ID)
		}
	}
	if x.stale {
		return
	}
	low := through["spool/"+node]
	for _, it := range x.node.settled {
		if it.Seq > 0 && it.Seq <= low && it.Kind == record.KindMessage && x.docs[it.ID] == nil {
			x.node.t.Errorf("cursor %d of the spool, and %d is not there", low, it.Seq)
		}
	}
	if low > x.node.seq {
		x.node.t.Errorf("cursor %d of the spool, whose newest is %d", low, x.node.seq)
	}
}

func (x *fakeIndex) Through(context.Context) (map[string]uint64, error) {
	if x.fails() {
		return nil, errTry
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Clone(x.through), nil
}

func (x *fakeIndex) Search(_ context.Context, r index.Request) (*index.Result, error) {
	if x.fails() {
		return nil, errTry
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.docs[r.Query.(query.ID).ID] != nil {
		return &index.Result{Total: 1}, nil
	}
	return &index.Result{}, nil
}

func (x *fakeIndex) Count(context.Context, index.CountRequest) (*index.Counts, error) {
	return nil, errors.ErrUnsupported
}

func (x *fakeIndex) Purge(context.Context, []record.ID) error { return errors.ErrUnsupported }

// lose takes all documents of a month away.
func (x *fakeIndex) lose(month string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id := range x.docs {
		if index.Month(id) == month {
			delete(x.docs, id)
		}
	}
	x.losses++
	x.lost = append(slices.DeleteFunc(x.lost, func(l index.Loss) bool { return l.Month == month }), index.Loss{Month: month, No: x.losses})
}

func (x *fakeIndex) Lost() []index.Loss {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.lost)
}

func (x *fakeIndex) Trees() map[string]tlog.Tree {
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Clone(x.trees)
}

func (x *fakeIndex) Close() error { return nil }

func (x *fakeIndex) document(id record.ID) *document.Document {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.docs[id]
}

func (x *fakeIndex) subject(id record.ID) (string, bool) {
	if d := x.document(id); d != nil {
		return d.Subject, true
	}
	return "", false
}

func (x *fakeIndex) cursor(name string) uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.through[name]
}

func (x *fakeIndex) fails() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.node.chance(x.faults)
}

func (x *fakeIndex) setFaults(p float64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.faults = p
}
