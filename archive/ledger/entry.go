package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// MarshalEntry gives the canonical line of JSON of an entry, without a newline: the bytes of the Merkle leaf. ErrEntry for what is no entry
// of this version, ErrTooLarge for one over record.MaxEntry. Bytes that are not UTF-8 become U+FFFD.
func MarshalEntry(e record.Entry) ([]byte, error) {
	e.Time = e.Time.UTC()
	if err := validEntry(&e); err != nil {
		return nil, err
	}
	line, ok := appendEntry(make([]byte, 0, usualEntry), &e)
	if !ok {
		var err error
		if line, err = marshalLine(&e); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrEntry, err)
		}
	}
	if len(line) > record.MaxEntry {
		return nil, fmt.Errorf("entry of %d bytes, at most %d: %w", len(line), record.MaxEntry, ErrTooLarge)
	}
	return line, nil
}

// usualEntry is somewhat more than most entries have, in bytes.
const usualEntry = 480

// UnmarshalEntry reads what MarshalEntry wrote and nothing else: bytes that it would not have written (unknown or repeated fields, spaces,
// another time zone) are ErrEntry.
func UnmarshalEntry(line []byte) (record.Entry, error) {
	var e record.Entry
	if err := unmarshalEntry(line, &e, ""); err != nil {
		return record.Entry{}, err
	}
	return e, nil
}

// unmarshalEntry reads a line into e, which is zero. pack is that of the entry before: mostly they share one.
func unmarshalEntry(line []byte, e *record.Entry, pack string) error {
	if len(line) > record.MaxEntry {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrEntry, len(line), record.MaxEntry)
	}
	if !readEntry(line, e, pack) {
		*e = record.Entry{}
		if err := unmarshalLine(line, e); err != nil {
			return fmt.Errorf("%w: %w", ErrEntry, err)
		}
	}
	return validEntry(e)
}

func validEntry(e *record.Entry) error {
	switch {
	case e.V != record.Version:
		return fmt.Errorf("%w: v is %d, not %d", ErrEntry, e.V, record.Version)
	case e.Kind == "":
		return fmt.Errorf("%w: no kind", ErrEntry)
	case !isUTC(e.Time):
		return fmt.Errorf("%w: time %v is not UTC", ErrEntry, e.Time)
	}
	return nil
}

func isUTC(t time.Time) bool {
	_, offset := t.Zone()
	return offset == 0
}

// marshalLine writes v as one line of JSON, without the newline.
func marshalLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// unmarshalLine reads a line of JSON into v and refuses it where marshalLine(v) would give other bytes. An unknown field is refused too:
// it would be lost.
func unmarshalLine(line []byte, v any) error {
	if err := json.Unmarshal(line, v); err != nil {
		return err
	}
	again, err := marshalLine(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(line, again) {
		return fmt.Errorf("not in its canonical form at byte %d", differAt(line, again))
	}
	return nil
}

// differAt is the first offset at which a and b differ.
func differAt(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
