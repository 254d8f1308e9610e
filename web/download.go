package web

import (
	"fmt"
	"io"
	"net/http"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/message"
)

// openMessage opens the message of a record. errNotMessage, errNoMessage.
func openMessage(s *archive.Stored) (io.ReadCloser, error) {
	switch {
	case s.Item.Envelope == nil:
		return nil, fmt.Errorf("%s: %w", s.Item.ID, errNotMessage)
	case s.Item.Body == nil:
		return nil, fmt.Errorf("%s: %w", s.Item.ID, errNoMessage)
	}
	return s.Item.Body()
}

// send copies what is to be saved as a file. Whether a message is what its envelope says shows when all of it was read, so the last bytes
// go out only then; on any error the connection is cut, so that what was sent can't pass for the whole.
func (a *api) send(w http.ResponseWriter, r *http.Request, content, message io.Reader, attrs ...any) {
	err := copyProven(w, content, message)
	if err == nil {
		return
	}
	if r.Context().Err() == nil { // else whoever asked has gone
		a.Log.Error("not sent whole", append(attrs, "err", err)...)
	}
	panic(http.ErrAbortHandler)
}

// copyProven writes content, and its last bytes when the rest of the message was read without error.
func copyProven(w io.Writer, content, message io.Reader) error {
	var bufs [2][]byte
	bufs[0], bufs[1] = make([]byte, 64<<10), make([]byte, 64<<10)
	held := bufs[1][:0]
	for i := 0; ; i = 1 - i {
		n, err := io.ReadFull(content, bufs[i])
		if n > 0 {
			if _, err := w.Write(held); err != nil {
				return err
			}
			held = bufs[i][:n]
		}
		switch err {
		case nil:
			continue
		case io.EOF, io.ErrUnexpectedEOF:
		default:
			return err
		}
		if _, err := io.Copy(io.Discard, message); err != nil {
			return err
		}
		_, err = w.Write(held)
		return err
	}
}

// partPath is how parts are numbered.
var partPath = regexp.MustCompile(`^[0-9]{1,5}(\.[0-9]{1,5}){0,63}$`)

// attachment sends one part as a file to be saved. It is never shown, nor is its type believed: what it claims to be is the sender's word.
func (p *pages) attachment(w http.ResponseWriter, r *http.Request) {
	number := r.PathValue("path")
	if !partPath.MatchString(number) {
		p.failPage(w, r, fmt.Errorf("part %q: %w", number, message.ErrNoPart))
		return
	}
	s, err := p.stored(r, "attachment "+number)
	if err != nil {
		p.failPage(w, r, err)
		return
	}
	body, err := openMessage(s)
	if err != nil {
		p.failPage(w, r, err)
		return
	}
	defer body.Close()
	mail, err := message.Inner(s.Item.Envelope, body)
	if err != nil {
		p.failPage(w, r, err)
		return
	}
	content, part, err := message.OpenPart(mail, number)
	if err != nil {
		p.failPage(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", disposition(part.Name, number))
	h.Set("Content-Security-Policy", dataPolicy)
	p.send(w, r, content, body, "record", s.Item.ID, "part", number)
}

// maxFileName is the most bytes of a file's name: file systems take 255.
const maxFileName = 200

// fileName makes a name that leads nobody astray: no separators, no control characters, no marks that turn the direction of writing or
// can't be seen (which make "exe.txt" of "txt.exe"), nothing that a shell, a browser or a file system takes for something else.
func fileName(name, number string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r), r == utf8.RuneError:
			return -1
		case unicode.IsControl(r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r), strings.ContainsRune(`/\:*?"<>|%`, r):
			return '_'
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, name)
	name = strings.Trim(name, ". ")
	if len(name) > maxFileName {
		ext := path.Ext(name)
		if len(ext) > 20 {
			ext = ""
		}
		cut := maxFileName - len(ext)
		for !utf8.RuneStart(name[cut]) {
			cut--
		}
		name = strings.TrimRight(name[:cut], ". ") + ext
	}
	if strings.Trim(name, "_ .") == "" {
		name = "part-" + number + ".bin"
	}
	return name
}

// disposition is the Content-Disposition (RFC 6266) of a file to be saved: its name in ASCII for old programs, and in full (RFC 8187).
func disposition(name, number string) string {
	name = fileName(name, number)
	var ascii, full strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '.', c == '-', c == '_':
			ascii.WriteByte(c)
			full.WriteByte(c)
		default:
			if c < utf8.RuneSelf {
				ascii.WriteByte(c)
			} else if utf8.RuneStart(c) {
				ascii.WriteByte('_')
			}
			fmt.Fprintf(&full, "%%%02X", c)
		}
	}
	return `attachment; filename="` + ascii.String() + `"; filename*=UTF-8''` + full.String()
}
