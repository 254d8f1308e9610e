package pack

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// closing tells whether a body was closed.
type closing struct {
	io.Reader
	closed *int
}

func (c closing) Close() error { *c.closed++; return nil }

func TestRecordsThatCannotBePacked(t *testing.T) {
	broken := errors.New("broken")
	for _, size := range []int{100, 3 << 20} {
		text := bytes.Repeat([]byte("x"), size)
		opened, closed := 0, 0
		with := func(r func() io.Reader) *record.Item {
			it := newMessage(t, text)
			it.Body = func() (io.ReadCloser, error) { opened++; return closing{r(), &closed}, nil }
			return it
		}
		change := func(f func(it *record.Item)) *record.Item {
			it := newMessage(t, text, "delivery-1")
			f(it)
			return it
		}
		for name, it := range map[string]*record.Item{
			"short":           with(func() io.Reader { return bytes.NewReader(text[1:]) }),
			"long":            with(func() io.Reader { return bytes.NewReader(append(text, 'x')) }),
			"other bytes":     with(func() io.Reader { return bytes.NewReader(append(text[1:], 'y')) }),
			"unreadable":      with(func() io.Reader { return io.MultiReader(bytes.NewReader(text[:size/2]), iotest.ErrReader(broken)) }),
			"no end":          with(func() io.Reader { return io.MultiReader(bytes.NewReader(text), iotest.ErrReader(broken)) }),
			"no body":         change(func(it *record.Item) { it.Body = nil }),
			"no envelope":     change(func(it *record.Item) { it.Envelope = nil }),
			"not opened":      change(func(it *record.Item) { it.Body = func() (io.ReadCloser, error) { return nil, broken } }),
			"negative":        change(func(it *record.Item) { it.Envelope.Size = -1 }),
			"too large":       change(func(it *record.Item) { it.Envelope.Size = maxRecord }),
			"far too large":   change(func(it *record.Item) { it.Envelope.Size = 1<<63 - 1 }),
			"documents":       change(func(it *record.Item) { it.Supplements[0].JSON = make([]byte, maxDocuments) }),
			"no id":           change(func(it *record.Item) { it.ID = record.ID{} }),
			"name with slash": change(func(it *record.Item) { it.Supplements[0].Name = "../x" }),
			"no name":         change(func(it *record.Item) { it.Supplements[0].Name = "" }),
			"long name":       change(func(it *record.Item) { it.Supplements[0].Name = strings.Repeat("x", 41) }),
			"name taken":      change(func(it *record.Item) { it.Supplements[0].Name = "envelope" }),
			"twice the name":  change(func(it *record.Item) { it.Supplements = append(it.Supplements, it.Supplements[0]) }),
			"dropped":         {Kind: record.KindDropped, Drop: &record.Drop{First: 1, Last: 1}},
			"init":            {Kind: record.KindInit, ID: record.NewID(start)},
			"nothing":         {},
			"late envelope":   newLate(t, record.NewID(start), "envelope"),
		} {
			var out bytes.Buffer
			w, err := NewWriter(&out, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Add(newAct(t, "before")); err != nil {
				t.Fatal(err)
			}
			err = w.Add(it)
			if !errors.Is(err, ErrItem) {
				t.Errorf("%s, %d bytes: %v", name, size, err)
			}
			if again := w.Add(newAct(t, "after")); again != err { // the same
				t.Errorf("%s: then %v", name, again)
			}
			if _, end := w.Close(); end != err { // the same
				t.Errorf("%s: closed with %v", name, end)
			}
		}
		if opened != 5 || closed != opened {
			t.Errorf("%d bodies opened, %d closed", opened, closed)
		}
	}
}

// failing takes n bytes and then fails, or takes too little without saying so.
type failing struct {
	n   int
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n >= 0 {
		return len(p), nil
	}
	return len(p) / 2, f.err
}

func TestOutputsThatFail(t *testing.T) {
	broken, key := errors.New("no space left on device"), identity(t)
	items := append(small(t), newMessage(t, make([]byte, 2<<20)))
	for _, recipients := range [][]age.Recipient{nil, {key.Recipient()}} {
		data, _ := write(t, items, recipients...)
		for n := 0; n < len(data)-1; n += 1 + n/20 {
			for _, fault := range []error{broken, nil} {
				w, err := NewWriter(&failing{n, fault}, Options{Recipients: recipients})
				for i := 0; err == nil && i < len(items); i++ {
					err = w.Add(items[i])
				}
				if err == nil {
					_, err = w.Close()
				}
				if err == nil || errors.Is(err, ErrItem) || fault != nil && !errors.Is(err, fault) {
					t.Fatalf("after %d of %d bytes: %v", n, len(data), err)
				}
			}
		}
	}
}

func TestWriterAfterClose(t *testing.T) {
	w, err := NewWriter(io.Discard, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Add(newAct(t, "x")); err == nil || errors.Is(err, ErrItem) {
		t.Errorf("add after close: %v", err)
	}
	if _, err := w.Close(); err == nil {
		t.Error("closed twice")
	}
}

// The same records give the same bytes, and a record that is large does not take the small ones beside it into its frame.
func TestFrames(t *testing.T) {
	rng := random(t)
	items := []*record.Item{newMessage(t, text(rng, 1000)), newMessage(t, text(rng, 2<<20)), newMessage(t, text(rng, 1000)), newMessage(t, text(rng, 1000))}
	data, sum := write(t, items)
	again, _ := write(t, items)
	if !bytes.Equal(data, again) {
		t.Error("other bytes the second time")
	}
	r := sum.Records
	if r[0].Frame != 0 || r[1].Frame != r[0].Length || r[2].Frame != r[1].Frame+r[1].Length || r[2].Place != r[3].Place {
		t.Errorf("places %+v", r)
	}
}

// A pack is a tar archive for other readers too, and has the members in the order that readers of ours rely on.
func TestTarMembers(t *testing.T) {
	m := newMessage(t, []byte("hello"), "delivery-1")
	m.Envelope.Received = time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC)
	data, _ := write(t, []*record.Item{m, newAct(t, "x")})
	dec, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	var names []string
	for tr := tar.NewReader(dec); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Format != tar.FormatUSTAR || h.Mode != 0o444 || h.Uid != 0 || h.Typeflag != tar.TypeReg {
			t.Errorf("header %+v", h)
		}
		_, base, _ := strings.Cut(h.Name, "/")
		names = append(names, base+h.ModTime.UTC().Format(" 2006-01-02"))
	}
	want := "envelope.json 1970-01-01, delivery-1.json 2026-11-23, message.eml 1970-01-01, act.json 2026-11-23,  2026-11-23"
	if got := strings.Join(names, ", "); got != want {
		t.Errorf("members %s, want %s", got, want)
	}
}

// The index of a pack with very many records is larger than a frame of records may be.
func TestAPackOfManySmallRecordsIsScanned(t *testing.T) {
	const n = 30_000
	var out bytes.Buffer
	w, err := NewWriter(&out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		id := record.NewID(time.Now())
		act := record.Act{V: 1, ID: id, Kind: record.ActSearch, Time: time.Now().UTC()}
		text, err := json.Marshal(act)
		if err == nil {
			err = w.Add(&record.Item{Kind: record.KindAct, ID: id, Act: &act, ActJSON: text})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := Scan(&out, nil, func(*Record) error { return nil })
	if err != nil || got.Records != n {
		t.Fatalf("%d records, %v", got.Records, err)
	}
}
