// Package message reads mail (RFC 5322, MIME) as an archive must: whatever its shape, it can be found. It does no I/O but to read what it
// is given.
//
// What it promises: a message of any bytes is read in one pass, in linear time, with memory bounded by Limits and not by the size of the
// message. Nothing is refused: there is no error but the reader's own. What can't be read as MIME says is read as mail programs show it,
// and at worst as raw text; then the message is marked Partial, and Problems says why.
//
// The walk over the parts is this package's own (walk.go). It looks for all open boundaries at once, so that an unclosed part costs
// nothing, and nesting is no recursion: libraries that read each level through the level above it take seconds on a small hostile message,
// and refuse one real message in a hundred. Character sets are those of go-message/charset.
//
// TNEF (winmail.dat) is read as if it were a multipart: its bodies, then its attachments, are parts of the message, numbered below the part
// that holds it.
package message

import "io"

// Limits bound what one message may cost. A zero field is its default. What lies past a limit is read all the same, to the end, but not
// kept, and the message is marked Partial.
type Limits struct {
	Depth       int // multiparts and nested messages open at a time, one inside the other; 32
	Parts       int // parts of all kinds; 1,000
	HeaderBytes int // kept of one header; 256 KiB, and for the fields that tell who, what and when as much again
	TextBytes   int // decoded bytes of text kept of the whole message, before HTML is turned into text; 16 MiB
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.Depth, 32)
	set(&l.Parts, 1000)
	set(&l.HeaderBytes, 256<<10)
	set(&l.TextBytes, 16<<20)
	return l
}

// Message is what was read of one message.
type Message struct {
	Header Header
	// Parts are the leaves of the message and of the messages nested in it, and these nested messages themselves, each before its parts.
	Parts []Part
	// Text is the text that a reader may see, in UTF-8 without NULs, lines ending in \n: of every part that is not an attachment, nested
	// messages included, with their subject and addresses. HTML is turned into text, and what it hides is part of it. Of alternatives it
	// has the plain text, and those lines of the others that say something which the plain text does not.
	Text string
	// AttachedText is the text of the attachments that are text themselves (text/plain, text/html, text/csv and the like), as Text is. No
	// other kind of file is looked into.
	AttachedText string
	// Outside is text that mail programs don't show: around the parts of a multipart, after the end of base64, and lines of a header that
	// are no fields.
	Outside string

	Signed    bool // some part is signed, by OpenPGP or S/MIME; nothing was verified
	Encrypted bool // some part is encrypted: its text is not in Text
	// Protected says how: SMIMESigned, SMIMEEncrypted, PGPSigned, PGPEncrypted, RightsManaged; each once. The parts stay as they are.
	Protected []string

	Partial       bool     // some text may be missing
	HeaderPartial bool     // some field of the message's own header is missing
	Problems      []string // what was wrong, for people; each once

	html     string // of HTMLBody
	htmlPart int    // which of Parts, from 1; 0: there is none
}

// Part is one part of a message, or of TNEF in it.
type Part struct {
	Path        string // as IMAP numbers parts (RFC 3501, section 6.4.5): 1, 2.1
	Type        string // media type, lower case: text/plain
	Charset     string // as declared, lower case; empty: none declared
	Disposition string // lower case: inline, attachment, or empty
	Name        string // file name, decoded; empty: none
	ContentID   string // without angle brackets
	Encoding    string // transfer encoding, lower case; empty: none declared
	Size        int64  // bytes after transfer decoding; -1 from OpenPart
	Attachment  bool   // something other than the text and the pictures of the message itself
}

// Attachments gives the parts that are attachments, nested ones and nested messages included.
func (m *Message) Attachments() []Part {
	var list []Part
	for _, p := range m.Parts {
		if p.Attachment {
			list = append(list, p)
		}
	}
	return list
}

// Parse reads a message to its end. An error is r's own; the message then holds what was read until there, and is Partial.
func Parse(r io.Reader, limits Limits) (*Message, error) {
	w := newWalker(limits.withDefaults())
	l := newLines(r)
	defer l.free()
	for {
		line, start, err := l.next()
		switch {
		case err == io.EOF:
			return w.finish(), nil
		case err != nil:
			w.partial("the message could not be read to its end")
			w.msg.HeaderPartial = w.msg.HeaderPartial || w.state == inHeader
			return w.finish(), err
		}
		w.line(line, start)
	}
}

// HTMLBody gives the HTML of the message's own body (not of a nested message, unless that is all there is) in UTF-8, as it was sent: it is
// hostile until somebody has made it safe. The part says where it stands. ok is false where there is none.
func (m *Message) HTMLBody() (body string, part Part, ok bool) {
	if m.htmlPart == 0 {
		return "", Part{}, false
	}
	return m.html, m.Parts[m.htmlPart-1], true
}
