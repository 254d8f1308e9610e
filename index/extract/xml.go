package extract

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Limits of XML. Documents that office programs write are far from both.
const (
	maxXMLDepth = 1000     // elements within elements
	maxXMLToken = 16 << 20 // bytes of one tag, or of a piece of text without a tag in it
)

var (
	errXMLDepth = errors.New("elements are nested too deep")
	errXMLToken = errors.New("a tag or a text in it is too long")
)

// xmlReader reads XML as it comes. It does not ask for more than it must: that elements end as they began is not checked, and prefixes of
// names are not resolved, since the formats here tell what they mean by their local names.
type xmlReader struct {
	d     *xml.Decoder
	m     *meter
	names []string // open elements
}

// newXMLReader takes XML in UTF-8, UTF-16 or what it declares.
func newXMLReader(r io.Reader) *xmlReader {
	m := &meter{r: transform.NewReader(r, unicode.BOMOverride(transform.Nop))}
	d := xml.NewDecoder(m)
	d.Strict = false
	d.CharsetReader = func(label string, r io.Reader) (io.Reader, error) {
		if label == "utf-16" || label == "UTF-16" { // the mark at the beginning has told
			return r, nil
		}
		return charset.NewReaderLabel(label, r)
	}
	return &xmlReader{d: d, m: m}
}

// next gives the next token, which holds until the one after it; io.EOF after the last.
func (x *xmlReader) next() (xml.Token, error) {
	x.m.n = 0
	t, err := x.d.RawToken()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case xml.StartElement:
		if len(x.names) >= maxXMLDepth {
			return nil, errXMLDepth
		}
		x.names = append(x.names, t.Name.Local)
	case xml.EndElement:
		if len(x.names) > 0 {
			x.names = x.names[:len(x.names)-1]
		}
	}
	return t, nil
}

// parent is the element around the one that has just begun.
func (x *xmlReader) parent() string {
	if len(x.names) < 2 {
		return ""
	}
	return x.names[len(x.names)-2]
}

// within is the innermost open element.
func (x *xmlReader) within() string {
	if len(x.names) == 0 {
		return ""
	}
	return x.names[len(x.names)-1]
}

// attr gives an attribute by its local name; empty: there is none.
func attr(e xml.StartElement, local string) string {
	for _, a := range e.Attr {
		if a.Name.Local == local {
			return a.Value
		}
	}
	return ""
}

// meter bounds what is read between two tokens.
type meter struct {
	r io.Reader
	n int
}

func (m *meter) Read(p []byte) (int, error) {
	if m.n > maxXMLToken {
		return 0, errXMLToken
	}
	n, err := m.r.Read(p)
	m.n += n
	return n, err
}

// ended says that an error is the end of the whole job and not the fault of a piece of a file.
func ended(err error) bool {
	return errors.Is(err, ErrLimit) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// piece takes the error of a piece of a file: where the job can go on the file is marked, and nil returned.
func (o *Output) piece(name string, err error) error {
	if err == nil || ended(err) {
		return err
	}
	o.Partial(fmt.Sprintf("%s: %v", name, err))
	return nil
}
