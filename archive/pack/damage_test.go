package pack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// content scans a pack and gives what it says, as one text.
func content(data []byte, ids ...age.Identity) ([]byte, error) {
	var all []byte
	_, err := Scan(bytes.NewReader(data), ids, func(r *Record) error {
		it, err := r.Item()
		if err != nil {
			return err
		}
		all = append(all, string(r.Kind)+r.ID.String()+r.Name...)
		for _, d := range r.documents {
			all = append(append(all, d.name...), d.text...)
		}
		if it.Body != nil {
			body, err := it.Body()
			if err != nil {
				return err
			}
			text, err := io.ReadAll(body)
			if err != nil {
				return err
			}
			all = append(all, text...)
		}
		seal, err := r.Seal()
		all = append(all, seal[:]...)
		return err
	})
	return all, err
}

func small(t testing.TB) []*record.Item {
	m := newMessage(t, []byte("Subject: x\r\n\r\nhello\r\n"), "delivery-1")
	return []*record.Item{m, newRefused(t), newLate(t, m.ID, "auth"), newAct(t, "hello")}
}

func TestFlippedBytesAreFound(t *testing.T) {
	rng, key := random(t), identity(t)
	large := newMessage(t, make([]byte, frameSize+1))
	for _, c := range []struct {
		items      []*record.Item
		recipients []age.Recipient
	}{{small(t), nil}, {small(t), []age.Recipient{key.Recipient()}}, {[]*record.Item{large}, nil}} {
		data, sum := write(t, c.items, c.recipients...)
		want, err := content(data, key)
		if err != nil {
			t.Fatal(err)
		}
		for i := range data {
			if len(c.items) == 1 && i%25 > 0 { // to decode the large one takes longer
				continue
			}
			for _, flip := range []byte{1 << rng.IntN(8), 0xff} {
				data[i] ^= flip
				if record.Sum(data) == sum.SHA256 {
					t.Fatal("the digest of the whole is the same")
				}
				got, err := content(data, key)
				if err == nil && !bytes.Equal(got, want) {
					t.Fatalf("byte %d of %d, flipped by %#x, says something else", i, len(data), flip)
				}
				if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNoIdentity) {
					t.Fatalf("byte %d of %d, flipped by %#x: %v", i, len(data), flip, err)
				}
				data[i] ^= flip
			}
		}
	}
}

func TestTruncatedPacks(t *testing.T) {
	key := identity(t)
	for _, recipients := range [][]age.Recipient{nil, {key.Recipient()}} {
		data, _ := write(t, small(t), recipients...)
		for n := range data {
			if _, err := content(data[:n], key); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("cut to %d of %d bytes: %v", n, len(data), err)
			}
			src := func(_ context.Context, off, want int64) (io.ReadCloser, error) {
				off = min(off, int64(n))
				return io.NopCloser(bytes.NewReader(data[off:min(off+want, int64(n))])), nil
			}
			p, err := Open(t.Context(), src, int64(len(data)), key)
			if err == nil && recipients != nil || err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("open, cut to %d of %d bytes: %v", n, len(data), err)
			}
			if err == nil && n < 10 {
				if _, err := p.Read(t.Context(), Place{0, 100}, record.ID{1}, ""); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("read, cut to %d of %d bytes: %v", n, len(data), err)
				}
			}
		}
		if _, err := content(append(slices.Clone(data), 0), key); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a byte more: %v", err)
		}
		if _, err := content(slices.Concat(data, data), key); !errors.Is(err, ErrCorrupt) {
			t.Errorf("twice: %v", err)
		}
	}
}

