package bundle

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// original is a message as it was received: in memory, or in its file in the bag.
type original struct {
	raw  []byte // nil: in path
	path string
}

func (o *original) open() (io.ReadCloser, error) {
	if o.raw != nil {
		return io.NopCloser(bytes.NewReader(o.raw)), nil
	}
	return os.Open(o.path)
}

func nativeName(n int64, number string) string {
	return "data/native/" + shelf(n) + "/" + number + ".eml"
}

// produce writes a message and its attachments, and their rows. A *sourceError says that the message is not what it should be; then nothing
// was written but files that a later document replaces.
func (w *writer) produce(m *archive.Member, c *custody) error {
	n := w.p.Number
	number := w.req.Numbering.name(n)
	native, orig, err := w.native(m, nativeName(n, number))
	if err != nil {
		return err
	}
	if err := w.mbox(m, orig); err != nil {
		return err
	}
	mail, whole, err := read(m.Item.Envelope, orig)
	if err != nil {
		return err
	}
	r := w.parent(m, mail, number, native)
	if !whole {
		r[colException] = join("; ", r[colException], "the message in this journal report is not where its envelope says")
	}
	children, sums, err := w.attachments(m.Item.Envelope, mail, orig, n, whole, r)
	if err != nil {
		return err
	}
	text, err := w.file("data/text/"+shelf(n)+"/"+number+".txt", textOf(mail))
	if err != nil {
		return err
	}
	r[colTextLink] = text.name
	w.family(r, children, native.sum, sums)
	r[colDedupeHash] = dedupe(mail, sums).String()
	w.rows(r, children)
	w.p.Number += int64(1 + len(children))
	w.p.Counts.Documents += int64(1 + len(children))
	w.p.Counts.Bytes += native.size
	c.document, c.native = number, native.name
	return nil
}

// native writes the message as it was received.
func (w *writer) native(m *archive.Member, name string) (written, *original, error) {
	env := m.Item.Envelope
	body, err := m.Item.Body()
	if err != nil {
		return written{}, nil, &sourceError{err}
	}
	defer body.Close()
	if env.Size > inMemory {
		out, err := w.copy(name, body)
		return out, &original{path: filepath.Join(w.bag, filepath.FromSlash(name))}, err
	}
	if int64(cap(w.buf)) < env.Size+1 {
		w.buf = make([]byte, 0, max(64<<10, 2*env.Size))
	}
	b := bytes.NewBuffer(w.buf[:0])
	if _, err := b.ReadFrom(io.LimitReader(body, env.Size+1)); err != nil {
		return written{}, nil, &sourceError{err}
	}
	raw := b.Bytes()
	if int64(len(raw)) != env.Size || record.Sum(raw) != env.SHA256 {
		return written{}, nil, &sourceError{fmt.Errorf("message of %s: %w", env.ID, archive.ErrAltered)}
	}
	out, err := w.file(name, raw)
	out.md5 = md5.Sum(raw)
	return out, &original{raw: raw}, err
}

// mbox adds the message to the mbox.
func (w *writer) mbox(m *archive.Member, orig *original) error {
	r, err := orig.open()
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := beginMbox(w.streams[fileMbox], m.Item.Envelope.Received)
	if err == nil {
		_, err = io.Copy(out, r)
	}
	if err == nil {
		err = out.end()
	}
	return err
}

// read reads what the record is about: of a journal report the message in it. whole is false where that is not where the envelope says, and
// the report itself was read.
func read(env *record.Envelope, orig *original) (mail *message.Message, whole bool, err error) {
	r, err := orig.open()
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	inner, err := message.Inner(env, r)
	if err == nil {
		if mail, err = message.Parse(inner, message.Limits{}); err == nil {
			return mail, true, nil
		}
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, false, err
	}
	again, err := orig.open()
	if err != nil {
		return nil, false, err
	}
	defer again.Close()
	mail, err = message.Parse(again, message.Limits{})
	return mail, false, err
}

