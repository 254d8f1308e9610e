package bleve

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	segment "github.com/blevesearch/scorch_segment_api/v2"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
)

// evaluator finds the documents of one segment that match. Deleted ones are the caller's business.
type evaluator struct {
	ctx   context.Context
	seg   segment.Segment
	keys  func() ([]keys, error) // by document number
	dicts [fieldCount]segment.TermDictionary
	wide  wildcards
}

// eval gives the documents that match, as far as they are in within; what it gives outside of that means nothing. within nil is all of
// them. The result is the caller's to change, within is not changed.
func (e *evaluator) eval(q query.Query, within *roaring.Bitmap) (*roaring.Bitmap, error) {
	if err := e.ctx.Err(); err != nil {
		return nil, err
	}
	switch q := q.(type) {
	case query.All:
		return e.all(), nil
	case query.And:
		return e.and(q, within)
	case query.Or:
		return e.or(len(q), func(i int) (*roaring.Bitmap, error) { return e.eval(q[i], within) })
	case query.Not:
		hits, err := e.eval(q.Query, within)
		if err != nil {
			return nil, err
		}
		all := e.all()
		all.AndNot(hits)
		return all, nil
	case query.Text:
		return e.text(q, within)
	case query.Address:
		return e.address(q)
	case query.Time:
		if q.Field == query.Received {
			from, before := receivedBounds(q)
			return e.scan(within, func(k *keys) bool { return k.received >= from && k.received < before })
		}
		from, before := sentBounds(q)
		return e.scan(within, func(k *keys) bool { return k.sent >= from && k.sent < before })
	case query.Size:
		return e.scan(within, func(k *keys) bool { return k.size >= q.Min && (q.Max < 0 || k.size <= q.Max) })
	case query.Attached:
		hits, err := e.term(fieldExact, string(exactAttached))
		if err != nil || q.Has {
			return hits, err
		}
		all := e.all()
		all.AndNot(hits)
		return all, nil
	case query.MessageID:
		return e.term(fieldExact, string(exactMessageID)+q.Value)
	case query.ID:
		return e.term(fieldID, string(q.ID[:]))
	case query.SHA256:
		return e.term(fieldExact, string(exactSHA256)+string(q.Digest[:]))
	}
	return nil, fmt.Errorf("query of type %T: %w", q, errors.ErrUnsupported)
}

func (e *evaluator) all() *roaring.Bitmap {
	all := roaring.New()
	all.AddRange(0, e.seg.Count())
	return all
}

// and narrows down from operand to operand, the costly ones last.
func (e *evaluator) and(q query.And, within *roaring.Bitmap) (*roaring.Bitmap, error) {
	var hits *roaring.Bitmap
	for _, dear := range []bool{false, true} {
		for _, operand := range q {
			if costly(operand) != dear {
				continue
			}
			limit := hits
			if limit == nil {
				limit = within
			}
			more, err := e.eval(operand, limit)
			if err != nil {
				return nil, err
			}
			if hits == nil {
				hits = more
				if within != nil {
					hits.And(within)
				}
			} else {
				hits.And(more)
			}
			if hits.IsEmpty() {
				return hits, nil
			}
		}
	}
	return hits, nil
}

// costly says that a query looks into each document of within.
func costly(q query.Query) bool {
	switch q := q.(type) {
	case query.And:
		return anyCostly(q)
	case query.Or:
		return anyCostly(q)
	case query.Not:
		return costly(q.Query)
	case query.Text:
		return len(q.Tokens) > 1
	case query.Time, query.Size:
		return true
	}
	return false
}

func anyCostly(list []query.Query) bool {
	for _, q := range list {
		if costly(q) {
			return true
		}
	}
	return false
}

// or joins n results.
func (e *evaluator) or(n int, eval func(i int) (*roaring.Bitmap, error)) (*roaring.Bitmap, error) {
	hits := roaring.New()
	for i := range n {
		more, err := eval(i)
		if err != nil {
			return nil, err
		}
		hits.Or(more)
	}
	return hits, nil
}

