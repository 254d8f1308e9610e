// Package document says what of a record can be searched: the fields of a Document, and the tokens of a text. It is what the index is
// fed with and what a query is evaluated against, so it has no I/O and no idea of either.
package document

import (
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Document is the searchable side of one record.
type Document struct {
	ID       record.ID
	Received time.Time // UTC
	Sent     time.Time // the Date header in UTC; zero where it can't be read
	Size     int64     // bytes of the message
	SHA256   record.Digest

	MessageID string // without angle brackets
	Subject   string // decoded
	Body      string // text of the body, HTML as text

	From, To, Cc, Bcc []Address // of the header
	EnvFrom           []Address // none: the null sender, or unknown
	Rcpt              []Address

	Attachments []Attachment
	Partial     bool // the message could not be parsed whole: some text may be missing
}

// Address is one address, folded for comparison; Name is its display name, decoded.
type Address struct {
	Name    string
	Address string // local@domain, lower case
}

// Attachment is one attached file, nested ones included.
type Attachment struct {
	Name string // decoded
	Type string // media type, lower case
	Size int64  // bytes after decoding
}
