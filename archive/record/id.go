package record

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// ErrID is returned for text that is not the canonical form of a record id.
var ErrID = errors.New("not a record id")

// ID names one record for ever. It is a ULID (26 characters of Crockford's base32, upper case): ids sort by time of receipt, to the
// millisecond, as text and as bytes. It says nothing about content: two receipts of the same bytes have two ids.
type ID ulid.ULID

var (
	entropyMu sync.Mutex
	entropy   = ulid.Monotonic(rand.Reader, 0)
)

// NewID makes an id for a record received at t (UTC or not). Ids made in one process within one millisecond still sort in the order of
// the calls. A clock that shows a time before 1970 or after the year 10889 counts as 1970. Safe for concurrent use.
func NewID(t time.Time) ID {
	ms := ulid.Timestamp(t)
	if ms > ulid.MaxTime() {
		ms = 0
	}
	entropyMu.Lock()
	defer entropyMu.Unlock()
	id, err := ulid.New(ms, entropy)
	if err != nil { // 2^80 ids within one millisecond: start a new random sequence
		entropy = ulid.Monotonic(rand.Reader, 0)
		id = ulid.MustNew(ms, entropy)
	}
	return ID(id)
}

// ParseID reads the canonical form and nothing else; any other text is ErrID.
func ParseID(s string) (ID, error) {
	var id ID
	return id, id.UnmarshalText([]byte(s))
}

// String is the canonical form.
func (id ID) String() string { return ulid.ULID(id).String() }

// Time is the time of receipt, in UTC, to the millisecond.
func (id ID) Time() time.Time { return ulid.Time(ulid.ULID(id).Time()).UTC() }

// IsZero says that there is no id.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders ids as their text sorts.
func (id ID) Compare(other ID) int { return cmp.Compare(string(id[:]), string(other[:])) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// AppendText implements encoding.TextAppender.
func (id ID) AppendText(b []byte) ([]byte, error) {
	var text [ulid.EncodedSize]byte
	err := ulid.ULID(id).MarshalTextTo(text[:])
	return append(b, text[:]...), err
}

// UnmarshalText implements encoding.TextUnmarshaler: the canonical form, or ErrID.
func (id *ID) UnmarshalText(b []byte) error {
	var v ulid.ULID
	var again [ulid.EncodedSize]byte
	// ulid reads lower case and, for other letters, anything: what it then writes tells.
	if v.UnmarshalText(b) != nil || v.MarshalTextTo(again[:]) != nil || string(again[:]) != string(b) {
		return fmt.Errorf("%q: %w", b, ErrID)
	}
	*id = ID(v)
	return nil
}