// parent fills the row of a message, but for what its family says.
func (w *writer) parent(m *archive.Member, mail *message.Message, number string, native written) *row {
	env, h := m.Item.Envelope, mail.Header
	r := &row{}
	r[colRecordType] = "message"
	if env.Report != nil {
		r[colRecordType] = "journal report"
	}
	everybody := map[string]bool{}
	for _, f := range []struct {
		col  int
		name string
	}{{colFrom, "From"}, {colTo, "To"}, {colCc, "Cc"}, {colBcc, "Bcc"}} {
		r[f.col] = people(h.AddressList(f.name), everybody)
	}
	if env.Report != nil {
		var bcc []message.Address
		for _, p := range env.Report.Recipients {
			if p.Class == "bcc" {
				bcc = append(bcc, message.Address{Address: p.Address})
			}
			everybody[strings.ToLower(p.Address)] = true
		}
		r[colBcc] = join("; ", r[colBcc], people(bcc, everybody))
	}
	if env.MailFrom != nil {
		r[colEnvFrom] = env.MailFrom.Address
		everybody[strings.ToLower(env.MailFrom.Address)] = true
	}
	rcpt := make([]string, len(env.Rcpt))
	for i, p := range env.Rcpt {
		rcpt[i] = p.Address
		everybody[strings.ToLower(p.Address)] = true
	}
	r[colEnvRcpt] = strings.Join(rcpt, "; ")
	r[colEnvSource] = join(" ", env.Source, string(env.Completeness))
	r[colSubject] = clean(h.Subject())
	if t := h.Date(); !t.IsZero() {
		r[colDateSent], r[colTimeSent] = dateTime(t)
	}
	r[colDateReceived], r[colTimeReceived] = dateTime(env.Received)
	r[colTimeZone] = "UTC"
	r[colMessageID] = clean(h.MessageID())
	refs := h.References()
	r[colReferences] = strings.Join(refs, "; ")
	r[colInReplyTo] = clean(strings.Trim(h.Raw("In-Reply-To"), "<> \t"))
	r[colThreadID] = r[colMessageID]
	if len(refs) > 0 {
		r[colThreadID] = refs[0]
	}
	r[colFileName], r[colFileExt], r[colMimeType] = number+".eml", "eml", "message/rfc822"
	r[colImportance] = clean(h.Get("Importance"))
	r[colMIH] = mih(h)
	r[colArchiveID] = env.ID.String()
	r[colException] = exception(mail)
	w.custodians(r, everybody)
	r.file(native)
	r[colBegDoc], r[colEndDoc] = number, number
	return r
}

func (r *row) file(f written) {
	r[colFileSize] = strconv.FormatInt(f.size, 10)
	r[colMD5], r[colSHA256] = hex.EncodeToString(f.md5[:]), f.sum.String()
	r[colNativeLink] = f.name
}

// exception says what of a message could not be read.
func exception(mail *message.Message) string {
	var list []string
	if mail.Encrypted {
		list = append(list, "encrypted")
	}
	if mail.Partial {
		list = append(list, mail.Problems...)
	}
	return strings.Join(list, "; ")
}

// custodians names those of the matter that a message went from or to.
func (w *writer) custodians(r *row, everybody map[string]bool) {
	var names []string
	for _, p := range w.req.Custodian {
		if slices.ContainsFunc(p.Addresses, func(a string) bool { return everybody[strings.ToLower(a)] }) {
			names = append(names, p.Name)
		}
	}
	if len(names) > 0 {
		r[colCustodian], r[colAllCustodians] = names[0], strings.Join(names, "; ")
	}
}

// people gives addresses as people write them, and notes them.
func people(list []message.Address, known map[string]bool) string {
	out := make([]string, len(list))
	for i, a := range list {
		if a.Address != "" {
			known[strings.ToLower(a.Address)] = true
		}
		switch {
		case a.Name == "":
			out[i] = clean(a.Address)
		case a.Address == "":
			out[i] = clean(a.Name)
		default:
			out[i] = clean(a.Name) + " <" + clean(a.Address) + ">"
		}
	}
	return strings.Join(out, "; ")
}

