package ledger

import (
	"encoding/hex"
	"math"
	"strconv"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Nearly every entry is a message or a late supplement whose strings are plain ASCII. The two functions here write and read exactly these;
// of anything else they say that they don't know it, and encoding/json decides. So the slow way stays the measure of what is canonical, and
// where both have an answer it is the same (TestFastEntriesAreThoseOfJSON, FuzzUnmarshalEntry).

// appendEntry appends what marshalLine(e) gives. ok is false where it can't tell what that is; b is then as it was.
func appendEntry(b []byte, e *record.Entry) (line []byte, ok bool) {
	year := e.Time.Year()
	if e.Drop != nil || e.Init != nil || e.Gone != nil || e.Moved != nil || !isUTC(e.Time) || year < 0 || year > 9999 ||
		!plain(string(e.Kind)) || !plain(e.Name) || !plain(e.By) || !plain(e.Pack) {
		return b, false
	}
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, int64(e.V), 10)
	b = appendString(b, `,"kind":`, string(e.Kind))
	b = append(b, `,"time":"`...)
	b = e.Time.AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if !e.ID.IsZero() {
		b = append(b, `,"id":"`...)
		b, _ = e.ID.AppendText(b) // has no error
		b = append(b, '"')
	}
	if e.Name != "" {
		b = appendString(b, `,"name":`, e.Name)
	}
	if e.By != "" {
		b = appendString(b, `,"by":`, e.By)
	}
	if e.Seq != 0 {
		b = strconv.AppendUint(append(b, `,"seq":`...), e.Seq, 10)
	}
	b = appendDigest(b, `,"seal":"`, e.Seal)
	if e.Pack != "" {
		b = appendString(b, `,"pack":`, e.Pack)
	}
	b = appendDigest(b, `,"pack_sha256":"`, e.PackSHA256)
	b = strconv.AppendInt(append(b, `,"frame":`...), e.Frame, 10)
	if e.Length != 0 {
		b = strconv.AppendInt(append(b, `,"length":`...), e.Length, 10)
	}
	return append(b, '}'), true
}

// plain says that JSON has a string's bytes as they are.
func plain(s string) bool {
	for i := range len(s) {
		if !plainByte(s[i]) {
			return false
		}
	}
	return true
}

func plainByte(c byte) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' }

func appendString(b []byte, key, value string) []byte {
	b = append(append(b, key...), '"')
	return append(append(b, value...), '"')
}

func appendDigest(b []byte, key string, d record.Digest) []byte {
	if d.IsZero() {
		return b
	}
	return append(hex.AppendEncode(append(b, key...), d[:]), '"')
}

// lineReader takes an entry's line apart from the left. bad is set for ever at the first thing that it does not know.
type lineReader struct {
	rest []byte
	bad  bool
}

// readEntry reads a line into e, which is zero, where it is one that appendEntry writes; pack is a string that the entry's Pack may share
// memory with, if it is the same. False: it is not such a line, and e is undefined.
func readEntry(line []byte, e *record.Entry, pack string) bool {
	r := lineReader{rest: line}
	r.must(`{"v":`)
	e.V = int(r.number(math.MaxInt32))
	r.must(`,"kind":"`)
	e.Kind = kindOf(r.text())
	r.must(`,"time":"`)
	e.Time = r.time()
	if r.may(`,"id":"`) {
		if id := r.text(); e.ID.UnmarshalText(id) != nil || e.ID.IsZero() {
			return false
		}
	}
	if r.may(`,"name":"`) {
		e.Name = string(r.full())
	}
	if r.may(`,"by":"`) {
		e.By = string(r.full())
	}
	if r.may(`,"seq":`) {
		e.Seq = r.number(math.MaxInt64)
		r.refuse(e.Seq == 0)
	}
	if r.may(`,"seal":"`) {
		e.Seal = r.digest()
	}
	if r.may(`,"pack":"`) {
		if text := r.full(); string(text) == pack {
			e.Pack = pack
		} else {
			e.Pack = string(text)
		}
	}
	if r.may(`,"pack_sha256":"`) {
		e.PackSHA256 = r.digest()
	}
	r.must(`,"frame":`)
	e.Frame = int64(r.number(math.MaxInt64))
	if r.may(`,"length":`) {
		e.Length = int64(r.number(math.MaxInt64))
		r.refuse(e.Length == 0)
	}
	r.must(`}`)
	return !r.bad && len(r.rest) == 0
}

