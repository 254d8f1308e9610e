package object

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Extend implements Protector. A version keeps the mode of its lock; one without a lock gets the configured mode. What is kept longer
// already stays as it is.
func (s *S3) Extend(ctx context.Context, key string, until time.Time) error {
	return s.eachVersion(ctx, key, func(v Info) error {
		mode := v.Lock.Mode
		if mode == LockNone {
			mode = s.lockMode
		}
		if mode == LockNone {
			return fmt.Errorf("no lock, and no object_lock mode: %w", ErrUnsupported)
		}
		if !until.After(v.Lock.Until) {
			return nil
		}
		return s.retain(ctx, key, v.Version, mode, until, false)
	})
}

func (s *S3) retain(ctx context.Context, key, version string, mode LockMode, until time.Time, bypass bool) error {
	in := &s3.PutObjectRetentionInput{
		Bucket: &s.where.bucket, Key: s.name(key), VersionId: versionParam(version),
		Retention: &types.ObjectLockRetention{
			Mode: types.ObjectLockRetentionMode(strings.ToUpper(string(mode))), RetainUntilDate: aws.Time(until.UTC()),
		},
	}
	if bypass {
		in.BypassGovernanceRetention = &bypass
	}
	_, err := s.client.PutObjectRetention(ctx, in)
	return err
}

// Hold implements Protector.
func (s *S3) Hold(ctx context.Context, key string) error {
	return s.legalHold(ctx, key, types.ObjectLockLegalHoldStatusOn)
}

func (s *S3) legalHold(ctx context.Context, key string, to types.ObjectLockLegalHoldStatus) error {
	return s.eachVersion(ctx, key, func(v Info) error {
		_, err := s.client.PutObjectLegalHold(ctx, &s3.PutObjectLegalHoldInput{
			Bucket: &s.where.bucket, Key: s.name(key), VersionId: versionParam(v.Version),
			LegalHold: &types.ObjectLockLegalHold{Status: to},
		})
		return err
	})
}

// eachVersion does something to every version of a key that has bytes, with its lock, and reports what failed for each.
func (s *S3) eachVersion(ctx context.Context, key string, do func(Info) error) error {
	versions, err := s.versions(ctx, key)
	if err != nil {
		return err
	}
	var faults []error
	found := false
	for _, v := range versions {
		if v.Marker {
			continue
		}
		found = true
		info, err := s.headListed(ctx, v)
		if err == nil {
			err = do(info)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("version %q: %w", v.Version, lockError(err)))
		}
	}
	if !found {
		return fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	if err := errors.Join(faults...); err != nil {
		return s.fail(key, err)
	}
	return nil
}

func (s *S3) deleteID(ctx context.Context, key, version string, bypass bool) error {
	in := &s3.DeleteObjectInput{Bucket: &s.where.bucket, Key: s.name(key), VersionId: versionParam(version)}
	if bypass {
		in.BypassGovernanceRetention = &bypass
	}
	_, err := s.client.DeleteObject(ctx, in)
	return err
}

// headListed asks for a version that a list of versions named, and for its lock. Some servers do not tell the lock of a version that is
// hidden unless they are asked for just that.
func (s *S3) headListed(ctx context.Context, v Info) (Info, error) {
	info, err := s.head(ctx, v.Key, v.Version)
	if v.Version == unversioned && errors.Is(err, ErrNotFound) {
		return s.head(ctx, v.Key, "")
	}
	if err != nil || info.Lock != (Lock{}) || v.Version == "" || v.Version == unversioned {
		return info, err
	}
	info.Lock, err = s.askLock(ctx, v.Key, v.Version)
	return info, err
}

