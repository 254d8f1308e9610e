package document

import (
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// FactField names what can be asked of a record beside words, addresses, times and sizes.
type FactField string

// The facts. ANALYSIS.md says what the values of each are.
const (
	Client     FactField = "client"
	TLS        FactField = "tls"
	Auth       FactField = "auth"
	Outcome    FactField = "outcome"
	SPF        FactField = "spf"
	DKIM       FactField = "dkim"
	DMARC      FactField = "dmarc"
	List       FactField = "list"
	Importance FactField = "importance"
	Thread     FactField = "thread"
	FileType   FactField = "filetype"
	Direction  FactField = "direction"
)

// Fact is one value. Values of a field are compared as bytes, so that ranges of them can be asked for.
type Fact struct {
	Field FactField
	Value string
}

// NoTLS and NoAuth are the values of a message that came by SMTP without.
const (
	NoTLS  = "0" // less than every version
	NoAuth = ""
)

// maxFacts bounds the values of one field of one record.
const maxFacts = 1024

func (d *Document) fact(f FactField, value string) {
	n := 0
	for _, have := range d.Facts {
		if have.Field != f {
			continue
		}
		if n++; have.Value == value {
			return
		}
	}
	switch {
	case n == maxFacts || len(value) > maxDomain:
		d.Partial, d.HeaderPartial = true, true // it may be what is asked for
	default:
		d.Facts = append(d.Facts, Fact{f, value})
	}
}

// ClientValue is the value of a client's address: 4 or 6, and its bytes, so that a network is a range.
func ClientValue(a netip.Addr) string {
	a = a.Unmap()
	if a.Is4() {
		return "4" + string(a.AsSlice())
	}
	return "6" + string(a.AsSlice())
}

// envelopeFacts are what the envelope tells.
func (d *Document) envelopeFacts(env *record.Envelope) {
	d.NullSender = env.MailFrom != nil && env.MailFrom.Address == ""
	if env.Source != record.SourceSMTP {
		return
	}
	d.OutcomeOpen = env.Mode == record.ModeRelay || env.Mode == record.ModeQueue
	if env.Client != nil {
		if a, err := netip.ParseAddr(env.Client.Address); err == nil {
			d.fact(Client, ClientValue(a))
		}
	}
	switch {
	case env.TLS == nil:
		d.fact(TLS, NoTLS)
	case env.TLS.Version != "":
		d.fact(TLS, env.TLS.Version)
	}
	if env.Auth == nil {
		d.fact(Auth, NoAuth)
	} else {
		d.fact(Auth, FoldAddress(env.Auth.Identity))
	}
}

// Learn takes what supplements tell: all that are known of the record, in order. Done again with more, it is as if done with these alone.
func (d *Document) Learn(supplements []record.SupplementDoc) {
	d.Facts = slices.DeleteFunc(d.Facts, func(f Fact) bool {
		return f.Field == Outcome || f.Field == SPF || f.Field == DKIM || f.Field == DMARC
	})
	last := map[string]*record.RecipientDelivery{}
	var final *record.Delivery
	for i := range supplements {
		s := &supplements[i]
		if s.Delivery != nil {
			final = s.Delivery
			for j := range final.Recipients {
				r := &final.Recipients[j]
				last[r.Address] = r
			}
		}
		if s.Auth != nil {
			d.verdicts(s.Auth)
		}
	}
	if final == nil {
		return
	}
	d.OutcomeOpen = !final.Next.IsZero()
	if !d.OutcomeOpen {
		d.fact(Outcome, string(final.Outcome))
	}
	for _, r := range last {
		if d.OutcomeOpen && r.Outcome != record.Delivered {
			continue // it is tried again
		}
		d.fact(Outcome, string(r.Outcome))
		if r.Code > 0 {
			d.fact(Outcome, strconv.Itoa(r.Code))
		}
		if r.Enhanced != "" {
			d.fact(Outcome, r.Enhanced)
		}
	}
}

func (d *Document) verdicts(v *record.Verdicts) {
	for _, r := range v.SPF {
		if r.Identity == record.SPFMailFrom || len(v.SPF) == 1 {
			d.fact(SPF, r.Result)
		}
	}
	for _, r := range v.DKIM {
		d.fact(DKIM, r.Result)
	}
	if len(v.DKIM) == 0 {
		d.fact(DKIM, "none")
	}
	if v.DMARC != nil {
		d.fact(DMARC, v.DMARC.Result)
	}
}

// messageFacts are what the header and the attachments tell.
func (d *Document) messageFacts(msg *message.Message) {
	h := &msg.Header
	for _, value := range h.Values("List-Id") {
		if i, j := strings.LastIndexByte(value, '<'), strings.LastIndexByte(value, '>'); i >= 0 && j > i {
			value = value[i+1 : j]
		}
		for _, name := range Domains(FoldDomain(strings.TrimSpace(value))) {
			d.fact(List, name)
		}
	}
	if level := importance(h); level != "" {
		d.fact(Importance, level)
	}
	for _, id := range h.References() {
		d.fact(Thread, id)
	}
	for _, a := range d.Attachments {
		for _, kind := range FileTypes(a) {
			d.fact(FileType, kind)
		}
	}
}

// importance reads Importance (RFC 2156), X-Priority and Priority, of which programs write one or the other: high or low.
func importance(h *message.Header) string {
	for _, name := range []string{"Importance", "X-Priority", "X-MSMail-Priority", "Priority"} {
		switch value := strings.ToLower(h.Get(name)); {
		case strings.HasPrefix(value, "high"), strings.HasPrefix(value, "1"), strings.HasPrefix(value, "2"), strings.HasPrefix(value, "urgent"):
			return "high"
		case strings.HasPrefix(value, "low"), strings.HasPrefix(value, "4"), strings.HasPrefix(value, "5"), strings.HasPrefix(value, "non-urgent"):
			return "low"
		}
	}
	return ""
}

// kinds are the file types of media types that say one.
var kinds = map[string]string{
	"application/pdf": "pdf", "application/zip": "zip", "application/rtf": "rtf", "text/rtf": "rtf", "application/msword": "doc",
	"application/vnd.ms-excel": "xls", "application/vnd.ms-powerpoint": "ppt", "application/vnd.ms-outlook": "msg",
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document":   "docx",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet":         "xlsx",
	"application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
	"application/vnd.oasis.opendocument.text":                                   "odt",
	"application/vnd.oasis.opendocument.spreadsheet":                            "ods",
	"application/vnd.oasis.opendocument.presentation":                           "odp",
	"text/plain": "txt", "text/html": "html", "text/csv": "csv", "text/calendar": "ics", "message/rfc822": "eml",
	"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/tiff": "tiff", "audio/mpeg": "mp3", "video/mp4": "mp4",
}

// maxKind is the length of the longest file type.
const maxKind = 16

// FileTypes gives the types of an attachment, as the end of its name and its media type tell them, each folded by FoldFileType.
func FileTypes(a Attachment) []string {
	var list []string
	if kind := FoldFileType(path.Ext(strings.TrimSpace(a.Name))); kind != "" {
		list = append(list, kind)
	}
	if kind := kinds[a.Type]; kind != "" && !slices.Contains(list, kind) {
		list = append(list, kind)
	}
	return list
}

// FoldFileType gives the form in which file types are compared: lower case, without the dot, jpg for jpeg, html for htm and so on. What is
// none is empty.
func FoldFileType(s string) string {
	s = strings.ToLower(strings.TrimPrefix(s, "."))
	if s == "" || len(s) > maxKind || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		return ""
	}
	switch s {
	case "jpeg":
		return "jpg"
	case "htm":
		return "html"
	case "tif":
		return "tiff"
	case "text":
		return "txt"
	}
	return s
}
