package bleve

import (
	bleveindex "github.com/blevesearch/bleve_index_api"

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

// field is one field of one document, analysed.
type field struct {
	no    fieldNo
	value []byte // stored
	terms bleveindex.TokenFrequencies
}

func (f *field) Name() string                                          { return fieldNames[f.no] }
func (f *field) Value() []byte                                         { return f.value }
func (f *field) ArrayPositions() []uint64                              { return nil }
func (f *field) EncodedFieldType() byte                                { return 't' }
func (f *field) Analyze()                                              {}
func (f *field) Options() bleveindex.FieldIndexingOptions              { return f.no.options() }
func (f *field) AnalyzedTokenFrequencies() bleveindex.TokenFrequencies { return f.terms }
func (f *field) NumPlainTextBytes() uint64                             { return uint64(len(f.value)) }

// AnalyzedLength is for scores, which nobody asks for. But it takes a byte, and 0 would make a term of one document unreadable in a merged
// segment, where it is written in a short form.
func (f *field) AnalyzedLength() int { return 1 }

// doc is a document as Bleve takes it, without a mapping to walk.
type doc struct {
	id     string
	fields [fieldCount]field
}

func (d *doc) ID() string { return d.id }
func (d *doc) Size() int  { return 1024 } // for statistics
func (d *doc) VisitFields(visit bleveindex.FieldVisitor) {
	for i := range d.fields {
		visit(&d.fields[i])
	}
}
func (d *doc) VisitComposite(bleveindex.CompositeFieldVisitor) {}
func (d *doc) HasComposite() bool                              { return false }
func (d *doc) NumPlainTextBytes() uint64                       { return 0 }
func (d *doc) AddIDField()                                     {} // it has one
func (d *doc) StoredFieldsBytes() uint64                       { return uint64(len(d.id) + len(d.fields[fieldHit].value)) }
func (d *doc) Indexed() bool                                   { return true }

// builder makes documents for one batch. What it makes is valid until reset.
type builder struct {
	tokens []document.Token
	texts  []string // the values of one text field

	seen  map[string]int32 // by text, the place in words
	words []word           // the different words of one field
	order []occurrence     // all of its words, as they stand
	key   []byte           // of a word behind a lead
	cut   bool             // some text of the document is missing, or was left out

	freqs  slab[bleveindex.TokenFreq]
	locs   slab[bleveindex.TokenLocation]
	refs   slab[*bleveindex.TokenLocation]
	deltas slab[uint64]
	docs   slab[doc]
}

type word struct {
	text  string
	first int // position
	last  int
	more  int // occurrences after the first
	loc   *bleveindex.TokenLocation
}

type occurrence struct {
	word int32
	pos  int
}

// attachmentGap is the distance in positions between two names of attachments: no phrase and no proximity reaches from one to the next.
const attachmentGap = query.MaxNear

// scratchKept bounds the tokens of one text for which scratch space is kept.
const scratchKept = 1 << 17

// maxSeen bounds the words that a map is kept for: clearing one costs what its largest document did.
const maxSeen = 1 << 14

func newBuilder() *builder { return &builder{seen: map[string]int32{}} }

// reset takes back all memory that was given out.
func (b *builder) reset() {
	b.freqs.reset()
	b.locs.reset()
	b.refs.reset()
	b.deltas.reset()
	b.docs.reset()
	if cap(b.tokens) > scratchKept {
		b.tokens, b.words, b.order = nil, nil, nil
	}
}

// document turns d into what Bleve indexes.
func (b *builder) document(d *document.Document) *doc {
	out := &b.docs.take(1)[0]
	out.id = string(d.ID[:])
	for i := range out.fields {
		out.fields[i].no = fieldNo(i)
	}
	f := &out.fields
	f[fieldID].value = []byte(out.id)
	f[fieldID].terms = b.terms(out.id)
	f[fieldKeys].terms = b.terms(encodeKeys(keysOf(d)))
	b.cut = false
	f[fieldSubject].terms = b.text(d.Subject)
	subjectCut := b.cut || d.HeaderPartial || d.Bare
	b.cut = subjectCut || d.Partial
	f[fieldBody].terms = b.text(d.Body)
	b.texts = b.texts[:0]
	for _, a := range d.Attachments {
		b.texts = append(b.texts, a.Name)
	}
	f[fieldAttachment].terms = b.text(b.texts...)
	f[fieldAttachmentText].terms = b.text(d.AttachmentText)
	f[fieldFrom].terms = b.addresses(d.From)
	f[fieldTo].terms = b.addresses(d.To)
	f[fieldCc].terms = b.addresses(d.Cc)
	f[fieldBcc].terms = b.addresses(d.Bcc)
	f[fieldOthers].terms = b.addresses(d.Others)
	f[fieldEnvFrom].terms = b.addresses(d.EnvFrom)
	if d.NullSender {
		f[fieldEnvFrom].terms = b.terms(string(addressNull))
	}
	f[fieldRcpt].terms = b.addresses(d.Rcpt)
	f[fieldHeader].terms = b.headers(d.Headers)
	f[fieldExact].terms = b.exact(d, b.cut, subjectCut)
	f[fieldHit].value = encodeHit(d, b.cut)
	return out
}

// terms gives terms without positions.
func (b *builder) terms(list ...string) bleveindex.TokenFrequencies {
	if len(list) == 0 {
		return nil
	}
	m := make(bleveindex.TokenFrequencies, len(list))
	for _, s := range list {
		m[s] = &once
	}
	return m
}

// once is the frequency of every term without positions. Nothing writes to it.
var once = func() (tf bleveindex.TokenFreq) {
	tf.SetFrequency(1)
	return tf
}()

func (b *builder) exact(d *document.Document, partial, subjectCut bool) bleveindex.TokenFrequencies {
	var list []string
	if d.MessageID != "" {
		list = append(list, string(exactMessageID)+d.MessageID)
	}
	if !d.SHA256.IsZero() {
		list = append(list, string(exactSHA256)+string(d.SHA256[:]))
	}
	if len(d.Attachments) > 0 {
		list = append(list, string(exactAttached))
	}
	for _, mark := range [...]struct {
		kind byte
		set  bool
	}{{exactPartial, partial}, {exactSubject, subjectCut}, {exactHeader, d.HeaderPartial || d.Bare}, {exactBare, d.Bare}, {exactOpen, d.OutcomeOpen || d.Bare}} {
		if mark.set {
			list = append(list, string(mark.kind))
		}
	}
	for _, fact := range d.Facts {
		if kind := factKinds[fact.Field]; kind != 0 {
			list = append(list, string(kind)+fact.Value)
		}
	}
	return b.terms(list...)
}

// factKinds are the kinds of the terms in fieldExact that are facts.
var factKinds = map[document.FactField]byte{
	document.Client: 'C', document.TLS: 'T', document.Auth: 'U', document.Outcome: 'O', document.SPF: 'S', document.DKIM: 'K', document.DMARC: 'D',
	document.List: 'L', document.Importance: 'I', document.Thread: 'R', document.FileType: 'F', document.Direction: 'V',
}

func (b *builder) addresses(list []document.Address) bleveindex.TokenFrequencies {
	if len(list) == 0 {
		return nil
	}
	m := make(bleveindex.TokenFrequencies, 6*len(list))
	for _, a := range list {
		if a.Address != "" {
			m[string(addressWhole)+a.Address] = &once
		}
		_, domain := document.Split(a.Address)
		for _, d := range document.Domains(domain) {
			m[string(addressDomain)+d] = &once
		}
		for _, n := range document.NameTokens(a) {
			m[string(addressName)+n] = &once
		}
	}
	return m
}

// text gives the tokens of one or more texts with their positions. All positions of a term in a document stand in one location: the first
// as its position, the distance to each after it as an array position. That takes a fifth of the room of a location each.
func (b *builder) text(texts ...string) bleveindex.TokenFrequencies {
	b.words, b.order = b.words[:0], b.order[:0]
	b.read("", texts)
	return b.frequencies()
}

// headers gives the tokens of all fields of a header, each behind the name of its field. Positions count in each name by itself.
func (b *builder) headers(list []document.Header) bleveindex.TokenFrequencies {
	b.words, b.order = b.words[:0], b.order[:0]
	for _, h := range list {
		b.read(headerLead(h.Name), h.Values)
	}
	return b.frequencies()
}

// headerLead is what the terms of a header's field begin with. No name has a colon.
func headerLead(name string) string { return name + ":" }

// read adds the tokens of texts, as terms that begin with lead.
func (b *builder) read(lead string, texts []string) {
	pos := 1
	for _, s := range texts {
		b.tokens = document.Tokens(b.tokens[:0], s)
		for i := range b.tokens {
			t := &b.tokens[i]
			b.add(lead, t.Text, pos+t.Position)
			if t.Marked {
				b.add(lead, document.Variant(t.Text, document.Exact(s[t.Start:t.End])), pos+t.Position)
			}
		}
		pos += len(b.tokens) + attachmentGap
	}
}

// frequencies gives what was read.
func (b *builder) frequencies() bleveindex.TokenFrequencies {
	if len(b.words) == 0 {
		return nil
	}
	m := make(bleveindex.TokenFrequencies, len(b.words))
	freqs, locs, refs := b.freqs.take(len(b.words)), b.locs.take(len(b.words)), b.refs.take(len(b.words))
	for i := range b.words {
		w := &b.words[i]
		w.loc = &locs[i]
		w.loc.Position = w.first
		w.last = w.first
		if w.more > 0 {
			w.loc.ArrayPositions = b.deltas.take(w.more)[:0]
		}
		freqs[i].SetFrequency(1) // one location
		refs[i] = w.loc
		freqs[i].Locations = refs[i : i+1 : i+1]
		m[w.text] = &freqs[i]
	}
	for _, o := range b.order {
		if w := &b.words[o.word]; o.pos != w.first {
			w.loc.ArrayPositions = append(w.loc.ArrayPositions, uint64(o.pos-w.last))
			w.last = o.pos
		}
	}
	if len(b.words) > maxSeen {
		b.seen = map[string]int32{}
	} else {
		clear(b.seen)
	}
	return m
}

func (b *builder) add(lead, text string, pos int) {
	if lead != "" {
		b.key = append(append(b.key[:0], lead...), text...)
		if i, ok := b.seen[string(b.key)]; ok {
			text = b.words[i].text
		} else {
			text = string(b.key)
		}
	}
	i, ok := b.seen[text]
	if !ok && len(b.words) == document.MaxWords {
		b.cut = true
		return
	}
	if !ok {
		i = int32(len(b.words))
		b.words = append(b.words, word{text: text, first: pos})
		b.seen[text] = i
	} else {
		b.words[i].more++
	}
	b.order = append(b.order, occurrence{i, pos})
}

// slab gives out zeroed slices of T from large pieces, so that a batch costs few allocations, and takes them all back at once.
type slab[T any] struct {
	pieces [][]T
	piece  int // the one in use
	used   int // of it
}

const slabPiece = 4096

func (s *slab[T]) take(n int) []T {
	if n > slabPiece/4 {
		return make([]T, n)
	}
	for {
		if s.piece == len(s.pieces) {
			s.pieces = append(s.pieces, make([]T, slabPiece))
		}
		if p := s.pieces[s.piece]; len(p)-s.used >= n {
			s.used += n
			return p[s.used-n : s.used : s.used]
		}
		s.piece++
		s.used = 0
	}
}

// slabKept bounds the pieces that are kept for the next batch.
const slabKept = 16

func (s *slab[T]) reset() {
	for _, p := range s.pieces[:min(s.piece+1, len(s.pieces))] {
		clear(p)
	}
	if len(s.pieces) > slabKept {
		s.pieces = s.pieces[:slabKept:slabKept]
	}
	s.piece, s.used = 0, 0
}