func (e *evaluator) text(q query.Text, within *roaring.Bitmap) (*roaring.Bitmap, error) {
	fields, ok := textFields[q.Field]
	if !ok || len(q.Tokens) == 0 || q.Prefix && len(q.Tokens) != 1 {
		return nil, fmt.Errorf("text %q in %q: %w", q.Tokens, q.Field, errors.ErrUnsupported)
	}
	return e.or(len(fields), func(i int) (*roaring.Bitmap, error) {
		switch {
		case q.Prefix:
			return e.prefix(fields[i], q.Tokens[0], wildcard{q.Field, q.Tokens[0]})
		case len(q.Tokens) == 1:
			return e.term(fields[i], q.Tokens[0])
		}
		return e.phrase(fields[i], q.Tokens, within)
	})
}

var textFields = map[query.Field][]fieldNo{
	query.Anywhere:   {fieldSubject, fieldBody, fieldAttachment, fieldAttachmentText},
	query.Subject:    {fieldSubject},
	query.Body:       {fieldBody},
	query.Attachment: {fieldAttachment},
}

func (e *evaluator) address(q query.Address) (*roaring.Bitmap, error) {
	fields, ok := addressFields[q.Field]
	kind, known := addressKinds[q.Part]
	if !ok || !known {
		return nil, fmt.Errorf("address %q in %q: %w", q.Value, q.Field, errors.ErrUnsupported)
	}
	term := kind + q.Value
	return e.or(len(fields), func(i int) (*roaring.Bitmap, error) {
		if q.Prefix {
			return e.prefix(fields[i], term, wildcard{q.Field, term})
		}
		return e.term(fields[i], term)
	})
}

var addressFields = map[query.Field][]fieldNo{
	query.From:         {fieldFrom},
	query.To:           {fieldTo},
	query.Cc:           {fieldCc},
	query.Bcc:          {fieldBcc},
	query.EnvFrom:      {fieldEnvFrom},
	query.Rcpt:         {fieldRcpt},
	query.Recipients:   {fieldTo, fieldCc, fieldBcc, fieldRcpt},
	query.Participants: {fieldFrom, fieldTo, fieldCc, fieldBcc, fieldEnvFrom, fieldRcpt},
}

var addressKinds = map[query.AddressPart]string{
	query.Whole: string(addressWhole), query.Domain: string(addressDomain), query.Name: string(addressName),
}

// scan takes those whose keys are right.
func (e *evaluator) scan(within *roaring.Bitmap, match func(*keys) bool) (*roaring.Bitmap, error) {
	list, err := e.keys()
	if err != nil {
		return nil, err
	}
	hits := roaring.New()
	if within == nil {
		for i := range list {
			if match(&list[i]) {
				hits.Add(uint32(i))
			}
		}
		return hits, nil
	}
	for it := within.Iterator(); it.HasNext(); {
		if i := it.Next(); match(&list[i]) {
			hits.Add(i)
		}
	}
	return hits, nil
}

func (e *evaluator) dict(no fieldNo) (segment.TermDictionary, error) {
	if e.dicts[no] == nil {
		d, err := e.seg.Dictionary(fieldNames[no])
		if err != nil {
			return nil, fmt.Errorf("field %s: %w: %w", fieldNames[no], err, index.ErrCorrupt)
		}
		e.dicts[no] = d
	}
	return e.dicts[no], nil
}

// term gives the documents that have a term.
func (e *evaluator) term(no fieldNo, term string) (*roaring.Bitmap, error) {
	hits := roaring.New()
	list, err := e.postings(no, term, nil)
	if err == nil {
		err = addTo(hits, list)
	}
	return hits, err
}

func (e *evaluator) postings(no fieldNo, term string, reuse segment.PostingsList) (segment.PostingsList, error) {
	d, err := e.dict(no)
	if err != nil {
		return nil, err
	}
	list, err := d.PostingsList([]byte(term), nil, reuse)
	if err != nil {
		return nil, fmt.Errorf("field %s: %w: %w", fieldNames[no], err, index.ErrCorrupt)
	}
	return list, nil
}

// addTo adds the documents of a postings list.
func addTo(hits *roaring.Bitmap, list segment.PostingsList) error {
	if l, ok := list.(interface{ OrInto(*roaring.Bitmap) }); ok {
		l.OrInto(hits)
		return nil
	}
	it := list.Iterator(false, false, false, nil)
	for {
		p, err := it.Next()
		if err != nil || p == nil {
			return err
		}
		hits.Add(uint32(p.Number()))
	}
}
