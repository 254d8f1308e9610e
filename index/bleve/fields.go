package bleve

import (
	bleveindex "github.com/blevesearch/bleve_index_api"

	"github.com/holdfast-archive/holdfast/index/bleve/segment"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// fieldNo numbers the fields of a document.
type fieldNo int

const (
	fieldID   fieldNo = iota // the record id, 16 bytes; Bleve's own _id
	fieldHit                 // stored only: what a list of results shows
	fieldKeys                // what hits are sorted by, as doc values
	fieldExact
	fieldSubject
	fieldBody
	fieldAttachment // names
	fieldAttachmentText
	fieldFrom
	fieldTo
	fieldCc
	fieldBcc
	fieldOthers // addresses: Sender, Reply-To and the Resent- fields
	fieldEnvFrom
	fieldRcpt
	fieldHeader
	fieldCount
)

// fieldNames are the names on disk. Every document has every field, if empty: segments with the same fields merge by copying.
var fieldNames = [fieldCount]string{
	fieldID: "_id", fieldHit: "hit", fieldKeys: "keys", fieldExact: "exact",
	fieldSubject: "subject", fieldBody: "body", fieldAttachment: "attachment", fieldAttachmentText: "attachmenttext",
	fieldFrom: "from", fieldTo: "to", fieldCc: "cc", fieldBcc: "bcc", fieldOthers: "others", fieldEnvFrom: "envfrom", fieldRcpt: "rcpt",
	fieldHeader: "header",
}

// Kinds of term in fieldExact, the first byte of each.
const (
	exactMessageID = 'm' // the Message-ID
	exactSHA256    = 's' // 32 bytes
	exactAttached  = 'a' // no more than this byte: there is an attachment
	exactPartial   = 'p' // likewise: some text or attachment may be missing
	exactHeader    = 'h' // likewise: some field of the header may be missing
	exactBare      = 'b' // likewise: all but id and Received is missing
	exactSubject   = 'j' // likewise: some of the subject is missing, or of the whole header
	exactOpen      = 'w' // likewise: there will be an outcome, or all but id and Received is missing
)

// Kinds of term in address fields, the first byte of each.
const (
	addressWhole  = 'a' // local@domain
	addressDomain = 'd' // the domain, and each domain that it lies in
	addressName   = 'n' // what document.NameTokens gives
	addressNull   = 'z' // no more than this byte: the null sender
)

// options say what Bleve keeps of a field.
func (no fieldNo) options() bleveindex.FieldIndexingOptions {
	switch no {
	case fieldID:
		return bleveindex.IndexField | bleveindex.StoreField
	case fieldHit:
		return bleveindex.StoreField
	case fieldKeys:
		return bleveindex.IndexField | bleveindex.DocValues
	case fieldSubject, fieldBody, fieldAttachment, fieldAttachmentText, fieldHeader:
		return bleveindex.IndexField | bleveindex.IncludeTermVectors
	}
	return bleveindex.IndexField
}

// schema is what the segments of a shard have.
var schema = func() *segment.Schema {
	fields := make([]segment.Field, fieldCount)
	for i := range fields {
		fields[i] = segment.Field{Name: fieldNames[i], Options: fieldNo(i).options()}
	}
	return segment.NewSchema(document.MaxWords, fields...)
}()

// attachmentGap is the distance in positions between two names of attachments: no phrase and no proximity reaches from one to the next.
const attachmentGap = query.MaxNear

// emitter is a document as its segment takes it.
type emitter struct{ *document.Document }

// Emit implements segment.Source.
func (d emitter) Emit(to segment.Sink) {
	to.Term(int(fieldKeys), 0, encodeKeys(keysOf(d.Document)))
	cut := !emitText(to, fieldSubject, "", d.Subject)
	subjectCut := cut || d.HeaderPartial || d.Bare
	cut = subjectCut || d.Partial
	cut = !emitText(to, fieldBody, "", d.Body) || cut
	names := make([]string, len(d.Attachments))
	for i, a := range d.Attachments {
		names[i] = a.Name
	}
	cut = !emitText(to, fieldAttachment, "", names...) || cut
	cut = !emitText(to, fieldAttachmentText, "", d.AttachmentText) || cut
	emitAddresses(to, fieldFrom, d.From)
	emitAddresses(to, fieldTo, d.To)
	emitAddresses(to, fieldCc, d.Cc)
	emitAddresses(to, fieldBcc, d.Bcc)
	emitAddresses(to, fieldOthers, d.Others)
	emitAddresses(to, fieldEnvFrom, d.EnvFrom)
	if d.NullSender {
		to.Term(int(fieldEnvFrom), addressNull, "")
	}
	emitAddresses(to, fieldRcpt, d.Rcpt)
	for _, h := range d.Headers { // positions count in each name by itself
		cut = !emitText(to, fieldHeader, headerLead(h.Name), h.Values...) || cut
	}
	emitExact(to, d.Document, cut, subjectCut)
	to.Store(int(fieldHit), encodeHit(d.Document, cut))
}

func emitExact(to segment.Sink, d *document.Document, partial, subjectCut bool) {
	if d.MessageID != "" {
		to.Term(int(fieldExact), exactMessageID, d.MessageID)
	}
	if !d.SHA256.IsZero() {
		to.Term(int(fieldExact), exactSHA256, string(d.SHA256[:]))
	}
	if len(d.Attachments) > 0 {
		to.Term(int(fieldExact), exactAttached, "")
	}
	for _, mark := range [...]struct {
		kind byte
		set  bool
	}{{exactPartial, partial}, {exactSubject, subjectCut}, {exactHeader, d.HeaderPartial || d.Bare}, {exactBare, d.Bare}, {exactOpen, d.OutcomeOpen || d.Bare}} {
		if mark.set {
			to.Term(int(fieldExact), mark.kind, "")
		}
	}
	for _, fact := range d.Facts {
		if kind := factKinds[fact.Field]; kind != 0 {
			to.Term(int(fieldExact), kind, fact.Value)
		}
	}
}

// factKinds are the kinds of the terms in fieldExact that are facts.
var factKinds = map[document.FactField]byte{
	document.Client: 'C', document.TLS: 'T', document.Auth: 'U', document.Outcome: 'O', document.SPF: 'S', document.DKIM: 'K', document.DMARC: 'D',
	document.List: 'L', document.Importance: 'I', document.Thread: 'R', document.FileType: 'F', document.Direction: 'V',
}

func emitAddresses(to segment.Sink, no fieldNo, list []document.Address) {
	for _, a := range list {
		if a.Address != "" {
			to.Term(int(no), addressWhole, a.Address)
		}
		_, domain := document.Split(a.Address)
		for _, d := range document.Domains(domain) {
			to.Term(int(no), addressDomain, d)
		}
		for _, n := range document.NameTokens(a) {
			to.Term(int(no), addressName, n)
		}
	}
}

// headerLead is what the terms of a header's field begin with. No name has a colon.
func headerLead(name string) string { return name + ":" }

// emitText gives the tokens of one or more texts, as terms that begin with lead; false: some were left out, because there are more different
// ones than are kept.
func emitText(to segment.Sink, no fieldNo, lead string, texts ...string) (whole bool) {
	whole = true
	pos := 1
	for _, s := range texts {
		pos += attachmentGap + document.Each(s, func(t *document.Token) {
			at := pos + t.Position
			whole = to.Token(int(no), lead, t.Text, at) && whole
			if t.Marked {
				whole = to.Token(int(no), lead, document.Variant(t.Text, document.Exact(s[t.Start:t.End])), at) && whole
			}
		})
	}
	return whole
}