// kindOf spares a string for the kinds that there are.
func kindOf(text []byte) record.Kind {
	switch string(text) {
	case string(record.KindMessage):
		return record.KindMessage
	case string(record.KindSupplement):
		return record.KindSupplement
	case string(record.KindRefused):
		return record.KindRefused
	case string(record.KindAct):
		return record.KindAct
	}
	return record.Kind(text)
}

func (r *lineReader) refuse(bad bool) { r.bad = r.bad || bad }

// may takes what comes next if it is this.
func (r *lineReader) may(s string) bool {
	if len(r.rest) < len(s) || string(r.rest[:len(s)]) != s {
		return false
	}
	r.rest = r.rest[len(s):]
	return true
}

func (r *lineReader) must(s string) { r.refuse(!r.may(s)) }

// text takes plain bytes up to a quotation mark, and the mark.
func (r *lineReader) text() []byte {
	for i, c := range r.rest {
		if c == '"' {
			text := r.rest[:i]
			r.rest = r.rest[i+1:]
			return text
		}
		if !plainByte(c) {
			break
		}
	}
	r.bad = true
	return nil
}

// full is text that is not empty: an empty one would not have been written.
func (r *lineReader) full() []byte {
	text := r.text()
	r.refuse(len(text) == 0)
	return text
}

// number takes decimal digits without a leading zero.
func (r *lineReader) number(most uint64) uint64 {
	var n uint64
	i := 0
	for ; i < len(r.rest) && i < 19 && isDigit(r.rest[i]); i++ { // 19 digits fit
		n = n*10 + uint64(r.rest[i]-'0')
	}
	r.refuse(i == 0 || i > 1 && r.rest[0] == '0' || n > most || i < len(r.rest) && isDigit(r.rest[i]))
	r.rest = r.rest[i:]
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// digest takes hexadecimal digits and the quotation mark after them.
func (r *lineReader) digest() (d record.Digest) {
	r.refuse(d.UnmarshalText(r.text()) != nil || d.IsZero())
	return d
}

// time takes 2006-01-02T15:04:05.999999999Z, whose fraction has no zero at its end, and the quotation mark after it.
func (r *lineReader) time() time.Time {
	text := r.text()
	const whole = len("2006-01-02T15:04:05")
	if len(text) <= whole || text[4] != '-' || text[7] != '-' || text[10] != 'T' || text[13] != ':' || text[16] != ':' || text[len(text)-1] != 'Z' {
		r.bad = true
		return time.Time{}
	}
	year, month, day := r.digits(text[:4]), r.digits(text[5:7]), r.digits(text[8:10])
	hour, minute, second := r.digits(text[11:13]), r.digits(text[14:16]), r.digits(text[17:19])
	nanosecond := 0
	if fraction := text[whole : len(text)-1]; len(fraction) > 0 {
		r.refuse(len(fraction) < 2 || len(fraction) > 10 || fraction[0] != '.' || fraction[len(fraction)-1] == '0')
		if r.bad {
			return time.Time{}
		}
		nanosecond = r.digits(fraction[1:])
		for range 10 - len(fraction) {
			nanosecond *= 10
		}
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, nanosecond, time.UTC)
	// What is out of its range, Date carries over into the next.
	r.refuse(t.Month() != time.Month(month) || t.Day() != day || hour > 23 || minute > 59 || second > 59)
	return t
}

func (r *lineReader) digits(text []byte) (n int) {
	for _, c := range text {
		r.refuse(!isDigit(c))
		n = n*10 + int(c-'0')
	}
	return n
}
