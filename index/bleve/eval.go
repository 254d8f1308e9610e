package bleve

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	segment "github.com/blevesearch/scorch_segment_api/v2"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// evaluator finds the documents of one segment that match. Deleted ones are the caller's business.
//
// Of a document of which something is missing a query may be unknown (query.Verdict). There are two sets for it: those that surely match,
// and those that may; NOT turns one into the complement of the other.
type evaluator struct {
	ctx     context.Context
	seg     segment.Segment
	keys    func() ([]keys, error) // by document number
	sets    func(q query.Set) (*roaring.Bitmap, error)
	dicts   [fieldCount]segment.TermDictionary
	wide    *expansions
	gaps    map[byte]*roaring.Bitmap // by kind of term in fieldExact
	crowded *roaring.Bitmap          // documents with too many spans for a proximity that was asked

	expanded map[string][]string // what wildcards stand for, by field and canonical form
}

// eval gives the documents that surely match, or with maybe those that may, as far as they are in within; what it gives outside of that
// means nothing. within nil is all of them. The result is the caller's to change, within is not changed.
func (e *evaluator) eval(q query.Query, within *roaring.Bitmap, maybe bool) (*roaring.Bitmap, error) {
	if err := e.ctx.Err(); err != nil {
		return nil, err
	}
	switch q := q.(type) {
	case query.All:
		return e.all(), nil
	case query.And:
		return e.and(q, within, maybe)
	case query.Or:
		return e.or(len(q), func(i int) (*roaring.Bitmap, error) { return e.eval(q[i], within, maybe) })
	case query.Not:
		hits, err := e.eval(q.Query, within, !maybe)
		return e.complement(hits), err
	case query.Text:
		hits, err := e.text(q, within)
		return e.found(hits, err, textGap(q.Field), maybe)
	case query.Near:
		return e.near(q, within, maybe)
	case query.Address:
		hits, err := e.address(q)
		return e.found(hits, err, addressGap(q.Field), maybe)
	case query.Time:
		return e.time(q, within, maybe)
	case query.Size:
		hits, err := e.scan(within, func(k *keys) bool { return k.size >= q.Min && (q.Max < 0 || k.size <= q.Max) })
		return e.known(hits, err, maybe)
	case query.Attached:
		hits, err := e.term(fieldExact, string(exactAttached))
		if q.Has {
			return e.found(hits, err, exactPartial, maybe)
		}
		hits, err = e.found(hits, err, exactPartial, !maybe)
		return e.complement(hits), err
	case query.MessageID:
		hits, err := e.messageID(q)
		return e.found(hits, err, exactHeader, maybe)
	case query.Fact:
		hits, err := e.fact(q)
		return e.found(hits, err, factGap(q.Field), maybe)
	case query.ID:
		return e.term(fieldID, string(q.ID[:]))
	case query.SHA256:
		hits, err := e.term(fieldExact, string(exactSHA256)+string(q.Digest[:]))
		return e.known(hits, err, maybe)
	case query.Set:
		return e.sets(q)
	}
	return nil, fmt.Errorf("query of type %T: %w", q, errors.ErrUnsupported)
}

// decide gives the documents that match, and those of which it is unknown.
func (e *evaluator) decide(q query.Query) (hits, unknown *roaring.Bitmap, err error) {
	if hits, err = e.eval(q, nil, false); err != nil {
		return nil, nil, err
	}
	gap, err := e.gap(exactPartial) // whatever is missing of a message, these have it
	if err != nil {
		return nil, nil, err
	}
	unknown = gap.Clone()
	if asksOutcome(q) {
		open, err := e.gap(exactOpen)
		if err != nil {
			return nil, nil, err
		}
		unknown.Or(open)
	}
	if e.crowded != nil {
		unknown.Or(e.crowded)
	}
	if unknown.AndNot(hits); unknown.IsEmpty() {
		return hits, unknown, nil
	}
	maybe, err := e.eval(q, unknown.Clone(), true)
	if err != nil {
		return nil, nil, err
	}
	unknown.And(maybe)
	return hits, unknown, nil
}

func asksOutcome(q query.Query) (asks bool) {
	query.Walk(q, func(q query.Query) bool {
		f, ok := q.(query.Fact)
		asks = asks || ok && f.Field == document.Outcome
		return !asks
	})
	return asks
}

// textGap is the kind of term that documents have of which a text field may not be whole.
func textGap(f query.Field) byte {
	if f == query.Subject {
		return exactSubject
	}
	if _, ok := f.Header(); ok {
		return exactHeader
	}
	return exactPartial
}

func addressGap(f query.Field) byte {
	if f == query.EnvFrom || f == query.Rcpt {
		return exactBare
	}
	return exactHeader
}

func factGap(f document.FactField) byte {
	switch f {
	case document.FileType:
		return exactPartial
	case document.List, document.Importance, document.Thread, document.Direction:
		return exactHeader
	case document.Outcome:
		return exactOpen
	}
	return exactBare
}

