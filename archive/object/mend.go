package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Mender puts the right bytes of an object in the place of wrong ones, or of nothing. It is a capability of its own: whoever has it can
// write over what is damaged, and must know by the ledger what is right.
type Mender interface {
	// Mend gives an object the bytes of body, which must have the SHA-256 want: otherwise ErrMismatch, and nothing is done. An object that
	// has them already is left alone. In a store with versions what was there stays below, and its lock is that of the new version too.
	// Returned means persisted.
	Mend(ctx context.Context, key string, body io.ReadSeeker, want record.Digest, lock Lock) error
}

// OpenMender opens the power to mend in the store that a URL names.
func OpenMender(ctx context.Context, url string, opt Options) (Mender, error) {
	where, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	var m Mender
	if where.folder != "" {
		m, err = OpenFile(where.path(opt.Dir))
	} else {
		m, err = openS3(ctx, where, opt)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return m, nil
}

// Mend implements Mender. lock is ErrUnsupported.
//
//	open(.tmp/<writer>/<n>, O_CREAT|O_EXCL), write, fsync, close
//	nothing there: link(.tmp/<writer>/<n>, key); other bytes there: rename(.tmp/<writer>/<n>, key)
//	fsync(folder of the key)
func (f *File) Mend(ctx context.Context, key string, body io.ReadSeeker, want record.Digest, lock Lock) error {
	if err := isWhole(key, body, want); err != nil {
		return err
	}
	_, err := f.Create(ctx, key, body, lock)
	if !errors.Is(err, ErrConflict) {
		return err
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	tmp, info, err := f.writeTemp(ctx, key, body)
	if err != nil {
		return err
	}
	defer f.root.Remove(tmp)
	if info.SHA256 != want { // it changed under us
		return fmt.Errorf("%s: %w", key, ErrMismatch)
	}
	if err := f.inFolder(path.Dir(key), func() error { return f.root.Rename(tmp, key) }); err != nil {
		return explain(key, err)
	}
	if err := f.syncOne(path.Dir(key)); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// isWhole checks that body is what it must be.
func isWhole(key string, body io.ReadSeeker, want record.Digest) error {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	got, err := record.SumReader(body)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if got != want {
		return fmt.Errorf("%s: to be mended with SHA-256 %s, and the bytes have %s: %w", key, want, got, ErrMismatch)
	}
	return nil
}

// Mend implements Mender.
func (s *S3) Mend(ctx context.Context, key string, body io.ReadSeeker, want record.Digest, lock Lock) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := isWhole(key, body, want); err != nil {
		return err
	}
	if s.holds(ctx, key, want) {
		return nil
	}
	if _, err := s.Stat(ctx, key); errors.Is(err, ErrNotFound) {
		_, err = s.Create(ctx, key, body, lock)
		return err
	} else if err != nil {
		return err
	}
	versions, err := s.versions(ctx, key)
	if err != nil {
		return err
	}
	for _, v := range versions {
		if v.Marker {
			continue
		}
		info, err := s.headListed(ctx, v)
		if err != nil {
			return err
		}
		lock = longer(lock, info.Lock)
	}
	up, err := newUpload(ctx, key, body, lock)
	if err != nil {
		return err
	}
	if _, err := s.put(ctx, key, up, false); err != nil {
		return s.fail(key, err)
	}
	return nil
}

// holds says whether an object reads as bytes of this SHA-256.
func (s *S3) holds(ctx context.Context, key string, want record.Digest) bool {
	r, err := s.Open(ctx, key, 0, -1)
	if err != nil {
		return false
	}
	defer r.Close()
	got, err := record.SumReader(r)
	return err == nil && got == want
}

// longer is the lock that keeps longer, of those that are not over.
func longer(a, b Lock) Lock {
	if b.Mode != LockNone && b.Until.After(time.Now()) && b.Until.After(a.Until) {
		a.Mode, a.Until = b.Mode, b.Until
	}
	a.Hold = a.Hold || b.Hold
	return a
}