// clean makes one line of a value: control characters are blanks.
func clean(s string) string {
	if !strings.ContainsFunc(s, isControl) {
		return s
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, s))
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

func dateTime(t time.Time) (date, clock string) {
	t = t.UTC()
	return t.Format("2006-01-02"), t.Format("15:04:05")
}

// The attachments of one message are each read from its beginning on. What more than this that would take stays in the message alone.
const maxReread = 4 << 30

// maxText is up to how many bytes an attachment that is text gets a text file of its own.
const maxText = 4 << 20

// attachments writes each attachment as a document, and gives the rows of those that could be written.
func (w *writer) attachments(env *record.Envelope, mail *message.Message, orig *original, n int64, whole bool, parent *row) (rows []*row, sums []record.Digest, err error) {
	list := mail.Attachments()
	if keep := max(1, maxReread/max(1, env.Size)); int64(len(list)) > keep {
		parent[colException] = join("; ", parent[colException], fmt.Sprintf("%d attachments are in the message only", int64(len(list))-keep))
		list = list[:keep]
	}
	for _, part := range list {
		r, sum, err := w.attachment(env, orig, part, n+1+int64(len(rows)), whole)
		var source *sourceError
		if errors.As(err, &source) {
			parent[colException] = join("; ", parent[colException], "attachment "+part.Path+" could not be taken out")
			continue
		} else if err != nil {
			return nil, nil, err
		}
		for _, col := range []int{colCustodian, colAllCustodians, colDateSent, colTimeSent, colDateReceived, colTimeReceived, colTimeZone, colArchiveID, colThreadID} {
			r[col] = parent[col]
		}
		rows, sums = append(rows, r), append(sums, sum)
	}
	return rows, sums, nil
}

// attachment writes one.
func (w *writer) attachment(env *record.Envelope, orig *original, part message.Part, n int64, whole bool) (*row, record.Digest, error) {
	f, err := orig.open()
	if err != nil {
		return nil, record.Digest{}, err
	}
	defer f.Close()
	var inner io.Reader = f
	if whole {
		if inner, err = message.Inner(env, f); err != nil {
			return nil, record.Digest{}, &sourceError{err}
		}
	}
	content, _, err := message.OpenPart(inner, part.Path)
	if err != nil {
		return nil, record.Digest{}, &sourceError{err}
	}
	number, ext := w.req.Numbering.name(n), extension(part)
	var kept *head
	if strings.HasPrefix(part.Type, "text/") {
		kept = &head{r: content}
		content = kept
	}
	file, err := w.copy("data/native/"+shelf(n)+"/"+number+"."+ext, content)
	if err != nil {
		return nil, record.Digest{}, err
	}
	r := &row{}
	r[colBegDoc], r[colEndDoc] = number, number
	r[colRecordType] = "attachment"
	r[colFileName], r[colFileExt], r[colMimeType] = clean(part.Name), ext, clean(part.Type)
	r.file(file)
	if kept != nil && !kept.over {
		text := message.DecodeText(kept.b, part.Charset)
		if part.Type == "text/html" {
			text = message.HTMLText(text)
		}
		t, err := w.file("data/text/"+shelf(n)+"/"+number+".txt", []byte(text))
		if err != nil {
			return nil, record.Digest{}, err
		}
		r[colTextLink] = t.name
	}
	return r, file.sum, nil
}

// head keeps what is read through it, up to maxText bytes.
type head struct {
	r    io.Reader
	b    []byte
	over bool
}

func (h *head) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if h.over = h.over || len(h.b)+n > maxText; !h.over {
		h.b = append(h.b, p[:n]...)
	}
	return n, err
}

