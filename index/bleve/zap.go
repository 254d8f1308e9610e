package bleve

import zap "github.com/blevesearch/zapx/v17"

// zapx would size the buffer of a segment by the documents of the batch before: gigabytes, where small ones follow a large one.
func init() { zap.NewSegmentBufferNumResultsFactor = 0 }
