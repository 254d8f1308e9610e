package archive_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// custody is a spool that forgets nothing: what is released must have been given out, once.
type custody struct {
	t        testing.TB
	mu       sync.Mutex
	items    []*record.Item
	next     int
	released map[uint64]bool // by Ref
	more     chan struct{}
}

func newCustody(t testing.TB) *custody {
	return &custody{t: t, released: map[uint64]bool{}, more: make(chan struct{}, 1)}
}

func (c *custody) put(items ...*record.Item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range items {
		it.Ref = uint64(len(c.items) + 1)
		c.items = append(c.items, it)
	}
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// restart gives out again what was not released, as a spool does after a crash.
func (c *custody) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = 0
}

func (c *custody) TryNext(context.Context) (*record.Item, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.next < len(c.items) {
		it := c.items[c.next]
		c.next++
		if !c.released[it.Ref] {
			return it, nil
		}
	}
	return nil, nil
}

func (c *custody) Next(ctx context.Context) (*record.Item, error) {
	for {
		if it, _ := c.TryNext(ctx); it != nil {
			return it, nil
		}
		select {
		case <-c.more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *custody) Release(_ context.Context, items []*record.Item) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range items {
		if it.Ref == 0 || c.released[it.Ref] {
			c.t.Errorf("item %d released twice, or never given out", it.Ref)
		}
		c.released[it.Ref] = true
	}
	return nil
}

func (c *custody) Waiting() (runs [][2]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range c.items {
		if it.Seq > 0 && !c.released[it.Ref] {
			runs = append(runs, [2]uint64{it.Seq, it.Seq})
		}
	}
	return runs
}

func (c *custody) Newest() (newest uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range c.items {
		newest = max(newest, it.Seq)
	}
	return newest
}

func (c *custody) Find(_ context.Context, id record.ID) (*record.Item, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range c.items {
		if it.ID == id && it.Envelope != nil && !c.released[it.Ref] {
			return it, nil
		}
	}
	return nil, nil
}

func (c *custody) left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.items) - len(c.released)
}

func message(seq uint64, body []byte) *record.Item {
	env := &record.Envelope{V: 1, ID: record.NewID(time.Now()), Nonce: record.NewNonce(), Received: time.Now().UTC(), Node: "n1", Source: record.SourceSMTP,
		Completeness: record.Full, Size: int64(len(body)), SHA256: record.Sum(body)}
	text, err := json.Marshal(env)
	if err != nil {
		panic(err)
	}
	return &record.Item{Kind: record.KindMessage, ID: env.ID, Seq: seq, Envelope: env, EnvelopeJSON: text,
		Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }}
}

func supplement(id record.ID, name string, outcome record.Outcome) record.SupplementDoc {
	s := record.Supplement{V: 1, ID: id, Name: name, Nonce: record.NewNonce(), Time: time.Now().UTC(), Delivery: &record.Delivery{Outcome: outcome, NextHop: "mx:25", Attempts: 1}}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return record.SupplementDoc{Supplement: s, JSON: text}
}

func act(seq uint64) *record.Item {
	a := &record.Act{V: 1, ID: record.NewID(time.Now()), Kind: record.ActSearch, Nonce: record.NewNonce(), Time: time.Now().UTC(), Node: "n1", Actor: record.Actor{ID: "uid:0"}}
	text, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	return &record.Item{Kind: record.KindAct, ID: a.ID, Seq: seq, Act: a, ActJSON: text}
}

// bench is an archive with all that is around it.
type bench struct {
	t       *testing.T
	store   *objecttest.Memory
	dir     string
	keys    *archive.Keys
	custody *custody
	bodies  map[record.ID][]byte
	seq     uint64
}

func config() archive.Config {
	return archive.Config{Node: "n1", Config: object.Config{Store: "file:/nowhere"}, SealAfter: 20 * time.Millisecond, SealSize: 1 << 20}
}