// extension gives the end of a file's name: what the sender called it where that is harmless, and never anything else of it.
func extension(part message.Part) string {
	if part.Type == "message/rfc822" {
		return "eml"
	}
	ext := strings.ToLower(strings.TrimPrefix(filepath.Ext(part.Name), "."))
	if ext == "" || len(ext) > 8 || strings.ContainsFunc(ext, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
		return "bin"
	}
	return ext
}

// family fills what the rows of a family say of each other.
func (w *writer) family(parent *row, children []*row, native record.Digest, sums []record.Digest) {
	last := parent[colBegDoc]
	var ids, names []string
	h := sha256.New()
	h.Write(native[:])
	for i, c := range children {
		last = c[colBegDoc]
		ids, names = append(ids, last), append(names, c[colFileName])
		h.Write(sums[i][:])
	}
	sum := hex.EncodeToString(h.Sum(nil))
	parent[colAttachIDs], parent[colAttachNames] = strings.Join(ids, "; "), strings.Join(names, "; ")
	parent[colAttachCount] = strconv.Itoa(len(children))
	for _, c := range children {
		c[colParentID] = parent[colBegDoc]
	}
	for _, r := range append([]*row{parent}, children...) {
		r[colBegAttach], r[colEndAttach], r[colFamilyHash] = parent[colBegDoc], last, sum
	}
}

// rows writes the rows of a family.
func (w *writer) rows(parent *row, children []*row) {
	b := appendDAT(w.line[:0], parent[:])
	for _, c := range children {
		b = appendDAT(b, c[:])
	}
	w.streams[fileLoad].Write(b)
	b = appendCSV(b[:0], parent.summary()...)
	w.streams[fileIndex].Write(b)
	w.line = b
	for _, r := range append([]*row{parent}, children...) {
		if r[colException] != "" {
			w.p.Counts.Exceptions++
		}
	}
}

// textOf is the text of a message as its reader sees it: who, what and when, and the text.
func textOf(mail *message.Message) []byte {
	var b bytes.Buffer
	b.Grow(len(mail.Text) + 512)
	known := map[string]bool{}
	for _, name := range []string{"From", "To", "Cc", "Bcc"} {
		if s := people(mail.Header.AddressList(name), known); s != "" {
			b.WriteString(name + ": " + s + "\n")
		}
	}
	if t := mail.Header.Date(); !t.IsZero() {
		b.WriteString("Date: " + t.Format(time.RFC3339) + "\n")
	}
	b.WriteString("Subject: " + clean(mail.Header.Subject()) + "\n")
	for _, a := range mail.Attachments() {
		fmt.Fprintf(&b, "Attachment: %s (%s, %d bytes)\n", clean(a.Name), clean(a.Type), a.Size)
	}
	b.WriteString("\n" + mail.Text)
	return b.Bytes()
}

// withhold gives a number to a message that is withheld, and a line in the log of these. What it says is not in the bundle: not its subject,
// nor its text, nor any name of a file.
func (w *writer) withhold(m *archive.Member, c *custody) error {
	env := m.Item.Envelope
	number := w.req.Numbering.name(w.p.Number)
	c.document = number
	body, err := m.Item.Body()
	if err != nil {
		return err
	}
	defer body.Close()
	line := []string{number, env.ID.String(), env.Received.UTC().Format(time.DateTime), "", "", "", "", "", c.reason}
	inner, err := message.Inner(env, body)
	if err == nil {
		var mail *message.Message
		if mail, err = message.Parse(inner, message.Limits{}); err == nil {
			if t := mail.Header.Date(); !t.IsZero() {
				line[3] = t.Format(time.DateTime)
			}
			for i, name := range []string{"From", "To", "Cc"} {
				line[4+i] = people(mail.Header.AddressList(name), map[string]bool{})
			}
			line[7] = strconv.Itoa(len(mail.Attachments()))
		}
	}
	if err != nil { // it is withheld all the same
		line[8] = join("; ", c.reason, "it could not be read")
	}
	w.streams[filePrivilege].Write(appendCSV(nil, line...))
	w.p.Number++
	w.p.Counts.Documents++
	return nil
}
