package archive_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// The clock is set to anything between one start and the next, as on a machine without a battery: before 1970, back, far forth. Each time mail
// comes in, some of it is still on its way when the node ends, and in the end all of it is archived, under the order of its sequences.
func TestClockJumps(t *testing.T) {
	b := newBench(t, true)
	now := time.Now()
	for i, at := range []time.Time{now, now.AddDate(40, 0, 0), time.Unix(0, 0), time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC), now.AddDate(-20, 0, 0), now.AddDate(200, 0, 0), now} {
		b.fill(15)
		m := messageAt(at, b.seq+1)
		b.seq++
		b.custody.put(m)
		b.bodies[m.ID] = nil
		if i%2 == 1 {
			b.sealOnly("packs/")
			b.custody.restart()
		}
		a, err := archive.Open(t.Context(), archive.Options{Config: config(), Store: b.store, Keys: b.keys, DataDir: filepath.Join(b.dir, "data"),
			Now: func() time.Time { return at }, Log: slog.New(slog.DiscardHandler), Expiry: func(it *record.Item) time.Time { return it.ID.Time().AddDate(10, 0, 0) }})
		if err != nil {
			t.Fatal(err)
		}
		drain := make(chan struct{})
		close(drain)
		if err := errors.Join(a.Run(t.Context(), b.custody, drain), a.Close(t.Context())); err != nil {
			t.Fatalf("at %v: %v", at, err)
		}
		if n := b.custody.left(); n > 0 {
			t.Fatalf("at %v: %d are left", at, n)
		}
	}
	b.check()
}

// messageAt is an empty message that was received at some time.
func messageAt(at time.Time, seq uint64) *record.Item {
	m := message(seq, nil)
	m.ID = record.NewID(at)
	m.Envelope.ID, m.Envelope.Received = m.ID, at.UTC()
	text, err := json.Marshal(m.Envelope)
	if err != nil {
		panic(err)
	}
	m.EnvelopeJSON = text
	return m
}
