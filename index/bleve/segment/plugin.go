package segment

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	bleveindex "github.com/blevesearch/bleve_index_api"
	segmentapi "github.com/blevesearch/scorch_segment_api/v2"
	zap "github.com/blevesearch/zapx/v17"
)

// Plugin is zapx with the builder of this package. Register it with scorch before an index is opened.
type Plugin struct{ zap.ZapPlugin }

// New implements scorch's SegmentPlugin.
func (p *Plugin) New(docs []bleveindex.Document) (segmentapi.Segment, uint64, error) {
	return p.NewUsing(docs, nil)
}

// NewUsing implements scorch's SegmentPlugin.
func (p *Plugin) NewUsing(list []bleveindex.Document, config map[string]any) (segmentapi.Segment, uint64, error) {
	if schema, docs := documents(list); schema != nil && Distrusted() == nil {
		built, size, err := schema.build(docs, config)
		if err == nil {
			return built, size, nil
		}
		if !errors.Is(err, errTooLarge) {
			distrust(err)
		}
	}
	return p.ZapPlugin.NewUsing(list, config)
}

// builders keeps builders for the next batch.
var builders sync.Map // *Schema → *sync.Pool

func (s *Schema) build(docs []*Document, config map[string]any) (built segmentapi.Segment, size uint64, err error) {
	defer func() {
		if r := recover(); r != nil { // a fault of ours; the builder is not used again
			built, err = nil, fmt.Errorf("segment builder: %v", r)
		}
	}()
	pool, _ := builders.LoadOrStore(s, &sync.Pool{New: func() any { return newBuilder(s) }})
	b := pool.(*sync.Pool).Get().(*builder)
	sb, err := b.build(docs, config)
	if err != nil {
		return nil, 0, fmt.Errorf("segment builder: %w", err)
	}
	size = uint64(len(b.out))
	b.reset()
	pool.(*sync.Pool).Put(b)
	return sb, size, nil
}

// distrusted is why the builder of this package is not used any more.
var distrusted atomic.Pointer[error]

// Distrusted says why segments are built by zapx's own builder, slowly; nil: they are not. Once this process has found a reason it stays.
func Distrusted() error {
	if err := distrusted.Load(); err != nil {
		return *err
	}
	return nil
}

func distrust(err error) { distrusted.CompareAndSwap(nil, &err) }