// A source that fails is not a damaged pack.
func TestFaultsOfTheSource(t *testing.T) {
	key, broken := identity(t), errors.New("broken")
	items := append(small(t), newMessage(t, make([]byte, 2<<20)))
	for _, recipients := range [][]age.Recipient{nil, {key.Recipient()}} {
		data, sum := write(t, items, recipients...)
		for _, fault := range []error{broken, io.ErrUnexpectedEOF} {
			for n := 0; n < len(data); n += 97 {
				r := io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(fault))
				_, err := Scan(r, []age.Identity{key}, func(r *Record) error { _, err := r.Seal(); return err })
				if !errors.Is(err, fault) || errors.Is(err, ErrCorrupt) {
					t.Fatalf("%v after %d of %d bytes: %v", fault, n, len(data), err)
				}
			}
			for skip := range 5 { // the reads that succeed before one fails
				calls := 0
				src := func(_ context.Context, off, n int64) (io.ReadCloser, error) {
					if calls++; calls > skip {
						return io.NopCloser(io.MultiReader(bytes.NewReader(data[off:off+n/2]), iotest.ErrReader(fault))), nil
					}
					return io.NopCloser(bytes.NewReader(data[off : off+n])), nil
				}
				p, err := Open(t.Context(), src, int64(len(data)), key)
				for _, at := range sum.Records {
					var r *Record
					if err == nil {
						if r, err = p.Read(t.Context(), at.Place, at.ID, at.Name); err == nil {
							_, err = r.Seal()
						}
					}
				}
				if calls > skip && (errors.Is(err, ErrCorrupt) || !errors.Is(err, fault)) {
					t.Fatalf("%v after %d reads: %v", fault, skip, err)
				}
			}
		}
	}
}

// build makes a pack out of frames as a hostile or broken writer might.
func build(frames ...[]byte) []byte {
	var data []byte
	var sizes []frameSizes
	for _, raw := range frames {
		comp := frameEncoder().EncodeAll(raw, nil)
		data = append(data, comp...)
		sizes = append(sizes, frameSizes{uint32(len(comp)), uint32(len(raw))})
	}
	return append(data, seekTable(sizes)...)
}

// tarOf is a member, changed.
func tarOf(id record.ID, base string, body []byte, changes ...func(h []byte)) []byte {
	m := &member{id: id, base: base, size: int64(len(body)), time: 1}
	h := m.appendHeader(nil)
	for _, change := range changes {
		change(h)
		copy(h[148:156], "        ")
		sum := int64(0)
		for _, c := range h {
			sum += int64(c)
		}
		octal(h[148:155], sum)
	}
	return append(append(h, body...), endOfArchive[:padding(m.size)]...)
}

func indexOf(text string) []byte {
	return append(tarOf(record.ID{}, nameIndex, []byte(text)), endOfArchive...)
}

