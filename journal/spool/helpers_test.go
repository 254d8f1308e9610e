package spool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

func sumOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// alarms collects what is logged as an error.
type alarms struct {
	mu   sync.Mutex
	list []string
}

func (a *alarms) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (a *alarms) WithAttrs([]slog.Attr) slog.Handler           { return a }
func (a *alarms) WithGroup(string) slog.Handler                { return a }
func (a *alarms) Handle(_ context.Context, r slog.Record) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(at slog.Attr) bool { fmt.Fprintf(&b, " %v", at); return true })
	a.list = append(a.list, b.String())
	return nil
}

func (a *alarms) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.list)
}

// testConfig makes segments and buffers small, so that a few records meet every case.
func testConfig(dir string) Config {
	return Config{Dir: dir, MaxBytes: 64 << 20, SegmentBytes: 24 << 10, InlineBytes: 4 << 10, ReserveBytes: 1 << 10}
}

func simOptions(fs FS) (Options, *alarms) {
	a := &alarms{}
	return Options{Node: "test", FS: fs, Log: slog.New(a), lazyDelay: time.Microsecond, idleDelay: time.Hour}, a
}

func mustOpen(t *testing.T, cfg Config, opt Options) *Spool {
	t.Helper()
	s, err := Open(cfg, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t *testing.T, s *Spool) {
	t.Helper()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// mail makes n bytes that no other seed makes.
func mail(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 1})
	rng.Read(b)
	copy(b, fmt.Sprintf("Subject: %d\r\n\r\n", seed))
	return b
}

func relayed() record.Envelope {
	return record.Envelope{
		Source: record.SourceSMTP, Mode: record.ModeRelay, Completeness: record.Full,
		MailFrom: &record.Path{Address: "a@x.example"}, Rcpt: []record.Path{{Address: "b@y.example"}, {Address: "c@y.example"}},
	}
}

func journaled() record.Envelope {
	e := relayed()
	e.Mode = record.ModeJournal
	return e
}

// queued is mode queue.
func queued() record.Envelope {
	e := relayed()
	e.Mode = record.ModeQueue
	return e
}

// relayedEarly is for AcceptOptions.Early, so that checkItem knows.
func relayedEarly() record.Envelope {
	e := relayed()
	e.Listener = "early"
	return e
}

// verdict is the supplement that AcceptOptions.Verdict owes.
func verdict(id record.ID) *record.Item {
	return &record.Item{Kind: record.KindSupplement, Supplement: &record.SupplementDoc{Supplement: record.Supplement{ID: id, Name: record.SupplementAuth}}}
}

// deferred tells of a delivery that will be tried again.
func deferred(id record.ID) *record.Item {
	it := delivered(id)
	it.Supplement.Name = "delivery-0"
	it.Supplement.Delivery.Outcome, it.Supplement.Delivery.Next = record.Refused, time.Now().Add(time.Hour)
	return it
}

func delivered(id record.ID) *record.Item {
	return &record.Item{Kind: record.KindSupplement, Supplement: &record.SupplementDoc{Supplement: record.Supplement{
		ID: id, Name: "delivery-1",
		Delivery: &record.Delivery{Outcome: record.Delivered, NextHop: "mx.example", Attempts: 1, Recipients: []record.RecipientDelivery{}},
	}}}
}

// all reads a new tail to its end.
func all(t *testing.T, s *Spool) []*record.Item {
	t.Helper()
	items, err := drain(s.Tail())
	if err != nil {
		t.Fatal(err)
	}
	return items
}

func drain(tail *Tail) (items []*record.Item, err error) {
	for {
		it, err := tail.TryNext(context.Background())
		if it == nil || err != nil {
			return items, err
		}
		items = append(items, it)
	}
}