func newBench(t *testing.T, encrypt bool) *bench {
	t.Helper()
	b := &bench{t: t, store: new(objecttest.Memory), dir: t.TempDir(), custody: newCustody(t), bodies: map[record.ID][]byte{}}
	_, keys, err := archive.Create(t.Context(), archive.InitOptions{Config: config(), Store: b.store, KeysDir: filepath.Join(b.dir, "keys"), Encrypt: encrypt, NoEscrow: encrypt, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	b.keys = keys
	return b
}

func (b *bench) open(ctx context.Context) (*archive.Archive, error) {
	return archive.Open(ctx, archive.Options{Config: config(), Store: b.store, Keys: b.keys, DataDir: filepath.Join(b.dir, "data"), Now: time.Now,
		Log:    slog.New(slog.DiscardHandler),
		Expiry: func(it *record.Item) time.Time { return it.ID.Time().AddDate(int(it.Seq%3)+1, 0, 0) }})
}

// fill puts n messages of mixed sizes and an act after every tenth into custody.
func (b *bench) fill(n int) {
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	for i := range n {
		size := rng.IntN(4000)
		if i%50 == 49 {
			size = 1<<20 + rng.IntN(1<<20)
		}
		body := make([]byte, size)
		for j := range body {
			body[j] = byte('a' + rng.IntN(16))
		}
		b.seq++
		m := message(b.seq, body)
		if i%3 == 0 {
			m.Supplements = append(m.Supplements, supplement(m.ID, "delivery-1", record.Delivered))
		}
		b.bodies[m.ID] = body
		b.custody.put(m)
		if i%10 == 9 {
			b.seq++
			b.custody.put(act(b.seq))
		}
		if i%20 == 19 {
			late := supplement(m.ID, "delivery-2", record.Delivered)
			b.custody.put(&record.Item{Kind: record.KindSupplement, ID: m.ID, Supplement: &late})
		}
	}
}

// drain archives all that is in custody and closes.
func (b *bench) drain() {
	b.t.Helper()
	a, err := b.open(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	drain := make(chan struct{})
	close(drain)
	if err := a.Run(b.t.Context(), b.custody, drain); err != nil {
		b.t.Fatal(err)
	}
	if n := b.custody.left(); n != 0 {
		b.t.Fatalf("%d items are still in custody", n)
	}
	if err := a.Close(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) verify() *archive.Report {
	b.t.Helper()
	r, err := archive.Verify(b.t.Context(), archive.VerifyOptions{Store: b.store, Keys: b.keys, Full: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// check fetches every message and verifies the archive.
func (b *bench) check() {
	b.t.Helper()
	r := b.verify()
	if !r.OK || len(r.Orphans) > 0 {
		b.t.Fatalf("verify: %+v", r)
	}
	a, err := b.open(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer a.Close(b.t.Context())
	for id, body := range b.bodies {
		s, err := a.Fetch(b.t.Context(), id)
		if err != nil {
			b.t.Fatal(err)
		}
		if got := readBody(b.t, s.Item); !bytes.Equal(got, body) {
			b.t.Fatalf("%s has %d other bytes", id, len(got))
		}
	}
	seen := map[record.ID]int{}
	for r, err := range a.Replay(b.t.Context(), "node-n1", 0, func(e *record.Entry) bool { return e.Kind == record.KindMessage }) {
		if err != nil || r.Err != nil {
			b.t.Fatal(err, r.Err)
		}
		if r.Item != nil {
			seen[r.Entry.ID]++
			if got := readBody(b.t, r.Item); !bytes.Equal(got, b.bodies[r.Entry.ID]) {
				b.t.Fatalf("%s comes back with other bytes", r.Entry.ID)
			}
		}
	}
	for id := range b.bodies {
		if seen[id] != 1 {
			b.t.Errorf("%s has %d entries", id, seen[id])
		}
	}
}

func readBody(t *testing.T, it *record.Item) []byte {
	t.Helper()
	r, err := it.Body()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestWhatIsInCustodyComesIntoTheArchiveOnce(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		t.Run(fmt.Sprint("encrypt=", encrypt), func(t *testing.T) {
			b := newBench(t, encrypt)
			b.fill(120)
			b.drain()
			b.check()
			b.fill(30)
			b.drain()
			b.check()
		})
	}
}

func TestLateSupplementsAreShownWithTheirRecord(t *testing.T) {
	b := newBench(t, false)
	m := message(1, []byte("x\r\n"))
	m.Supplements = []record.SupplementDoc{supplement(m.ID, "delivery-1", record.Unknown)}
	b.custody.put(m)
	b.drain()
	late := supplement(m.ID, "delivery-2", record.Delivered)
	b.custody.put(&record.Item{Kind: record.KindSupplement, ID: m.ID, Supplement: &late})
	b.drain()
	a, err := b.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close(t.Context())
	s, err := a.Fetch(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Item.Supplements) != 2 || s.Item.Delivery().Outcome != record.Delivered {
		t.Fatalf("supplements: %+v", s.Item.Supplements)
	}
}

// TestASupplementThatCameTwice: a queue that was killed between a delivery and its note of it makes the same supplement again. Both are
// kept, in packs of their own, and nothing waits for that; nor is the pack that begins with the second one taken for committed because the
// first one is.
func TestASupplementThatCameTwice(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash=%v", crash), func(t *testing.T) {
			b := newBench(t, false)
			m, behind := message(1, []byte("x\r\n")), message(2, []byte("y\r\n"))
			b.custody.put(m)
			for range 2 {
				s := supplement(m.ID, "delivery-1", record.Delivered)
				b.custody.put(&record.Item{Kind: record.KindSupplement, ID: m.ID, Supplement: &s})
			}
			b.custody.put(behind)
			// The second pack comes into the store once the first is committed, or never before the crash.
			packs, first, never := atomic.Int32{}, make(chan struct{}), make(chan struct{})
			var once sync.Once
			b.store.SetFault(func(op objecttest.Op, key string) (f objecttest.Fault) {
				switch {
				case op == objecttest.OpCreate && strings.HasPrefix(key, "packs/"):
					if packs.Add(1) > 1 {
						f.Wait = first
						if crash {
							f.Wait = never
						}
					}
				case op == objecttest.OpCreate && packs.Load() > 0:
					once.Do(func() { close(first) })
				}
				return f
			})
			var log bytes.Buffer
			open := func() *archive.Archive {
				a, err := archive.Open(t.Context(), archive.Options{Config: config(), Store: b.store, Keys: b.keys, DataDir: filepath.Join(b.dir, "data"), Now: time.Now,
					Log: slog.New(slog.NewTextHandler(&log, nil)), Expiry: func(*record.Item) time.Time { return time.Time{} }})
				if err != nil {
					t.Fatal(err)
				}
				return a
			}
			a := open()
			if crash { // after the first pack is committed, while the second is sealed and not in the store
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					a.Run(ctx, b.custody, make(chan struct{}))
				}()
				for end := time.Now().Add(time.Minute); packs.Load() < 2 || b.custody.left() == 4; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatal("the first pack is not committed")
					}
				}
				stop()
				<-ended
				a.Close(t.Context())
				b.custody.restart()
				b.store.SetFault(nil)
				a = open()
			}
			drain := make(chan struct{})
			close(drain)
			if err := a.Run(t.Context(), b.custody, drain); err != nil {
				t.Fatal(err)
			}
			if n := b.custody.left(); n != 0 || strings.Contains(log.String(), "can't be read") {
				t.Errorf("%d in custody: %s", n, log.String())
			}
			for _, id := range []record.ID{m.ID, behind.ID} {
				if _, err := a.Fetch(t.Context(), id); err != nil {
					t.Errorf("released, and not in the archive: %v", err)
				}
			}
			if err := a.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r := b.verify(); !r.OK {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestProofIsCheckedByTlogAlone(t *testing.T) {
	b := newBench(t, false)
	b.fill(300)
	b.drain()
	a, err := b.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close(t.Context())
	verifier, err := note.NewVerifier(b.keys.Verifier)
	if err != nil {
		t.Fatal(err)
	}
	for id := range b.bodies {
		text, err := a.Proof(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		checkProof(t, string(text), verifier, id)
	}
}

// checkProof reads a C2SP tlog-proof with nothing of ours: heading, extra (the entry), index, hashes, checkpoint.
func checkProof(t *testing.T, text string, verifier note.Verifier, id record.ID) {
	t.Helper()
	head, checkpoint, ok := strings.Cut(text, "\n\n")
	if !ok {
		t.Fatalf("proof without a checkpoint: %q", text)
	}
	n, err := note.Open([]byte(checkpoint), note.VerifierList(verifier))
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	cp := strings.Split(n.Text, "\n")
	fmt.Sscan(cp[1], &size)
	root, err := tlog.ParseHash(cp[2])
	if err != nil {
		t.Fatal(err)
	}
	var entry []byte
	var number int64
	var proof tlog.RecordProof
	for i, line := range strings.Split(head, "\n")[1:] {
		switch {
		case strings.HasPrefix(line, "extra "):
			if entry, err = base64.StdEncoding.DecodeString(line[6:]); err != nil {
				t.Fatal(err)
			}
		case strings.HasPrefix(line, "index "):
			fmt.Sscan(line[6:], &number)
		default:
			h, err := tlog.ParseHash(line)
			if err != nil {
				t.Fatalf("line %d of the proof: %v", i+1, err)
			}
			proof = append(proof, h)
		}
	}
	if !bytes.Contains(entry, []byte(id.String())) {
		t.Fatalf("the proof is of %s, not of %s", entry, id)
	}
	if err := tlog.CheckRecord(proof, size, root, number, tlog.RecordHash(entry)); err != nil {
		t.Fatal(err)
	}
}

// A store that fails for good after n calls stands for a crash at that step: whatever was done stays, nothing more is done. Then the node
// starts again with what is on its disk.
func TestACrashAtAnyStepOfTheStoreLosesNothing(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		for _, lost := range []bool{false, true} { // the last call before the crash: not done, or done and not answered
			for n := 0; ; n++ {
				b := newBench(t, encrypt)
				b.fill(25)
				ctx, cancel := context.WithCancel(t.Context())
				var mu sync.Mutex
				calls := 0
				b.store.SetFault(func(objecttest.Op, string) objecttest.Fault {
					mu.Lock()
					defer mu.Unlock()
					calls++
					if calls <= n {
						return objecttest.Fault{}
					}
					cancel()
					if lost && calls == n+1 {
						return objecttest.Fault{After: objecttest.ErrFault}
					}
					return objecttest.Fault{Before: objecttest.ErrFault}
				})
				crashed := b.runOnce(ctx)
				cancel()
				b.store.SetFault(nil)
				b.custody.restart()
				b.drain()
				b.check()
				if !crashed {
					if n < 10 {
						t.Fatalf("the archive makes only %d calls", n)
					}
					break
				}
			}
		}
	}
}

// runOnce opens, archives what is in custody and closes, as far as the store lets it, and says whether it was stopped.
func (b *bench) runOnce(ctx context.Context) (crashed bool) {
	a, err := b.open(ctx)
	if err != nil {
		return true
	}
	drain := make(chan struct{})
	close(drain)
	err = errors.Join(a.Run(ctx, b.custody, drain), a.Close(ctx))
	return err != nil
}

func TestVerifyNamesWhatWasAlteredOrIsGone(t *testing.T) {
	b := newBench(t, false)
	b.fill(40)
	b.drain()
	if r := b.verify(); !r.OK {
		t.Fatalf("before any harm: %+v", r)
	}
	names := func(list []archive.Finding, key string) bool {
		return slices.ContainsFunc(list, func(f archive.Finding) bool { return f.Key == key })
	}
	for _, key := range b.store.Keys() {
		whole := b.store.Bytes(key)
		for _, at := range []int{0, len(whole) / 2, len(whole) - 1} {
			b.store.Corrupt(key, at)
			if r := b.verify(); r.OK || !names(r.Altered, key) {
				t.Errorf("%s with byte %d flipped: %+v", key, at, r)
			}
			b.store.Corrupt(key, at)
		}
		if strings.HasPrefix(key, "packs/") || strings.Contains(key, "/commit/") {
			b.store.Remove(key)
			if r := b.verify(); r.OK || !names(r.Missing, key) {
				t.Errorf("%s deleted: %+v", key, r)
			}
			if _, err := b.store.Create(t.Context(), key, bytes.NewReader(whole), object.Lock{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := b.store.Create(t.Context(), "packs/2030-01/2026/01/01/n1-1-0.tar.zst", strings.NewReader("?"), object.Lock{}); err != nil {
		t.Fatal(err)
	}
	if r := b.verify(); !r.OK || !names(r.Orphans, "packs/2030-01/2026/01/01/n1-1-0.tar.zst") {
		t.Errorf("an orphan: %+v", r)
	}
}

func TestVerifyNamesAGapInTheSequence(t *testing.T) {
	b := newBench(t, false)
	b.custody.put(message(1, nil), message(2, nil), message(4, nil))
	b.drain()
	if r := b.verify(); r.OK || len(r.Unaccounted) != 1 || !strings.Contains(r.Unaccounted[0].What, "3 to 3") {
		t.Fatalf("%+v", r)
	}
}

func TestDroppedAndRefusedRecordsAreAccountedFor(t *testing.T) {
	b := newBench(t, false)
	refused := func(seq uint64, listener string) *record.Item {
		m := message(seq, []byte("Subject: refused\r\n\r\n"))
		m.Envelope.Listener = listener
		m.EnvelopeJSON, _ = json.Marshal(m.Envelope)
		m.Supplements = []record.SupplementDoc{supplement(m.ID, "delivery-1", record.Refused)}
		return m
	}
	none, envelope, full := refused(1, "none"), refused(2, "envelope"), refused(3, "full")
	b.custody.put(none, envelope, full, &record.Item{Kind: record.KindDropped, Drop: &record.Drop{First: 4, Last: 6, Reason: "never acknowledged"}}, message(7, nil))
	open := func() *archive.Archive {
		a, err := archive.Open(t.Context(), archive.Options{Config: config(), Store: b.store, Keys: b.keys, DataDir: filepath.Join(b.dir, "data"), Now: time.Now,
			Log: slog.New(slog.DiscardHandler), Expiry: func(*record.Item) time.Time { return time.Time{} },
			Keep: func(it *record.Item) archive.Keep {
				return map[string]archive.Keep{"none": archive.KeepNothing, "envelope": archive.KeepEnvelope}[it.Envelope.Listener]
			}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	drain := make(chan struct{})
	close(drain)
	if err := a.Run(t.Context(), b.custody, drain); err != nil {
		t.Fatal(err)
	}
	defer a.Close(t.Context())
	if r := b.verify(); !r.OK {
		t.Fatalf("%+v", r)
	}
	if _, err := a.Fetch(t.Context(), none.ID); !errors.Is(err, archive.ErrNotFound) {
		t.Errorf("what is not kept: %v", err)
	}
	if s, err := a.Fetch(t.Context(), envelope.ID); err != nil || s.Item.Kind != record.KindRefused || s.Item.Body != nil || s.Item.Delivery().Outcome != record.Refused {
		t.Errorf("of which the envelope is kept: %+v, %v", s, err)
	}
	if s, err := a.Fetch(t.Context(), full.ID); err != nil || len(readBody(t, s.Item)) == 0 {
		t.Errorf("what is kept in full: %v", err)
	}
	b.custody.restart() // as after a crash before the spool let go of them
	b.custody.released = map[uint64]bool{}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	size := ledgerSize(t, b)
	a = open()
	if err := a.Run(t.Context(), b.custody, drain); err != nil {
		t.Fatal(err)
	}
	if got := ledgerSize(t, b); got != size {
		t.Errorf("what is in the ledger came in again: %d entries, then %d", size, got)
	}
}

func ledgerSize(t *testing.T, b *bench) uint64 {
	t.Helper()
	return b.verify().Entries
}

func TestALostSpoolIsWrittenDown(t *testing.T) {
	b := newBench(t, false)
	b.fill(3)
	waits := message(9, nil) // in custody, never settled
	b.custody.put(waits)
	b.custody.mu.Lock()
	b.custody.items = b.custody.items[:len(b.custody.items)-1]
	b.custody.mu.Unlock()
	a, err := b.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	drain := make(chan struct{})
	close(drain)
	if err := a.Run(t.Context(), stuck{b.custody, 9}, drain); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(b.dir, "data")); err != nil {
		t.Fatal(err)
	}
	b.seq = 9
	b.fill(2)
	b.drain()
	r := b.verify()
	if len(r.Unaccounted) != 1 || !strings.Contains(r.Unaccounted[0].What, "4 to 8") { // the sequences that this test left out
		t.Fatalf("%+v", r)
	}
}

// stuck is a custody in which one more record waits for its outcome.
type stuck struct {
	*custody
	seq uint64
}

func (s stuck) Waiting() [][2]uint64 { return append(s.custody.Waiting(), [2]uint64{s.seq, s.seq}) }

func TestANodeSaysWhetherItCanReadWhatItArchives(t *testing.T) {
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		encrypt bool
		added   []string
		want    bool
	}{{false, nil, true}, {true, nil, true}, {true, []string{stranger.Recipient().String()}, true}, {false, []string{stranger.Recipient().String()}, false}} {
		b := newBench(t, c.encrypt)
		cfg := config()
		cfg.Recipients = c.added
		a, err := archive.Open(t.Context(), archive.Options{Config: cfg, Store: b.store, Keys: b.keys, DataDir: filepath.Join(b.dir, "data"), Now: time.Now,
			Log: slog.New(slog.DiscardHandler), Expiry: func(*record.Item) time.Time { return time.Time{} }})
		if err != nil {
			t.Fatal(err)
		}
		if a.Readable() != c.want {
			t.Errorf("made encrypted: %v, recipients added: %d: readable is %v", c.encrypt, len(c.added), a.Readable())
		}
		a.Close(t.Context())
	}
}

func TestTwoWritersOfOneLog(t *testing.T) {
	b := newBench(t, false)
	other := *b
	other.custody, other.dir = newCustody(t), t.TempDir()
	first, err := b.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := other.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.fill(5)
	other.custody.put(message(1, []byte("other")))
	drain := make(chan struct{})
	close(drain)
	if err := first.Run(t.Context(), b.custody, drain); err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context(), other.custody, drain); !errors.Is(err, ledger.ErrLost) {
		t.Fatalf("the second writer: %v", err)
	}
	if other.custody.left() != 1 {
		t.Error("the loser let go of what it has not archived")
	}
	first.Close(t.Context())
	second.Close(t.Context())
	if r := b.verify(); !r.OK {
		t.Fatalf("%+v", r)
	}
}

func TestNothingIsMadeWhereNoArchiveIs(t *testing.T) {
	b := newBench(t, false)
	empty := *b
	empty.store, empty.dir = new(objecttest.Memory), t.TempDir()
	if _, err := empty.open(t.Context()); !errors.Is(err, ledger.ErrNoLog) {
		t.Errorf("an empty store: %v", err)
	}
	if keys := empty.store.Keys(); len(keys) != 0 {
		t.Errorf("made in an empty store: %v", keys)
	}
	if exists(filepath.Join(empty.dir, "data")) {
		t.Error("a data_dir was made for an archive that is not there")
	}
	foreign := newBench(t, false)
	foreign.keys = b.keys
	if _, err := foreign.open(t.Context()); !errors.Is(err, ledger.ErrKey) {
		t.Errorf("another archive's keys: %v", err)
	}
	if _, _, err := archive.Create(t.Context(), archive.InitOptions{Config: config(), Store: b.store, KeysDir: filepath.Join(b.dir, "keys"), Now: time.Now()}); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("init twice: %v", err)
	}
	if _, _, err := archive.Create(t.Context(), archive.InitOptions{Config: config(), Store: b.store, KeysDir: t.TempDir(), Now: time.Now()}); !errors.Is(err, archive.ErrNoKeys) {
		t.Errorf("init on an archive without its keys: %v", err)
	}
	if _, _, err := archive.Create(t.Context(), archive.InitOptions{Config: config(), Store: empty.store, KeysDir: t.TempDir(), Encrypt: true, Now: time.Now()}); !errors.Is(err, archive.ErrEscrow) {
		t.Errorf("encrypted without a second key: %v", err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestCatalogIsRebuiltWhileTheOldOneServes(t *testing.T) {
	b := newBench(t, false)
	b.fill(60)
	b.drain()
	if err := os.WriteFile(filepath.Join(b.dir, "data", "catalog.db"), []byte("not a catalog"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.check() // opening makes it again
	a, err := b.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.RebuildCatalog(t.Context(), func(uint64, uint64) {}); err != nil {
		t.Fatal(err)
	}
	for id := range b.bodies {
		if ok, err := a.Has(id); !ok || err != nil {
			t.Fatalf("%s is not in the new catalog: %v", id, err)
		}
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.check()
}

func TestAnAlteredRecordIsNotShown(t *testing.T) {
	b := newBench(t, false)
	b.custody.put(message(1, bytes.Repeat([]byte("a line of text\r\n"), 100)))
	b.drain()
	id := b.custody.items[0].ID
	pack := ""
	for _, key := range b.store.Keys() {
		if strings.HasPrefix(key, "packs/") {
			pack = key
		}
	}
	fetch := func() error {
		a, err := b.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close(t.Context())
		s, err := a.Fetch(t.Context(), id)
		if err == nil && !bytes.Equal(readBody(t, s.Item), bytes.Repeat([]byte("a line of text\r\n"), 100)) {
			t.Fatal("other bytes were shown")
		}
		return err
	}
	refused := 0
	for at := range b.store.Bytes(pack) { // some bytes belong to no record
		b.store.Corrupt(pack, at)
		if fetch() != nil {
			refused++
		}
		b.store.Corrupt(pack, at)
	}
	if refused < 100 {
		t.Errorf("only %d flipped bytes were noticed", refused)
	}
	b.store.Overwrite(pack, []byte("something else"))
	if err := fetch(); err != nil {
		t.Errorf("with another version on top: %v", err)
	}
	b.store.Hide(pack)
	if err := fetch(); err != nil {
		t.Errorf("behind a delete marker: %v", err)
	}
	if r := b.verify(); r.OK {
		t.Error("verify has nothing to say of a hidden pack")
	}
}
