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
// the calls. Safe for concurrent use.
func NewID(t time.Time) ID {
	entropyMu.Lock()
	defer entropyMu.Unlock()
	id, err := ulid.New(ulid.Timestamp(t), entropy)
	if err != nil { // 2^80 ids within one millisecond: start a new random sequence
		entropy = ulid.Monotonic(rand.Reader, 0)
		id = ulid.MustNew(ulid.Timestamp(t), entropy)
	}
	return ID(id)
}

// ParseID reads the canonical form and nothing else; any other text is ErrID.
func ParseID(s string) (ID, error) {
	id, err := ulid.ParseStrict(s)
	if err != nil || id.String() != s {
		return ID{}, fmt.Errorf("%q: %w", s, ErrID)
	}
	return ID(id), nil
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
func (id ID) MarshalText() ([]byte, error) { return ulid.ULID(id).MarshalText() }

// UnmarshalText implements encoding.TextUnmarshaler: the canonical form, or ErrID.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = v
	return nil
}
