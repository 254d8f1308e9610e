package e2e

import (
	"path/filepath"
	"testing"
	"time"
)

// The power is cut again and again while mail comes in: with spool, packs on their way, catalog, index and the folder that is the object store
// all on one file system, which loses what was not made durable. What was acknowledged is in the archive afterwards, and nothing in the store is
// half written.
func TestPowerIsCut(t *testing.T) {
	for _, fs := range []struct {
		kind      string
		megabytes int
		options   string
	}{
		{"ext4", 256, ext4Options},
		{"xfs", 320, "loop"}, // it takes no less than 300
	} {
		for _, way := range ways() {
			t.Run(fs.kind+"/"+way.name, func(t *testing.T) {
				t.Parallel()
				rng := seeded(t)
				below := t.TempDir()
				d := newDisk(t, below, fs.kind, fs.megabytes, fs.options)
				w := way.install(t, settings{data: filepath.Join(d.dir, "data")})
				w.withoutRaceDetector()
				w.setSealAfter("100ms")
				b := w.barrageOf(8, "power", rng.Uint64())
				b.pause = 0
				for range 4 {
					w.start()
					b.more(t, 20, "before the power is cut")
					time.Sleep(time.Duration(rng.IntN(600)) * time.Millisecond) // the moment is what is random here
					w.freeze()                                                  // the power is the program's too
					d.cutPower()
					w.kill()
					d.again()
				}
				w.start()
				b.more(t, 20, "after the last cut")
				b.stop()
				w.finish(t, b)
			})
		}
	}
}
