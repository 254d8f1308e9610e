// Package document says what of a record can be searched: the fields of a Document, and the tokens of a text. It is what the index is
// fed with and what a query is evaluated against, so it has no I/O and no idea of either. ANALYSIS.md says how text becomes words.
package document

import (
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Document is the searchable side of one record. Of a journal report it is the message that the report encloses, but for Size and SHA256.
type Document struct {
	ID       record.ID
	Received time.Time // UTC
	Sent     time.Time // the Date header in UTC; zero where it can't be read
	Size     int64     // bytes of the message
	SHA256   record.Digest

	MessageID string // without angle brackets
	Report    bool   // of a journal report: there may be other records of the same message
	Subject   string // decoded
	Body      string // text of the body, HTML as text; nested messages and text outside of all parts included

	From, To, Cc, Bcc []Address // of the header
	Others            []Address // of Sender, Reply-To and the Resent- fields
	EnvFrom           []Address // none: the null sender, or unknown
	Rcpt              []Address
	Headers           []Header // the fields of the header but Subject and those that are Unsearched, each name once

	Attachments    []Attachment
	Protected      []string // how it is signed or encrypted: message.SMIMESigned …
	AttachmentText string   // of the attachments that are text, and what else was extracted

	NullSender  bool   // the SMTP envelope's sender is the null sender, <>
	Facts       []Fact // what envelope, supplements, header and attachments tell beside
	OutcomeOpen bool   // the record will have an outcome and has none yet

	// What may be missing. Each implies the one before it. A query that can't be answered for it is unknown, neither yes nor no.
	Partial       bool // some text or attachment: the message could not be read whole, or is encrypted
	HeaderPartial bool // some field of the header as well
	Bare          bool // everything but ID and Received: the record could not be read
}

// Address is one address. At least one of the two is not empty.
type Address struct {
	Name    string // display name, decoded, as it was written
	Address string // folded for comparison, by FoldAddress; without a domain where the header gave none
}

// Attachment is one attached file, nested ones included.
type Attachment struct {
	Name string // decoded; may be empty
	Type string // media type, lower case
	Size int64  // bytes after decoding
}
