package bleve

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"
	bleveindex "github.com/blevesearch/bleve_index_api"
	segment "github.com/blevesearch/scorch_segment_api/v2"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
)

// limits are how large a shard becomes, and the segments that are merged at any hour, in documents.
type limits struct{ documents, bytes, segment uint64 }

// A shard is named after its month, and from the second of that month on it bears a number: "2025-01", "2025-01.2". New documents go to the
// last one. Each document is in one of them only: when it comes again, it goes from the one before.
const partMark = "."

// monthOf is the month that a shard is of.
func monthOf(name string) string {
	month, _, _ := strings.Cut(name, partMark)
	return month
}

// partOf is the number of a shard among those of its month, from 1.
func partOf(name string) int {
	_, text, _ := strings.Cut(name, partMark)
	n, _ := strconv.Atoi(text)
	return max(n, 1)
}

func comparePartNames(x, y string) int {
	return cmp.Or(cmp.Compare(monthOf(x), monthOf(y)), cmp.Compare(partOf(x), partOf(y)))
}

// partsOf gives the shards that there are of a month, by number less one.
func (b *Backend) partsOf(month string) []string {
	names := []string{month}
	for {
		next := month + partMark + strconv.Itoa(len(names)+1)
		if _, ok := b.meta.shard(next); !ok {
			return names
		}
		names = append(names, next)
	}
}

// part is what of a batch goes to one shard.
type part struct {
	ops  *bleveindex.Batch
	meta shardMeta // of the shard, once this is applied
}

// splitting is a batch on its way into the shards.
type splitting struct {
	b     *Backend
	parts map[string]*part
	last  map[string]string      // by month, where new documents go
	ids   map[string][]record.ID // by month, of the documents
}

// split makes the parts of a batch, by shard.
func (b *Backend) split(batch index.Batch) (map[string]*part, error) {
	s := &splitting{b, map[string]*part{}, map[string]string{}, map[string][]record.ID{}}
	place := map[record.ID]int{} // of the document that counts; -1: it is deleted
	for i, d := range batch.Documents {
		place[d.ID] = i
	}
	for _, id := range batch.Deletes {
		place[id] = -1
	}
	for i, d := range batch.Documents {
		if place[d.ID] == i {
			s.put(d)
		}
	}
	for month, ids := range s.ids {
		if err := s.move(month, ids); err != nil {
			return nil, err
		}
	}
	for _, id := range batch.Deletes {
		for _, name := range b.partsOf(shardName(id)) {
			if known, ok := b.meta.shard(name); ok && known.mayHave(id) { // no shard is made to delete from
				s.of(name).ops.Delete(string(id[:]))
			}
		}
	}
	return s.parts, nil
}

func (s *splitting) of(name string) *part {
	p := s.parts[name]
	if p == nil {
		known, _ := s.b.meta.shard(name)
		p = &part{ops: bleveindex.NewBatch(), meta: known}
		s.parts[name] = p
	}
	return p
}

// put gives a document to the last shard of its month, or to a new one where that is full.
func (s *splitting) put(d *document.Document) {
	month := shardName(d.ID)
	name, ok := s.last[month]
	if !ok {
		parts := s.b.partsOf(month)
		name = parts[len(parts)-1]
	}
	p := s.of(name)
	size := uint64(len(d.Subject) + len(d.Body) + len(d.AttachmentText))
	if p.meta.Documents > 0 && (p.meta.Documents+1 > s.b.limits.documents || p.meta.Bytes+size > s.b.limits.bytes) {
		if len(p.ops.IndexOps) == 0 {
			delete(s.parts, name)
		}
		name = month + partMark + strconv.Itoa(partOf(name)+1)
		p = s.of(name)
	}
	s.last[month] = name
	s.ids[month] = append(s.ids[month], d.ID)
	p.ops.Update(schema.Document(string(d.ID[:]), emitter{d}))
	received, at := nanoseconds(d.Received), d.ID.Time().UnixMilli()
	p.meta.First, p.meta.Last = min(p.meta.First, received), max(p.meta.Last, received)
	p.meta.FirstID, p.meta.LastID = min(p.meta.FirstID, at), max(p.meta.LastID, at)
	p.meta.Documents++ // at most; apply counts them
	p.meta.Bytes += size
}

// move deletes documents from the shards that have them and are not where they go.
func (s *splitting) move(month string, ids []record.ID) error {
	for _, name := range s.b.partsOf(month) {
		known, ok := s.b.meta.shard(name)
		if !ok || known.Batch == 0 {
			continue
		}
		var asked []record.ID
		for _, id := range ids {
			if p := s.parts[name]; known.mayHave(id) && (p == nil || p.ops.IndexOps[string(id[:])] == nil) {
				asked = append(asked, id)
			}
		}
		there, err := s.b.present(name, asked)
		if err != nil {
			return err
		}
		for _, id := range there {
			s.of(name).ops.Delete(string(id[:]))
		}
	}
	return nil
}

// mayHave says whether a shard may have a document, by the time in its id.
func (m shardMeta) mayHave(id record.ID) bool {
	at := id.Time().UnixMilli()
	return m.Batch > 0 && at >= m.FirstID && at <= m.LastID
}

// present gives those of some documents that a shard has.
func (b *Backend) present(name string, ids []record.ID) (there []record.ID, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	s, err := b.acquire(name)
	if err != nil {
		return nil, err
	}
	defer b.release(s)
	asked := make([]string, len(ids))
	for i, id := range ids {
		asked[i] = string(id[:])
	}
	snap := s.snapshot()
	defer snap.Close()
	err = guard(func() error {
		for _, p := range snap.Segments() {
			numbers, err := p.Segment().DocNumbers(asked)
			if err != nil {
				return err
			}
			if gone := p.Deleted(); gone != nil {
				numbers = roaring.AndNot(numbers, gone)
			}
			for it := numbers.Iterator(); it.HasNext(); {
				id, err := p.Segment().DocID(uint64(it.Next()))
				if err != nil {
					return err
				}
				there = append(there, record.ID(id))
			}
		}
		return nil
	})
	if err != nil {
		return nil, &damage{name, s.folder, err}
	}
	return there, nil
}

// extent is how many documents a shard has, and how many bytes its segments.
func (s *shard) extent() (documents, bytes uint64, err error) {
	snap := s.snapshot()
	defer snap.Close()
	if documents, err = snap.DocCount(); err != nil {
		return 0, 0, err
	}
	for _, p := range snap.Segments() {
		if seg, ok := p.Segment().(segment.PersistedSegment); ok {
			info, err := os.Stat(seg.Path())
			if errors.Is(err, os.ErrNotExist) {
				continue // merged meanwhile
			}
			if err != nil {
				return 0, 0, fmt.Errorf("segment of shard %s: %w", s.name, err)
			}
			bytes += uint64(info.Size())
		}
	}
	return documents, bytes, nil
}
