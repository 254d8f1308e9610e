package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// random gives a generator and prints its seed. HOLDFAST_SEED repeats a run.
func random(t testing.TB) *rand.Rand {
	seed, err := strconv.ParseUint(os.Getenv("HOLDFAST_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

var start = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)

// text is a body that compresses as mail does: words, and now and then noise.
func text(rng *rand.Rand, size int) []byte {
	b := make([]byte, 0, size+64)
	for len(b) < size {
		if rng.IntN(4) == 0 {
			b = fmt.Appendf(b, "%x\r\n", rng.Uint64())
		} else {
			b = append(b, "the quick brown fox jumps over the lazy dog\r\n"[rng.IntN(20):]...)
		}
	}
	return b[:size]
}

func toJSON(t testing.TB, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newMessage(t testing.TB, body []byte, supplements ...string) *record.Item {
	e := &record.Envelope{
		V: record.Version, ID: record.NewID(start), Nonce: record.NewNonce(), Received: start, Node: "main", Source: record.SourceSMTP,
		Completeness: record.Full, Size: int64(len(body)), SHA256: record.Sum(body),
	}
	it := &record.Item{Kind: record.KindMessage, ID: e.ID, Envelope: e, EnvelopeJSON: toJSON(t, e)}
	it.Body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	for _, name := range supplements {
		it.Supplements = append(it.Supplements, supplementDoc(t, e.ID, name))
	}
	return it
}

func supplementDoc(t testing.TB, id record.ID, name string) record.SupplementDoc {
	s := record.Supplement{V: record.Version, ID: id, Name: name, Nonce: record.NewNonce(), Time: start.Add(time.Second)}
	return record.SupplementDoc{Supplement: s, JSON: toJSON(t, s)}
}

func newRefused(t testing.TB, supplements ...string) *record.Item {
	it := newMessage(t, []byte("not kept"), supplements...)
	it.Kind, it.Body = record.KindRefused, nil
	return it
}

func newLate(t testing.TB, id record.ID, name string) *record.Item {
	s := supplementDoc(t, id, name)
	return &record.Item{Kind: record.KindSupplement, ID: id, Supplement: &s}
}

func newAct(t testing.TB, detail string) *record.Item {
	a := &record.Act{V: record.Version, ID: record.NewID(start), Kind: record.ActSearch, Nonce: record.NewNonce(), Time: start,
		Detail: map[string]any{"typed": detail}}
	return &record.Item{Kind: record.KindAct, ID: a.ID, Act: a, ActJSON: toJSON(t, a)}
}

// write makes a pack.
func write(t testing.TB, items []*record.Item, recipients ...age.Recipient) ([]byte, *Summary) {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, Options{Recipients: recipients})
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		if err := w.Add(it); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), sum
}

// strictSource serves a pack as an object store does, and fails the test on a range that is not in it. It counts.
type strictSource struct {
	t     testing.TB
	data  []byte
	mu    sync.Mutex
	reads []string
	open  int
}

func (s *strictSource) source(_ context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n <= 0 || off+n > int64(len(s.data)) {
		s.t.Errorf("read of %d bytes at %d in a pack of %d", n, off, len(s.data))
		return nil, errors.New("range")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads = append(s.reads, fmt.Sprintf("%d+%d", off, n))
	s.open++
	return &strictStream{Reader: bytes.NewReader(s.data[off : off+n]), s: s}, nil
}

type strictStream struct {
	io.Reader
	s      *strictSource
	closed bool
}

func (r *strictStream) Read(p []byte) (int, error) {
	if r.closed {
		r.s.t.Error("read after close")
	}
	return r.Reader.Read(p[:min(len(p), 10_000)]) // short reads
}

func (r *strictStream) Close() error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.closed {
		r.s.t.Error("closed twice")
	}
	r.closed = true
	r.s.open--
	return nil
}

func (s *strictSource) allClosed() {
	s.t.Helper()
	if s.open != 0 {
		s.t.Errorf("%d streams left open", s.open)
	}
}

// same fails the test unless got is what was put in.
func same(t testing.TB, want *record.Item, got *Record) {
	t.Helper()
	it, err := got.Item()
	if err != nil {
		t.Fatal(err)
	}
	if it.Kind != want.Kind || it.ID != want.ID {
		t.Fatalf("got %s %s, want %s %s", it.Kind, it.ID, want.Kind, want.ID)
	}
	if !bytes.Equal(it.EnvelopeJSON, want.EnvelopeJSON) || !bytes.Equal(it.ActJSON, want.ActJSON) || len(it.Supplements) != len(want.Supplements) {
		t.Fatalf("%s: other documents", it.ID)
	}
	for i := range it.Supplements {
		if !bytes.Equal(it.Supplements[i].JSON, want.Supplements[i].JSON) || it.Supplements[i].Name != want.Supplements[i].Name {
			t.Fatalf("%s: supplement %d differs", it.ID, i)
		}
	}
	if (it.Supplement == nil) != (want.Supplement == nil) || it.Supplement != nil && !bytes.Equal(it.Supplement.JSON, want.Supplement.JSON) {
		t.Fatalf("%s: other supplement", it.ID)
	}
	if (it.Body == nil) != (want.Body == nil) {
		t.Fatalf("%s: body there: %v", it.ID, it.Body != nil)
	}
	if want.Body != nil && digestOf(t, it) != want.Envelope.SHA256 {
		t.Fatalf("%s: other message", it.ID)
	}
}

func digestOf(t testing.TB, it *record.Item) record.Digest {
	t.Helper()
	r, err := it.Body()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	if err != nil || n != it.Envelope.Size {
		t.Fatalf("message: %d bytes of %d: %v", n, it.Envelope.Size, err)
	}
	return record.Digest(sum.Sum(nil))
}

func sealOf(it *record.Item) record.Digest {
	switch it.Kind {
	case record.KindMessage:
		return record.SealOf(it.Envelope.SHA256, record.Sum(it.EnvelopeJSON))
	case record.KindRefused:
		return record.SealOf(record.Sum(it.EnvelopeJSON))
	case record.KindSupplement:
		return record.SealOf(record.Sum(it.Supplement.JSON))
	default:
		return record.SealOf(record.Sum(it.ActJSON))
	}
}

// mixed is some of everything, with the sizes where something changes.
func mixed(t testing.TB, largest int) []*record.Item {
	rng := random(t)
	overhead := int(memberSize(int64(len(newMessage(t, nil).EnvelopeJSON)))) + blockSize // of a record with no supplement
	var items []*record.Item
	for _, size := range []int{0, 1, 511, 512, 513, 4000, frameSize - overhead - 1, frameSize - overhead, frameSize - overhead + 1,
		frameSize - 1, frameSize, frameSize + 1, largest} {
		items = append(items, newMessage(t, text(rng, size)))
	}
	for range 200 {
		items = append(items, newMessage(t, text(rng, rng.IntN(20_000)), "delivery-1", "auth"))
	}
	r, m := newRefused(t, "delivery-1"), newMessage(t, text(rng, 1000), "delivery-1")
	items = append(items, newRefused(t), r, newLate(t, r.ID, "delivery-2"), newLate(t, r.ID, "delivery-3"), m, newLate(t, m.ID, "delivery-2"),
		newAct(t, "x"), newLate(t, items[3].ID, "auth"), newAct(t, strings.Repeat("long ", 300_000)), newAct(t, "y"), newRefused(t))
	return items
}

func identity(t testing.TB) *age.X25519Identity {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestRoundTrip(t *testing.T) {
	key := identity(t)
	for name, recipients := range map[string][]age.Recipient{"plain": nil, "encrypted": {identity(t).Recipient(), key.Recipient()}} {
		t.Run(name, func(t *testing.T) {
			largest := 25_000_000
			if recipients != nil {
				largest = 3_000_000
			}
			items := mixed(t, largest)
			data, sum := write(t, items, recipients...)
			if sum.Size != int64(len(data)) || sum.SHA256 != record.Sum(data) || len(sum.Records) != len(items) {
				t.Fatalf("summary: size %d of %d, %d records of %d", sum.Size, len(data), len(sum.Records), len(items))
			}
			n := 0
			scanned, err := Scan(bytes.NewReader(data), []age.Identity{key}, func(r *Record) error {
				same(t, items[n], r)
				seal, err := r.Seal()
				if want := sealOf(items[n]); err != nil || seal != want || sum.Records[n].Seal != want {
					t.Fatalf("record %d: seal %v %v, want %v: %v", n, seal, sum.Records[n].Seal, want, err)
				}
				if p := sum.Records[n]; p.Place != r.Place || p.ID != r.ID || p.Kind != r.Kind || p.Name != r.Name {
					t.Fatalf("record %d: placed %+v, found %s %s %q at %+v", n, p, r.Kind, r.ID, r.Name, r.Place)
				}
				n++
				return nil
			})
			if err != nil || n != len(items) || scanned.SHA256 != sum.SHA256 || scanned.Size != sum.Size || scanned.Records != n {
				t.Fatalf("scan: %+v after %d of %d records: %v", scanned, n, len(items), err)
			}
			src := &strictSource{t: t, data: data}
			p, err := Open(t.Context(), src.source, int64(len(data)), key)
			if err != nil {
				t.Fatal(err)
			}
			for i, at := range sum.Records {
				if i > 20 && i < len(items)-20 && i%10 > 0 {
					continue
				}
				src.reads = nil
				r, err := p.Read(t.Context(), at.Place, at.ID, at.Name)
				if err != nil {
					t.Fatalf("record %d: %v", i, err)
				}
				if len(src.reads) > 1 {
					t.Errorf("record %d took the reads %v", i, src.reads)
				}
				same(t, items[i], r)
				same(t, items[i], r) // Body opens again
				if seal, err := r.Seal(); err != nil || seal != at.Seal || r.Place != at.Place {
					t.Errorf("record %d at %v: seal %v: %v", i, r.Place, seal, err)
				}
			}
			src.allClosed()
		})
	}
}

func TestScanOfUnreadMessages(t *testing.T) {
	items := mixed(t, 3_000_000)
	data, sum := write(t, items)
	n := 0
	if _, err := Scan(bytes.NewReader(data), nil, func(r *Record) error { n++; return nil }); err != nil || n != len(items) {
		t.Fatalf("nothing read: %d records: %v", n, err)
	}
	n = 0
	_, err := Scan(bytes.NewReader(data), nil, func(r *Record) error {
		it, err := r.Item()
		if err == nil && it.Body != nil { // a bit of it, then the seal
			body, err := it.Body()
			if err != nil {
				return err
			}
			io.CopyN(io.Discard, body, 100)
			body.Close()
		}
		seal, sealErr := r.Seal()
		if seal != sum.Records[n].Seal || r.Place != sum.Records[n].Place {
			t.Errorf("record %d: %v at %v", n, seal, r.Place)
		}
		n++
		return errors.Join(err, sealErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	if _, err := Scan(bytes.NewReader(data), nil, func(*Record) error { return stop }); err != stop { // as it is
		t.Errorf("got %v", err)
	}
}

func TestEmptyPack(t *testing.T) {
	key := identity(t)
	for _, recipients := range [][]age.Recipient{nil, {key.Recipient()}} {
		data, _ := write(t, nil, recipients...)
		if s, err := Scan(bytes.NewReader(data), []age.Identity{key}, nil); err != nil || s.Records != 0 {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestEncryptedReadIsOneRange(t *testing.T) {
	rng, key := random(t), identity(t)
	var items []*record.Item
	for range 2000 {
		b := make([]byte, 2000)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		items = append(items, newMessage(t, b))
	}
	data, sum := write(t, items, key.Recipient())
	src := &strictSource{t: t, data: data}
	p, err := Open(t.Context(), src.source, int64(len(data)), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(src.reads) != 2 {
		t.Errorf("to open took the reads %v", src.reads)
	}
	for i, at := range sum.Records {
		if i%20 > 0 {
			continue
		}
		src.reads = nil
		if _, err := p.Read(t.Context(), at.Place, at.ID, ""); err != nil {
			t.Fatal(err)
		}
		var off, n int64
		if len(src.reads) != 1 {
			t.Fatalf("record %d took the reads %v", i, src.reads)
		}
		fmt.Sscanf(src.reads[0], "%d+%d", &off, &n)
		if n > at.Length+3*ageEncChunk {
			t.Errorf("record %d: read %d bytes for a frame of %d", i, n, at.Length)
		}
	}
	src.allClosed()
}

func TestPlacesThatAreWrong(t *testing.T) {
	key := identity(t)
	items := []*record.Item{newMessage(t, []byte("one")), newMessage(t, make([]byte, 3<<20)), newAct(t, "x")}
	for _, recipients := range [][]age.Recipient{nil, {key.Recipient()}} {
		data, sum := write(t, items, recipients...)
		src := &strictSource{t: t, data: data}
		p, err := Open(t.Context(), src.source, int64(len(data)), key)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range sum.Records {
			if _, err := p.Read(t.Context(), at.Place, record.NewID(start), ""); !errors.Is(err, ErrNotFound) {
				t.Errorf("another id: %v", err)
			}
			if _, err := p.Read(t.Context(), at.Place, at.ID, "delivery-9"); !errors.Is(err, ErrNotFound) {
				t.Errorf("another name: %v", err)
			}
			for _, wrong := range []Place{
				{at.Frame + 1, at.Length}, {at.Frame, at.Length - 1}, {at.Frame, at.Length + 1}, {at.Frame, 0}, {-1, at.Length}, {at.Frame, -5},
				{1 << 62, 1 << 62}, {at.Frame, 1 << 62}, {int64(len(data)) - 5, 5}, {at.Frame, 10},
			} {
				r, err := p.Read(t.Context(), wrong, at.ID, "")
				if err == nil {
					_, err = r.Seal() // a large frame's end is seen only there
				}
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("record %d at %+v, not %+v: %v", i, wrong, at.Place, err)
				}
			}
		}
		src.allClosed()
	}
}

func TestIdentities(t *testing.T) {
	key := identity(t)
	data, _ := write(t, []*record.Item{newAct(t, "x")}, key.Recipient())
	for _, ids := range [][]age.Identity{nil, {identity(t)}} {
		src := &strictSource{t: t, data: data}
		if _, err := Open(t.Context(), src.source, int64(len(data)), ids...); !errors.Is(err, ErrNoIdentity) {
			t.Errorf("open: %v", err)
		}
		src.allClosed()
		s, err := Scan(bytes.NewReader(data), ids, nil)
		if !errors.Is(err, ErrNoIdentity) || s.SHA256 != record.Sum(data) || s.Size != int64(len(data)) {
			t.Errorf("scan: %+v: %v", s, err)
		}
	}
}

func TestTwoReadersAtOnce(t *testing.T) {
	rng, key := random(t), identity(t)
	var items []*record.Item
	for range 30 {
		items = append(items, newMessage(t, text(rng, rng.IntN(100_000)), "delivery-1"))
	}
	items = append(items, newMessage(t, text(rng, 3<<20)))
	data, sum := write(t, items, key.Recipient())
	src := &strictSource{t: t, data: data}
	p, err := Open(t.Context(), src.source, int64(len(data)), key)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		first := rng.IntN(len(items))
		wg.Go(func() {
			for i := range items {
				at := sum.Records[(first+i)%len(items)]
				r, err := p.Read(t.Context(), at.Place, at.ID, "")
				if err != nil {
					t.Error(err)
					return
				}
				if seal, err := r.Seal(); err != nil || seal != at.Seal {
					t.Errorf("%v: %v", seal, err)
				}
			}
		})
	}
	wg.Wait()
	src.allClosed()
}
