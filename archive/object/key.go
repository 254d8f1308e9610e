package object

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of a key, in bytes: those of S3 for the whole and of common file systems for a segment.
const (
	MaxKey     = 900 // S3 has 1024, of which the store's own prefix takes some
	MaxSegment = 255
)

// CheckKey is ErrKey for what can't be a key in every store. A key is one or more segments joined by slashes. A segment is UTF-8, is not
// empty, does not begin with a dot and has no control character and no backslash.
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("key is empty: %w", ErrKey)
	}
	if strings.HasSuffix(key, "/") {
		return fmt.Errorf("key %q ends in a slash: %w", key, ErrKey)
	}
	return checkPrefix(key)
}

// checkPrefix is ErrKey for a prefix that no key can have. The last segment may be the beginning of one, or empty.
func checkPrefix(prefix string) error {
	if len(prefix) > MaxKey {
		return fmt.Errorf("key %.64q… of %d bytes is longer than %d: %w", prefix, len(prefix), MaxKey, ErrKey)
	}
	if !utf8.ValidString(prefix) {
		return fmt.Errorf("key %q is not UTF-8: %w", prefix, ErrKey)
	}
	for rest := prefix; rest != ""; {
		segment, tail, more := strings.Cut(rest, "/")
		switch {
		case segment == "":
			return fmt.Errorf("key %q has an empty segment: %w", prefix, ErrKey)
		case segment[0] == '.':
			return fmt.Errorf("key %q has a segment that begins with a dot: %w", prefix, ErrKey)
		case len(segment) > MaxSegment:
			return fmt.Errorf("key %q has a segment longer than %d bytes: %w", prefix, MaxSegment, ErrKey)
		case strings.ContainsFunc(segment, forbidden):
			return fmt.Errorf("key %q has a control character or a backslash: %w", prefix, ErrKey)
		}
		if !more {
			break
		}
		rest = tail
	}
	return nil
}

func forbidden(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\\' }

// CheckReplace is ErrKey for a key that is never replaced: every key but state/… and ledger/<log>/checkpoint. All drivers ask it, so that
// no slip elsewhere can overwrite a pack or a commit.
func CheckReplace(key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if strings.HasPrefix(key, "state/") {
		return nil
	}
	if rest, ok := strings.CutPrefix(key, "ledger/"); ok {
		if _, name, _ := strings.Cut(rest, "/"); name == "checkpoint" {
			return nil
		}
	}
	return fmt.Errorf("key %q is never replaced: %w", key, ErrKey)
}

// CheckRange gives the number of bytes that Open reads of an object of this size: ErrRange for what it does not have. The end of the
// object is a place in it, so that nothing may be read from there.
func CheckRange(key string, size, off, n int64) (int64, error) {
	if off < 0 || off > size || n > size-off {
		return 0, fmt.Errorf("%s: %d bytes from %d, of %d: %w", key, n, off, size, ErrRange)
	}
	if n < 0 {
		return size - off, nil
	}
	return n, nil
}
