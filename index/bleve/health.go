package bleve

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blevesearch/bleve/v2/index/scorch"

	"github.com/holdfast-archive/holdfast/index"
)

// health is how the goroutines that Bleve runs for a shard are doing. It tells them by callbacks that must be registered for the whole
// process before any index is opened.
type health struct {
	dir     string
	ix      *scorch.Scorch
	failing atomic.Pointer[error] // the last attempt to write failed; Bleve goes on trying
	died    chan struct{}         // closed when one of the goroutines has ended for good
	once    sync.Once
	cause   error // why; read after died
}

const callbackName = "holdfast"

var (
	healthByDir   sync.Map // string → *health
	healthByIndex sync.Map // *scorch.Scorch → *health
)

func init() {
	scorch.RegistryAsyncErrorCallbacks[callbackName] = func(err error, dir string) {
		if h, ok := healthByDir.Load(dir); ok {
			h.(*health).failed(err)
		}
	}
	scorch.RegistryEventCallbacks[callbackName] = func(e scorch.Event) bool {
		if e.Kind == scorch.EventKindPersisterProgress {
			if h, ok := healthByIndex.Load(e.Scorch); ok {
				h.(*health).failing.Store(nil)
			}
		}
		return true
	}
}

func (h *health) init(dir string, ix *scorch.Scorch) {
	h.dir, h.ix, h.died = dir, ix, make(chan struct{})
	healthByDir.Store(dir, h)
	healthByIndex.Store(ix, h)
}

func (h *health) forget() {
	healthByDir.CompareAndDelete(h.dir, h)
	healthByIndex.Delete(h.ix)
}

// retryPause is how long a failing write rests: Bleve itself would try again at once, for ever.
const retryPause = time.Second

// failed is called by the goroutine that failed.
func (h *health) failed(err error) {
	if errors.Is(err, scorch.ErrAsyncPanic) {
		h.once.Do(func() {
			h.cause = fmt.Errorf("%w: %w", err, index.ErrCorrupt)
			close(h.died)
		})
		return
	}
	if errors.Is(err, scorch.ErrPersist) {
		h.failing.Store(&err)
		time.Sleep(retryPause)
	}
}

// stuck says why no more can be taken: what came before is not on disk, or never will be.
func (h *health) stuck() error {
	if err := h.dead(); err != nil {
		return err
	}
	if err := h.failing.Load(); err != nil {
		return *err
	}
	return nil
}

// dead says why nothing will ever be written again, or nil.
func (h *health) dead() error {
	select {
	case <-h.died:
		return h.cause
	default:
		return nil
	}
}
