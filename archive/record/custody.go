package record

import "io"

// Item is one record on its way through the house: out of the spool, or read again from a pack. Exactly one of Envelope, Supplement, Act
// and Drop is set. The JSON beside each is the very text that stands in the spool and in the pack: digests are over these bytes, so
// nothing between the two encodes them again.
type Item struct {
	Kind Kind   // KindMessage, KindRefused, KindSupplement, KindAct, KindDropped
	ID   ID     // zero for KindDropped, but for a refused message that is not kept
	Seq  uint64 // spool sequence of its node, from 1; 0 for a supplement
	Ref  uint64 // the spool's own handle, for Release; 0 when read from a pack

	Envelope     *Envelope
	EnvelopeJSON []byte
	// Body opens message.eml from its start, Envelope.Size bytes. nil where there is none (KindRefused, and all but messages). The caller
	// closes what it opened.
	Body        func() (io.ReadCloser, error)
	Supplements []SupplementDoc // of this message, known by now, in order of arrival

	Supplement *SupplementDoc // KindSupplement: one that came after its record was on its way
	Act        *Act
	ActJSON    []byte
	Drop       *Drop
}

// SupplementDoc is a supplement and its text.
type SupplementDoc struct {
	Supplement
	JSON []byte
}

// Delivery is the last word on how the message was delivered, or nil.
func (it *Item) Delivery() *Delivery {
	for i := len(it.Supplements) - 1; i >= 0; i-- {
		if d := it.Supplements[i].Delivery; d != nil {
			return d
		}
	}
	return nil
}
