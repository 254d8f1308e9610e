package e2e

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
)

var soakKills = flag.Int("kills", 0, "how often TestSoak kills the server, over all ways of mail together; 0: not at all")

// The server is killed again and again, for each way of mail, while mail comes in and packs, uploads, commits and tiles are under way
// (seal_after is short, so that all of them are, all the time), or while it starts. What was acknowledged, and what was delivered, must be in the
// archive, whole, and the server must start by itself.
func TestKillHundredTimesUnderLoad(t *testing.T) { killUnderLoad(t, 102) }

// TestSoak is the same for hours:
//
//	go test ./cmd/holdfast/e2e -run Soak -kills 1000 -timeout 3h
func TestSoak(t *testing.T) {
	if *soakKills > 0 {
		killUnderLoad(t, *soakKills)
	}
}

func killUnderLoad(t *testing.T, kills int) {
	all := ways()
	for _, way := range all {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			rng := seeded(t)
			var s settings
			if way.ack == "archive" { // of a bucket, as nodes have it that may lose their disk
				bucket := objecttest.StartS3(t)
				s.store, s.env = bucket.URL, bucket.Env
			}
			w := way.install(t, s)
			if way.ack == "archive" { // the other half is looked at for races
				w.withoutRaceDetector()
			}
			w.setSealAfter("100ms")
			b := w.barrageOf(8, "kill", rng.Uint64())
			b.pause = 0
			for range kills / len(all) {
				w.killed(t, b, rng)
			}
			w.start()
			b.more(t, 20, "after the last kill")
			b.stop()
			w.finish(t, b)
		})
	}
}

// killed starts the server and kills it at some moment: mostly when it has taken mail, sometimes before it listens.
func (w *besieged) killed(t *testing.T, b *barrage, rng *rand.Rand) {
	t.Helper()
	if rng.IntN(5) == 0 {
		if err := w.launch(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
	} else {
		w.start()
		b.more(t, 1, "before the server is killed")
		time.Sleep(time.Duration(rng.IntN(700)) * time.Millisecond)
	}
	w.kill()
}
