package archive

import (
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Those who come and go while nobody takes them leave nothing behind.
func TestWaitersComeAndGo(t *testing.T) {
	ws := newWaiters()
	ws.add(record.NewID(time.Now())) // one who stays, as the queue does
	for range 10_000 {
		id := record.NewID(time.Now())
		ws.remove(id, ws.add(id))
	}
	if n := len(ws.takeFresh()); n > 1100 {
		t.Errorf("%d are remembered", n)
	}
}
