package pack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// FuzzReader reads what nobody wrote: as a whole pack, or (framed) as the tar in one. It must end, without a panic, with a known error or
// with records that Reader finds again under the same seals.
func FuzzReader(f *testing.F) {
	data, _ := write(f, small(f))
	f.Add(data, false)
	f.Add(data[:len(data)-20], false)
	f.Add([]byte("age-encryption.org/v1\n-> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc\n"), false)
	m := newMessage(f, []byte("hello"))
	f.Add(bytes.Join([][]byte{tarOf(m.ID, "envelope.json", m.EnvelopeJSON), tarOf(m.ID, "message.eml", []byte("hello"))}, nil), true)
	f.Add(indexOf(`{"v":1,"records":[]}`), true)
	f.Fuzz(func(t *testing.T, data []byte, framed bool) {
		if framed {
			data = build(data)
		}
		type name struct {
			at   int64
			id   record.ID
			name string
		}
		seals := map[name]record.Digest{}
		lengths := map[name]int64{}
		_, err := Scan(bytes.NewReader(data), nil, func(r *Record) error {
			if it, err := r.Item(); err == nil && it.Body != nil && len(seals)%2 == 0 {
				if body, err := it.Body(); err == nil {
					io.CopyN(io.Discard, body, 10)
					body.Close()
				}
			}
			seal, err := r.Seal()
			n := name{r.Frame, r.ID, r.Name}
			if _, twice := seals[n]; !twice && err == nil && r.Length > 0 { // of two with one name in a frame the first is found
				seals[n], lengths[n] = seal, r.Length
			}
			return err
		})
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNoIdentity) {
			t.Fatal(err)
		}
		src := func(_ context.Context, off, n int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data[off : off+n])), nil
		}
		p, err := Open(t.Context(), src, int64(len(data)))
		if err != nil {
			if len(seals) > 0 {
				t.Fatal(err)
			}
			return
		}
		p.Read(t.Context(), Place{0, int64(len(data))}, record.ID{}, "")
		for n, want := range seals {
			r, err := p.Read(t.Context(), Place{n.at, lengths[n]}, n.id, n.name)
			if err != nil {
				t.Fatal(err)
			}
			if seal, err := r.Seal(); err != nil || seal != want {
				t.Fatalf("%s: seal %s, was %s: %v", n.id, seal, want, err)
			}
		}
	})
}