func (e *evaluator) messageID(q query.MessageID) (*roaring.Bitmap, error) {
	term := string(exactMessageID) + q.Value
	if q.Prefix {
		return e.prefix(fieldExact, term, q.String())
	}
	return e.term(fieldExact, term)
}

// fact gives the documents with a fact in a range.
func (e *evaluator) fact(q query.Fact) (*roaring.Bitmap, error) {
	kind := factKinds[q.Field]
	low, high, ok := q.Bounds()
	if kind == 0 || !ok {
		return nil, fmt.Errorf("%s: %w", q, errors.ErrUnsupported)
	}
	hits := roaring.New()
	if q.Field == document.Thread {
		var err error
		if hits, err = e.term(fieldExact, string(exactMessageID)+q.Value); err != nil {
			return nil, err
		}
	}
	var list segment.PostingsList
	err := e.terms(fieldExact, []byte(string(kind)+low), []byte(string(kind)+high+"\x00"), nil, func(term string) (err error) {
		if list, err = e.postings(fieldExact, term, list); err != nil {
			return err
		}
		return addTo(hits, list)
	})
	return hits, err
}

// gap gives the documents that have a term which says that something is missing. It is not to be changed.
func (e *evaluator) gap(kind byte) (*roaring.Bitmap, error) {
	if g := e.gaps[kind]; g != nil {
		return g, nil
	}
	g, err := e.term(fieldExact, string(kind))
	if err != nil {
		return nil, err
	}
	if e.gaps == nil {
		e.gaps = map[byte]*roaring.Bitmap{}
	}
	e.gaps[kind] = g
	return g, nil
}

// found is of what was found, while it may also be in what is missing.
func (e *evaluator) found(hits *roaring.Bitmap, err error, kind byte, maybe bool) (*roaring.Bitmap, error) {
	if err != nil || !maybe {
		return hits, err
	}
	gap, err := e.gap(kind)
	if err == nil {
		hits.Or(gap)
	}
	return hits, err
}

// known is of what is there whole, or not at all.
func (e *evaluator) known(hits *roaring.Bitmap, err error, maybe bool) (*roaring.Bitmap, error) {
	if err != nil {
		return hits, err
	}
	gap, err := e.gap(exactBare)
	switch {
	case err != nil:
	case maybe:
		hits.Or(gap)
	default:
		hits.AndNot(gap)
	}
	return hits, err
}

func (e *evaluator) complement(hits *roaring.Bitmap) *roaring.Bitmap {
	if hits == nil {
		return nil
	}
	all := e.all()
	all.AndNot(hits)
	return all
}

func (e *evaluator) time(q query.Time, within *roaring.Bitmap, maybe bool) (*roaring.Bitmap, error) {
	if q.Field == query.Received {
		from, before := receivedBounds(q)
		return e.scan(within, func(k *keys) bool { return k.received >= from && k.received < before })
	}
	from, before := sentBounds(q)
	hits, err := e.scan(within, func(k *keys) bool { return k.sent >= from && k.sent < before })
	if err != nil || !maybe {
		return hits, err
	}
	gap, err := e.gap(exactHeader)
	if err != nil {
		return nil, err
	}
	undated, err := e.scan(gap, func(k *keys) bool { return k.sent == noTime })
	if err == nil {
		hits.Or(undated)
	}
	return hits, err
}

func (e *evaluator) all() *roaring.Bitmap {
	all := roaring.New()
	all.AddRange(0, e.seg.Count())
	return all
}

// and narrows down from operand to operand, the costly ones last.
func (e *evaluator) and(q query.And, within *roaring.Bitmap, maybe bool) (*roaring.Bitmap, error) {
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
			more, err := e.eval(operand, limit, maybe)
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
		return len(q.Tokens) > 1 || q.Form == query.Exact
	case query.Near, query.Time, query.Size:
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

// source is where the words of a text stand: a field on disk, and what its terms begin with.
type source struct {
	no   fieldNo
	lead string
}

// String names it in errors and as a key.
func (s source) String() string { return fieldNames[s.no] + " " + s.lead }

var textSources = map[query.Field][]source{
	query.Anywhere:       {{no: fieldSubject}, {no: fieldBody}, {no: fieldAttachment}, {no: fieldAttachmentText}},
	query.Subject:        {{no: fieldSubject}},
	query.Body:           {{no: fieldBody}},
	query.Attachment:     {{no: fieldAttachment}},
	query.AttachmentText: {{no: fieldAttachmentText}},
}

// sourcesOf gives the sources of a text field; none for what is no such field.
func sourcesOf(f query.Field) []source {
	if name, ok := f.Header(); ok {
		return []source{{fieldHeader, headerLead(name)}}
	}
	return textSources[f]
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
			return e.prefix(fields[i], term, q.String())
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
	query.Participants: {fieldFrom, fieldTo, fieldCc, fieldBcc, fieldOthers, fieldEnvFrom, fieldRcpt},
}

var addressKinds = map[query.AddressPart]string{
	query.Whole: string(addressWhole), query.Domain: string(addressDomain), query.Name: string(addressName),
	query.Null: string(addressNull),
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
