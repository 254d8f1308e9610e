package bleve

import (
	"github.com/blevesearch/bleve/v2/index/scorch"
	zap "github.com/blevesearch/zapx/v17"

	"github.com/holdfast-archive/holdfast/index/bleve/segment"
)

func init() {
	scorch.RegisterSegmentPlugin(&segment.Plugin{}, true)
	// zapx's own builder, the way back, would size the buffer of a segment by the documents of the batch before: gigabytes, where small ones
	// follow a large one.
	zap.NewSegmentBufferNumResultsFactor = 0
}

// StockBuilder says why segments are built by zapx's own builder, which is slow, and not by package segment; nil: they are not. Known once an
// index has been opened.
func StockBuilder() error { return segment.Distrusted() }