// bodyOf reads a message.
func bodyOf(it *record.Item) ([]byte, error) {
	r, err := it.Body()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// checkItem says what is wrong with an item that a tail gave, by itself.
func checkItem(it *record.Item) error {
	switch it.Kind {
	case record.KindMessage:
		b, err := bodyOf(it)
		if err != nil {
			return err
		}
		if int64(len(b)) != it.Envelope.Size || record.Sum(b) != it.Envelope.SHA256 {
			return fmt.Errorf("%s: not the bytes of its envelope", it.ID)
		}
		var env record.Envelope
		if err := json.Unmarshal(it.EnvelopeJSON, &env); err != nil || env.ID != it.ID {
			return fmt.Errorf("%s: envelope %s: %v", it.ID, it.EnvelopeJSON, err)
		}
		if env.Mode == record.ModeRelay && env.Listener != "early" && it.Delivery() == nil {
			return fmt.Errorf("%s: relayed, settled, and no outcome", it.ID)
		}
		for _, doc := range it.Supplements {
			if doc.ID != it.ID {
				return fmt.Errorf("%s has a supplement of %s", it.ID, doc.ID)
			}
		}
	case record.KindRefused:
		if it.Body != nil || it.Envelope == nil {
			return fmt.Errorf("%s: refused, with a body or without an envelope", it.ID)
		}
	case record.KindAct:
		if it.Act == nil || it.Act.ID != it.ID {
			return fmt.Errorf("%s: act %v", it.ID, it.Act)
		}
	case record.KindSupplement:
		if it.Supplement == nil || it.Supplement.ID != it.ID || it.Seq != 0 {
			return fmt.Errorf("%s: supplement %v", it.ID, it.Supplement)
		}
	case record.KindDropped:
		if it.Drop == nil || it.Drop.Reason == "" {
			return fmt.Errorf("drop %v", it.Drop)
		}
	default:
		return fmt.Errorf("kind %q", it.Kind)
	}
	return nil
}

// checkNumbers says whether each sequence from first to the newest is there once: in an item, or in a dropped run.
func checkNumbers(items []*record.Item, first, newest uint64) error {
	seen := map[uint64]string{}
	for _, it := range items {
		a, b, what := it.Seq, it.Seq, string(it.Kind)
		if it.Drop != nil {
			a, b, what = it.Drop.First, it.Drop.Last, it.Drop.Reason
		}
		for n := a; n != 0 && n <= b; n++ {
			if seen[n] != "" {
				return fmt.Errorf("sequence %d: %s, and %s", n, seen[n], what)
			}
			seen[n] = what
		}
	}
	for n := first; n <= newest; n++ {
		if seen[n] == "" {
			return fmt.Errorf("sequence %d of %d–%d is not accounted for", n, first, newest)
		}
	}
	for n := range seen {
		if n > newest || n < first {
			return fmt.Errorf("sequence %d is outside of %d–%d", n, first, newest)
		}
	}
	return nil
}

// digest tells items apart without what is only of one run.
func digest(items []*record.Item) string {
	var b strings.Builder
	for _, it := range items {
		fmt.Fprintf(&b, "%s %s %d %08x", it.Kind, it.ID, it.Seq, sumOf(slices.Concat(it.EnvelopeJSON, it.ActJSON)))
		for _, doc := range it.Supplements {
			fmt.Fprintf(&b, " +%s %08x", doc.Name, sumOf(doc.JSON))
		}
		if it.Supplement != nil {
			fmt.Fprintf(&b, " %s %08x", it.Supplement.Name, sumOf(it.Supplement.JSON))
		}
		if it.Drop != nil {
			fmt.Fprintf(&b, " %v", *it.Drop)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// eventually polls until ok, for at most ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within ten seconds: " + what)
		}
	}
}

// accept puts a message in and fails the test where that fails.
func accept(t *testing.T, s *Spool, env record.Envelope, body []byte) record.ID {
	t.Helper()
	return acceptWith(t, s, env, body, AcceptOptions{})
}

func acceptWith(t *testing.T, s *Spool, env record.Envelope, body []byte, opt AcceptOptions) record.ID {
	t.Helper()
	id, err := s.Accept(t.Context(), env, bytes.NewReader(body), opt)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