// askLock asks for the lock of a version, by the two requests that are for this alone.
func (s *S3) askLock(ctx context.Context, key, version string) (lock Lock, err error) {
	retention, err := s.client.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: &s.where.bucket, Key: s.name(key), VersionId: &version})
	if err == nil && retention.Retention != nil {
		lock.Mode = LockMode(strings.ToLower(string(retention.Retention.Mode)))
		lock.Until = aws.ToTime(retention.Retention.RetainUntilDate).UTC()
	} else if err != nil && !noLock(err) {
		return lock, fmt.Errorf("retention of version %q: %w", version, s.fail(key, err))
	}
	hold, err := s.client.GetObjectLegalHold(ctx, &s3.GetObjectLegalHoldInput{Bucket: &s.where.bucket, Key: s.name(key), VersionId: &version})
	if err == nil && hold.LegalHold != nil {
		lock.Hold = hold.LegalHold.Status == types.ObjectLockLegalHoldStatusOn
	} else if err != nil && !noLock(err) {
		return lock, fmt.Errorf("legal hold of version %q: %w", version, s.fail(key, err))
	}
	return lock, nil
}

// noLock says whether an error means that the object has no lock of the kind that was asked for, or the bucket none at all.
func noLock(err error) bool {
	return code(err) == "NoSuchObjectLockConfiguration" || errors.Is(lockError(err), ErrUnsupported)
}

// lockError is ErrUnsupported where the bucket has no Object Lock.
func lockError(err error) error {
	switch code(err) {
	case "InvalidRequest", "InvalidBucketObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "NotImplemented":
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}

// versionParam leaves an unversioned object unnamed.
func versionParam(id string) *string {
	if id == "" {
		return nil
	}
	return &id
}

// S3Disposer destroys objects in a bucket. It is no Store, and no Store can be turned into one.
type S3Disposer struct{ s *S3 }

func openS3Disposer(ctx context.Context, where location) (*S3Disposer, error) {
	s, err := openS3(ctx, where, Options{})
	if err != nil {
		return nil, err
	}
	return &S3Disposer{s}, nil
}

// Close does nothing: idle connections end by themselves.
func (d *S3Disposer) Close() error { return nil }

// Unhold implements Disposer.
func (d *S3Disposer) Unhold(ctx context.Context, key string) error {
	return d.s.legalHold(ctx, key, types.ObjectLockLegalHoldStatusOff)
}

// DeleteAll implements Disposer. It never asks to bypass a lock, and does not leave it to the store to respect a legal hold: some forget
// it once the retention is over. To destroy what is not there succeeds.
func (d *S3Disposer) DeleteAll(ctx context.Context, key string) error { return d.s.destroy(ctx, key) }

func (s *S3) destroy(ctx context.Context, key string) error {
	versions, err := s.versions(ctx, key)
	if err != nil {
		return err
	}
	if len(versions) == 1 && versions[0].Version == unversioned {
		if _, err := s.head(ctx, key, unversioned); errors.Is(err, ErrNotFound) {
			versions[0].Version = "" // an unversioned bucket of a server that does not know the id it lists
		}
	}
	var faults []error
	for _, v := range slices.Backward(versions) { // the oldest first, so that none comes to light again
		if err := s.deleteVersion(ctx, v); err != nil {
			faults = append(faults, fmt.Errorf("%s: version %q stays: %w", key, v.Version, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	left, err := s.versions(ctx, key)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%s: %d versions are still there after they were deleted", key, len(left))
	}
	return nil
}

func (s *S3) deleteVersion(ctx context.Context, v Info) error {
	var lock Lock
	if !v.Marker {
		info, err := s.headListed(ctx, v)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if lock = info.Lock; lock.Hold {
			return errors.New("under legal hold")
		}
	}
	err := s.deleteID(ctx, v.Key, v.Version, false)
	if err == nil || code(err) == "NoSuchKey" || code(err) == "NoSuchVersion" {
		return nil
	}
	if !lock.Until.IsZero() {
		return fmt.Errorf("locked (%s) until %s: %w", lock.Mode, lock.Until.Format(time.RFC3339), err)
	}
	return err
}
