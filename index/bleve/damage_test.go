package bleve

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

func zaps(shard string) []string {
	list, _ := filepath.Glob(filepath.Join(shard, "*.zap"))
	return list
}

func spoil(path string) error { return os.WriteFile(path, []byte("spoilt"), 0o600) }

// TestDamageIsTold: whatever is missing or spoilt of a shard, the others are searched, what is missing is told, and it can come again.
func TestDamageIsTold(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(shard string) error{
		"shard gone":       func(shard string) error { return os.RemoveAll(shard) },
		"root.bolt gone":   func(shard string) error { return os.Remove(filepath.Join(shard, rootFile)) },
		"root.bolt empty":  func(shard string) error { return os.Truncate(filepath.Join(shard, rootFile), 0) },
		"root.bolt spoilt": func(shard string) error { return spoil(filepath.Join(shard, rootFile)) },
		"segment gone":     func(shard string) error { return os.Remove(zaps(shard)[0]) },
		"segment empty":    func(shard string) error { return os.Truncate(zaps(shard)[0], 0) },
		"segment spoilt":   func(shard string) error { return spoil(zaps(shard)[0]) },
	} {
		for _, first := range []string{"search", "apply", "purge"} {
			t.Run(name+", "+first, func(t *testing.T) {
				dir := t.TempDir()
				b := open(t, dir)
				d, other := numbered(0), numbered(1)
				d.Subject, other.Subject = "lost", "kept"
				month := shardName(d.ID)
				whole := index.Batch{Documents: []*document.Document{d, other}, Through: map[string]uint64{"log": 2}}
				apply(t, b, whole)
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				if err := damage(filepath.Join(dir, month)); err != nil {
					t.Fatal(err)
				}
				b = open(t, dir)
				newer := numbered(3)
				switch first {
				case "apply":
					for range 2 { // told once, and then there is room
						if err := b.Apply(t.Context(), index.Batch{Documents: []*document.Document{newer}}); errors.Is(err, index.ErrCorrupt) {
							t.Errorf("apply: %v", err)
						}
					}
				case "purge":
					if err := b.Purge(t.Context(), []record.ID{newer.ID}); err != nil {
						t.Errorf("purge: %v", err)
					}
				}
				for range 2 {
					res := find(t, b, index.Request{Query: query.Text{Field: query.Subject, Tokens: []string{"kept"}}, Limit: 9})
					if res.Total != 1 || len(res.Hits) != 1 || !slices.Equal(res.Missing, []string{month}) {
						t.Errorf("found %d, missing %v", res.Total, res.Missing)
					}
				}
				elsewhere := query.Time{Field: query.Received, From: other.Received, Before: other.Received.Add(time.Hour)}
				if res := find(t, b, index.Request{Query: elsewhere}); res.Total != 1 || res.Missing != nil {
					t.Errorf("of another month: found %d, missing %v", res.Total, res.Missing)
				}

				apply(t, b, index.Batch{Documents: []*document.Document{newer}})
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				b = open(t, dir)
				lost := b.Lost()
				if len(lost) != 1 || lost[0].Month != month {
					t.Fatalf("lost %v", lost)
				}
				apply(t, b, index.Batch{Restored: []index.Loss{{Month: month, No: lost[0].No + 1}}}) // another loss
				if len(b.Lost()) != 1 {
					t.Error("restored by another's restoration")
				}
				apply(t, b, index.Batch{Documents: []*document.Document{d}, Restored: lost})
				if res := find(t, b, index.Request{Query: query.All{}}); res.Total != 3 || res.Missing != nil || b.Lost() != nil {
					t.Errorf("after it was restored: found %d, missing %v, lost %v", res.Total, res.Missing, b.Lost())
				}
				if through, err := b.Through(t.Context()); err != nil || through["log"] != 2 {
					t.Errorf("cursors %v, %v", through, err)
				}
			})
		}
	}
}

// TestDamageWhileOpen: the bytes of a segment that is being searched change.
func TestDamageWhileOpen(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	d, other := numbered(0), numbered(1)
	apply(t, b, index.Batch{Documents: []*document.Document{d, other}})
	if res := find(t, b, index.Request{Query: query.All{}, Limit: 2}); len(res.Hits) != 2 {
		t.Fatalf("%d hits", len(res.Hits))
	}
	path := zaps(filepath.Join(dir, shardName(d.ID)))[0]
	size, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(make([]byte, size.Size())) // in place: it is mapped
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	res := find(t, b, index.Request{Query: query.All{}, Limit: 2})
	if len(res.Hits) != 1 || res.Hits[0].ID != other.ID || !slices.Equal(res.Missing, []string{shardName(d.ID)}) {
		t.Errorf("%d hits, missing %v", len(res.Hits), res.Missing)
	}
}

// TestAnErrorIsNotDamage: a fault of ours in a search must not cost an index that is well.
func TestAnErrorIsNotDamage(t *testing.T) {
	b := open(t, t.TempDir())
	d := numbered(0)
	apply(t, b, index.Batch{Documents: []*document.Document{d}})
	err := &damage{shardName(d.ID), shardName(d.ID), index.ErrCorrupt}
	if b.setAside(err) || b.Lost() != nil {
		t.Error("set aside, and nothing is damaged")
	}
	if res := find(t, b, index.Request{Query: query.All{}}); res.Total != 1 || res.Missing != nil {
		t.Errorf("found %d, missing %v", res.Total, res.Missing)
	}
}

// TestDamageOfTheWholeIsTold: without meta.db nothing is known.
func TestDamageOfTheWholeIsTold(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	apply(t, b, index.Batch{Documents: []*document.Document{numbered(0)}})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := spoil(filepath.Join(dir, metaFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, index.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}
