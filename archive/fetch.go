package archive

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Stored is one record as it was found: in the archive, or (Entry nil) still in local custody.
type Stored struct {
	Item   *record.Item // supplements that came later included; Item.Body checks the bytes against the envelope while they are read
	Log    string
	Number uint64 // of the entry in its log
	Entry  *record.Entry
}

// Pending says that the record is in local custody and not yet committed to the archive.
func (s *Stored) Pending() bool { return s.Entry == nil }

// Fetch finds a record and checks it against its entry in the ledger. Errors: ErrNotFound, ErrAltered, and those of packs: without an
// identity an encrypted pack can't be read.
func (a *Archive) Fetch(ctx context.Context, id record.ID) (*Stored, error) {
	p, ok, err := a.catalog.find(id, "")
	if err != nil {
		return nil, err
	}
	if !ok {
		return a.fetchPending(ctx, id)
	}
	s, err := a.fetchPlace(ctx, p, id)
	if err != nil {
		return nil, err
	}
	late, err := a.catalog.supplements(id)
	if err != nil {
		return nil, err
	}
	for _, p := range late {
		if p.Gone {
			continue
		}
		l, err := a.fetchPlace(ctx, p, id)
		if err != nil {
			return nil, err
		}
		s.Item.Supplements = append(s.Item.Supplements, *l.Item.Supplement)
	}
	return s, nil
}

// Packs gives the keys of the packs that a record is in, with its late supplements; none where this node's log has no such record,
// or it was destroyed.
func (a *Archive) Packs(id record.ID) ([]string, error) {
	p, ok, err := a.catalog.find(id, "")
	if err != nil || !ok || p.Gone {
		return nil, err
	}
	late, err := a.catalog.supplements(id)
	keys := []string{p.Pack}
	for _, l := range late {
		if !l.Gone {
			keys = append(keys, l.Pack)
		}
	}
	return keys, err
}

// fetchPending looks into local custody. What is committed while we look is in the catalog afterwards.
func (a *Archive) fetchPending(ctx context.Context, id record.ID) (*Stored, error) {
	a.mu.Lock()
	custody := a.custody
	a.mu.Unlock()
	if custody != nil {
		it, err := custody.Find(ctx, id)
		if err != nil {
			return nil, err
		}
		if it != nil {
			return &Stored{Item: checked(it)}, nil
		}
	}
	if p, ok, err := a.catalog.find(id, ""); err != nil {
		return nil, err
	} else if ok {
		return a.fetchPlace(ctx, p, id)
	}
	return nil, fmt.Errorf("%s: %w", id, ErrNotFound)
}

func (a *Archive) fetchPlace(ctx context.Context, p place, id record.ID) (*Stored, error) {
	if p.Gone {
		return nil, fmt.Errorf("%s: %w", id, ErrDestroyed)
	}
	e, err := a.entry(ctx, p)
	if err != nil {
		return nil, err
	}
	if e.ID != id || e.Holds() != p.Kind || e.Pack != p.Pack {
		return nil, fmt.Errorf("%s: entry %d of %s speaks of %s %s: %w", id, p.Number, p.Log, e.Kind, e.ID, ErrAltered)
	}
	it, err := a.readers.record(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", id, p.Pack, err)
	}
	s := &Stored{Item: checked(it), Log: p.Log, Number: p.Number, Entry: e}
	return s, a.original(ctx, s)
}

// original gives what was moved the entry by which it came into the archive, with the place where it is now.
func (a *Archive) original(ctx context.Context, s *Stored) error {
	for s.Entry.Moved != nil {
		first, err := a.entry(ctx, place{Log: s.Log, Number: s.Entry.Moved.Entry})
		if err != nil {
			return err
		}
		now := *first
		now.Pack, now.PackSHA256, now.Frame, now.Length = s.Entry.Pack, s.Entry.PackSHA256, s.Entry.Frame, s.Entry.Length
		s.Number, s.Entry = s.Entry.Moved.Entry, &now
		s.Item.Seq = now.Seq
	}
	return nil
}

// matches checks all of a record but the message's bytes, which its envelope vouches for, against the entry.
func matches(e *record.Entry, it *record.Item) error {
	if seal := sealOf(it); seal != e.Seal || it.ID != e.ID || it.Kind != e.Holds() {
		return fmt.Errorf("%s %s: seal %s, the ledger has %s: %w", it.Kind, it.ID, seal, e.Seal, ErrAltered)
	}
	return nil
}

// sealOf computes the seal of a record from its documents, trusting the envelope for the digest of the message.
func sealOf(it *record.Item) record.Digest {
	switch {
	case it.Kind == record.KindRefused:
		return record.SealOf(record.Sum(it.EnvelopeJSON))
	case it.Envelope != nil:
		return record.SealOf(it.Envelope.SHA256, record.Sum(it.EnvelopeJSON))
	case it.Supplement != nil:
		return record.SealOf(record.Sum(it.Supplement.JSON))
	default:
		return record.SealOf(record.Sum(it.ActJSON))
	}
}

// checked gives the item with a Body whose last Read is ErrAltered instead of io.EOF where the bytes are not those of the envelope.
func checked(it *record.Item) *record.Item {
	if it.Body == nil {
		return it
	}
	c := *it
	c.Body = func() (io.ReadCloser, error) {
		r, err := it.Body()
		if err != nil {
			return nil, err
		}
		return &checkedBody{ReadCloser: r, id: it.ID, want: it.Envelope.SHA256, size: it.Envelope.Size, sum: sha256.New()}, nil
	}
	return &c
}

type checkedBody struct {
	io.ReadCloser
	id   record.ID
	want record.Digest
	size int64
	sum  hash.Hash
	n    int64
}

func (b *checkedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.sum.Write(p[:n])
	b.n += int64(n)
	if err == io.EOF {
		if got := record.Digest(b.sum.Sum(nil)); got != b.want || b.n != b.size {
			return n, fmt.Errorf("message of %s: %d bytes, SHA-256 %s; the envelope has %d, %s: %w", b.id, b.n, got, b.size, b.want, ErrAltered)
		}
	}
	return n, err
}