func TestHostilePacks(t *testing.T) {
	a := newAct(t, "x")
	other := newAct(t, "y")
	good := tarOf(a.ID, "act.json", a.ActJSON)
	m := newMessage(t, []byte("hello"))
	envelope, eml := tarOf(m.ID, "envelope.json", m.EnvelopeJSON), tarOf(m.ID, "message.eml", []byte("hello"))
	none := indexOf(`{"v":1,"records":[]}`)
	change := func(from int, text string) func([]byte) { return func(h []byte) { copy(h[from:], text) } }
	for name, c := range map[string]struct {
		want string
		data []byte
	}{
		"nothing":                   {"ends early", nil},
		"no frames":                 {"without an index", build()},
		"an empty frame":            {"header that no pack has", build([]byte{}, none)},
		"no index":                  {"without an index", build(good)},
		"index of nothing":          {"0 records, there were 1", build(good, none)},
		"index of another":          {"not as index.json says", build(good, indexOf(`{"v":1,"records":[{"id":"`+other.ID.String()+`","kind":"act","frame":0,"length":1}]}`))},
		"index that is no JSON":     {"index.json: unexpected end", build(indexOf(`{"v":1,`))},
		"large index":               {"index.json of 10000 bytes", build(indexOf(string(make([]byte, 10_000))))},
		"index twice":               {"behind the index", build(none, none)},
		"record behind the index":   {"behind the index", build(none, good)},
		"index behind a record":     {"index.json where a record begins", build(append(slices.Clone(good), none...))},
		"no end of archive":         {"content ends early", build(none[:len(none)-1024])},
		"half an end of archive":    {"content ends early", build(none[:len(none)-512])},
		"bytes behind the archive":  {"no end of the tar", build(append(slices.Clone(none), make([]byte, 512)...))},
		"dirty end of archive":      {"no end of the tar", build(append(slices.Clone(none[:len(none)-1]), 1))},
		"dirty padding":             {"padding", build(append(slices.Clone(good[:len(good)-1]), 1), none)},
		"message without envelope":  {"message.eml where a record begins", build(eml, none)},
		"message of another":        {"message.eml where a record begins", build(slices.Concat(envelope, tarOf(a.ID, "message.eml", nil)), none)},
		"two messages":              {"message.eml where a record begins", build(slices.Concat(envelope, eml, eml), none)},
		"message of another size":   {"the envelope says 5", build(slices.Concat(envelope, tarOf(m.ID, "message.eml", []byte("hell"))), none)},
		"unknown member":            {"README where a record begins", build(tarOf(a.ID, "README", nil), none)},
		"member in a sub-folder":    {"/a/act.json", build(tarOf(a.ID, "a/act.json", a.ActJSON), none)},
		"member above":              {"/../act.json", build(tarOf(a.ID, "../act.json", a.ActJSON), none)},
		"member without folder":     {`tar member "act.json"`, build(tarOf(record.ID{}, "act.json", a.ActJSON), none)},
		"another's act":             {"not of this record", build(tarOf(a.ID, "act.json", other.ActJSON), none)},
		"another's envelope":        {"not of this record", build(tarOf(a.ID, "envelope.json", m.EnvelopeJSON), none)},
		"another supplement":        {"not of this record", build(tarOf(a.ID, "delivery-1.json", supplementDoc(t, a.ID, "delivery-2").JSON), none)},
		"act that is no JSON":       {"not of this record", build(tarOf(a.ID, "act.json", []byte("{")), none)},
		"half a header":             {"content ends early", build(good[:300], none)},
		"half a member":             {"larger than its frame", build(good[:600], none)},
		"symbolic link":             {"tar header of", build(tarOf(a.ID, "act.json", a.ActJSON, change(156, "2"), change(157, "/etc/passwd")), none)},
		"hard link":                 {"tar header of", build(tarOf(a.ID, "act.json", a.ActJSON, change(156, "1")), none)},
		"pax header":                {"tar header of", build(tarOf(a.ID, "act.json", a.ActJSON, change(156, "x")), none)},
		"GNU magic":                 {"tar header of", build(tarOf(a.ID, "act.json", a.ActJSON, change(257, "ustar  \x00")), none)},
		"set-uid":                   {"tar header of", build(tarOf(a.ID, "act.json", a.ActJSON, change(100, "0004755")), none)},
		"owner":                     {"tar header of", build(tarOf(a.ID, "act.json", a.ActJSON, change(265, "root")), none)},
		"prefix":                    {"tar header of", build(tarOf(a.ID, "act.json", a.ActJSON, change(345, "/etc")), none)},
		"largest size":              {"larger than its frame", build(tarOf(a.ID, "act.json", a.ActJSON, change(124, "77777777777")), none)},
		"binary size":               {"tar header of", build(tarOf(a.ID, "act.json", a.ActJSON, change(124, "\x80\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00")), none)},
		"negative size":             {"tar header of", build(tarOf(a.ID, "act.json", a.ActJSON, change(124, "-0000000001")), none)},
		"size in blanks":            {"tar header of", build(tarOf(a.ID, "act.json", a.ActJSON, change(124, "        100")), none)},
		"wrong checksum":            {"tar header of", build(append(append(slices.Clone(good[:148]), '7'), good[149:]...), none)},
		"small letters in the id":   {"tar member", build(tarOf(a.ID, "act.json", a.ActJSON, change(0, "01jabcdefghjkmnpqrstvwxyz0")), none)},
		"text behind the name":      {"tar header of", build(tarOf(a.ID, "act.json", a.ActJSON, change(99, "x")), none)},
		"another skippable frame":   {"without an index", append([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0}, build(none)...)},
		"frame without a size":      {"header that no pack has", append(withoutSize(none), seekTable(nil)...)},
		"frame without a checksum":  {"header that no pack has", append(withOptions(none, zstd.WithEncoderCRC(false)), seekTable(nil)...)},
		"not zstd":                  {"magic number", []byte("PK\x03\x04 and so on, and so on, and so on")},
		"age that is not":           {"ends early", []byte("age-encryption.org/v1\n-> X25519 abc\n")},
		"reserved block":            {"reserved", []byte{0x28, 0xb5, 0x2f, 0xfd, 0x64, 0, 4, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		"a block of the whole size": {"ends early", []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa4, 0, 0, 1, 0, 0xfd, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}},
	} {
		got, err := content(c.data, identity(t))
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %.100q", name, err, got)
		}
	}
	// What the table changes is sound as it is.
	var p Writer
	p.records = []Placed{{Kind: record.KindAct, ID: a.ID, Place: Place{0, int64(len(frameEncoder().EncodeAll(good, nil)))}}}
	index := toJSON(t, indexDocument{V: 1, Records: []indexEntry{p.records[0].indexEntry()}})
	if _, err := content(build(good, indexOf(string(index)))); err != nil {
		t.Errorf("the sound one: %v", err)
	}
}

func withoutSize(raw []byte) []byte {
	var b bytes.Buffer
	enc := must(zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1)))
	enc.Write(raw[:100])
	enc.Flush()
	enc.Write(raw[100:])
	enc.Close()
	return b.Bytes()
}

func withOptions(raw []byte, o ...zstd.EOption) []byte {
	return must(zstd.NewWriter(nil, o...)).EncodeAll(raw, nil)
}

func TestHostileSeekTables(t *testing.T) {
	data, _ := write(t, small(t))
	table := len(data) - seekTableFixed - 2*seekEntrySize
	if binary.LittleEndian.Uint32(data[table:]) != seekTableMagic || binary.LittleEndian.Uint32(data[len(data)-4:]) != seekFooterMagic {
		t.Fatal("the seek table is not where it should be")
	}
	for i := table; i < len(data); i++ {
		for _, b := range []byte{0, 1, 0x7f, 0xff} {
			old := data[i]
			data[i] = b
			if _, err := content(data); old != b && !errors.Is(err, ErrCorrupt) {
				t.Errorf("byte %d of the table is %#x: %v", i-table, b, err)
			}
			data[i] = old
		}
	}
}

// zeros makes a frame that is small and says much: a member of size zero bytes behind head.
func zeros(head []byte, id record.ID, base string, size int64) []byte {
	var b bytes.Buffer
	m := &member{id: id, base: base, size: size, time: 1}
	enc := must(zstd.NewWriter(nil, encoderOptions()...))
	enc.ResetContentSize(&b, int64(len(head))+memberSize(size))
	enc.Write(head)
	enc.Write(m.appendHeader(nil))
	for left := size + padding(size); left > 0; {
		n, _ := enc.Write(make([]byte, min(left, 1<<20)))
		left -= int64(n)
	}
	if err := enc.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// allocated says how many bytes f has allocated in all, freed ones included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestBombsAreBounded(t *testing.T) {
	const size, limit = 200 << 20, 40 << 20
	m, a := newMessage(t, nil), newAct(t, "x")
	envelope := tarOf(m.ID, "envelope.json", m.EnvelopeJSON)
	message := zeros(envelope, m.ID, nameMessage, size)
	document := zeros(nil, a.ID, "act.json", size)
	t.Logf("bombs of %d and %d bytes", len(message), len(document))
	lying := slices.Clone(document[:40]) // says as much, and has nothing
	window := slices.Clone(document)
	window[5] = 0xf8 // a window of 2 TiB
	for name, c := range map[string]struct {
		data []byte
		want error
	}{"message": {message, nil}, "document": {document, ErrCorrupt}, "lying header": {lying, ErrCorrupt}, "window": {window, ErrCorrupt}} {
		var n int64
		got := allocated(func() {
			_, err := Scan(bytes.NewReader(c.data), nil, func(r *Record) error {
				body, err := r.open()
				if err == nil {
					n, err = io.Copy(io.Discard, body)
				}
				return err
			})
			if !errors.Is(err, ErrCorrupt) { // there is no index
				t.Errorf("%s: scan: %v", name, err)
			}
		})
		if got > limit {
			t.Errorf("%s: scan allocated %d bytes", name, got)
		}
		if c.want == nil && n != size {
			t.Errorf("%s: got %d bytes", name, n)
		}
		src := &strictSource{t: t, data: append(c.data, make([]byte, 100)...)}
		p, err := Open(t.Context(), src.source, int64(len(src.data)))
		if err != nil {
			t.Fatal(err)
		}
		got = allocated(func() {
			id := a.ID
			if c.want == nil {
				id = m.ID
			}
			r, err := p.Read(t.Context(), Place{0, int64(len(c.data))}, id, "")
			if err == nil {
				_, err = r.Seal()
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%s: read: %v", name, err)
			}
		})
		if got > limit {
			t.Errorf("%s: read allocated %d bytes", name, got)
		}
		src.allClosed()
	}
}
