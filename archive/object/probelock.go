package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// putDamaged sends a body with the checksum of another.
func (s *S3) putDamaged(ctx context.Context, key string) error {
	up, err := newUpload(ctx, key, strings.NewReader("whole"), Lock{})
	if err != nil {
		return err
	}
	in := s.putInput(key, up, false)
	in.Body = bytes.NewReader([]byte("whale"))
	if _, err = s.client.PutObject(ctx, in); err != nil {
		return s.fail(key, err)
	}
	return nil
}

// tryLocks tries what a lock of this mode forbids, with the credentials of this process. It takes some seconds: a legal hold is tried once
// the retention under it is over.
func (p *probe) tryLocks(ctx context.Context, mode LockMode) error {
	s, ok := p.Keeper.(*S3)
	if !ok {
		return fmt.Errorf("archive.object_lock: %s, and this store can't lock: %w", mode, ErrUnsupported)
	}
	versioning, err := s.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &s.where.bucket})
	if err != nil {
		return fmt.Errorf("versioning of the bucket: %w", err)
	}
	if versioning.Status != types.BucketVersioningStatusEnabled {
		return fmt.Errorf("archive.object_lock: %s, and the bucket keeps no versions: %w", mode, ErrUnsupported)
	}
	// The clock of the store counts. A throwaway object without a lock shows it, to about a second.
	clock, err := s.Create(ctx, p.run+"-clock", strings.NewReader("x"), Lock{})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	p.skew = time.Until(clock.Time)
	p.remove(ctx, clock.Key)

	held, over, err := p.holdBriefly(ctx, s, mode)
	if err != nil {
		return err
	}
	defer p.remove(ctx, held.Key)
	defer s.legalHold(ctx, held.Key, types.ObjectLockLegalHoldStatusOff) // what fails here shows in remove
	if err := p.tryRetention(ctx, s, mode); err != nil {
		return err
	}
	if err := p.trySuspend(ctx, s); err != nil {
		return err
	}
	if err := p.tryHold(ctx, s, held, over); err != nil {
		return err
	}
	p.WORM = len(p.Weak) == 0
	return nil
}

// tryRetention tries to shorten a lock, to weaken it, to write over what is locked, to hide it, and to delete it. The object stays until
// its minute is over.
func (p *probe) tryRetention(ctx context.Context, s *S3, mode LockMode) error {
	until := time.Now().Add(p.skew + time.Minute)
	locked := func(name string) (Info, error) {
		info, err := s.Create(ctx, p.run+name, strings.NewReader("x"), Lock{Mode: mode, Until: until})
		if err != nil {
			return info, fmt.Errorf("create with object_lock: %s: %w", mode, err)
		}
		p.Leftovers = append(p.Leftovers, fmt.Sprintf("%s: locked until %s", info.Key, until.UTC().Format(time.RFC3339)))
		return info, nil
	}
	o, err := locked("-locked")
	if err != nil {
		return err
	}
	shorter := until.Add(-20 * time.Second)
	faults := []error{
		p.forbidden("a retention was shortened", s.retain(ctx, o.Key, o.Version, mode, shorter, false)),
		p.forbidden("a locked version was written over", p.overwrite(ctx, s, o)),
		p.forbidden("a locked version was lost behind a delete marker", p.hide(ctx, s, o)),
		p.forbidden("a locked version was deleted", s.deleteID(ctx, o.Key, o.Version, false)),
		p.forbidden("a locked version was deleted, as one of several", s.deleteSeveral(ctx, o, false)),
	}
	if mode == LockCompliance {
		faults = append(faults,
			p.forbidden("a compliance lock was shortened as if it were a governance lock", s.retain(ctx, o.Key, o.Version, mode, shorter, true)),
			p.forbidden("a compliance lock became a governance lock", s.retain(ctx, o.Key, o.Version, LockGovernance, until, true)),
			p.forbidden("a version under a compliance lock was deleted as if under governance", s.deleteID(ctx, o.Key, o.Version, true)),
			p.forbidden("a version under a compliance lock was deleted as if under governance, as one of several", s.deleteSeveral(ctx, o, true)))
		return errors.Join(faults...)
	}
	// Whom the bucket's owner allows to bypass governance may do so: these credentials should not be among them.
	if o, err = locked("-bypass"); err != nil {
		return errors.Join(append(faults, err)...)
	}
	return errors.Join(append(faults, p.forbidden("these credentials may bypass a governance lock", s.deleteID(ctx, o.Key, o.Version, true)))...)
}

// errKept is what an act comes to that was carried out and did no harm.
var errKept = errors.New("what is locked is there as it was")

// overwrite puts other bytes under the key of an object, as somebody does who knows nothing of conditional writes.
func (p *probe) overwrite(ctx context.Context, s *S3, o Info) error {
	up, err := newUpload(ctx, o.Key, strings.NewReader("other"), Lock{})
	if err == nil {
		_, err = s.put(ctx, o.Key, up, false)
	}
	if err != nil {
		return err
	}
	return p.still(ctx, s, o)
}

// hide puts a delete marker on top of an object.
func (p *probe) hide(ctx context.Context, s *S3, o Info) error {
	if err := s.deleteID(ctx, o.Key, "", false); err != nil {
		return err
	}
	return p.still(ctx, s, o)
}

// still is errKept where a version has its byte.
func (p *probe) still(ctx context.Context, s *S3, o Info) error {
	r, err := s.OpenVersion(ctx, o.Key, o.Version, 0, -1)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if string(got) == "x" {
		return errKept
	}
	return nil
}

// trySuspend tries to suspend the versions of the bucket, without which an overwrite destroys. A store that lets this happen is told at
// once to keep versions again.
func (p *probe) trySuspend(ctx context.Context, s *S3) error {
	err := s.setVersioning(ctx, types.BucketVersioningStatusSuspended)
	if err == nil {
		for try := 1; ; try++ {
			again := s.setVersioning(context.WithoutCancel(ctx), types.BucketVersioningStatusEnabled)
			if again == nil {
				break
			}
			if try == 5 {
				return fmt.Errorf("the store let the versions of bucket %s be suspended, and does not let them be kept again: enable versioning by hand: %w", s.where.bucket, again)
			}
		}
	}
	return p.forbidden("the versions of the bucket were suspended", err)
}

func (s *S3) setVersioning(ctx context.Context, to types.BucketVersioningStatus) error {
	_, err := s.client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
		Bucket: &s.where.bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: to},
	})
	return err
}

// deleteSeveral deletes a version by the request for several.
func (s *S3) deleteSeveral(ctx context.Context, o Info, bypass bool) error {
	in := &s3.DeleteObjectsInput{Bucket: &s.where.bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: s.name(o.Key), VersionId: versionParam(o.Version)}}}}
	if bypass {
		in.BypassGovernanceRetention = &bypass
	}
	out, err := s.client.DeleteObjects(ctx, in)
	if err == nil && len(out.Errors) > 0 {
		return fmt.Errorf("%w: %s", errKept, aws.ToString(out.Errors[0].Message))
	}
	return err
}

// holdBriefly makes an object under legal hold, with a retention that is soon over.
func (p *probe) holdBriefly(ctx context.Context, s *S3, mode LockMode) (o Info, over time.Time, err error) {
	const retention = 3 * time.Second
	over = time.Now().Add(retention + 2*time.Second)
	o, err = s.Create(ctx, p.run+"-held", strings.NewReader("x"), Lock{Mode: mode, Until: time.Now().Add(p.skew + retention), Hold: true})
	if err != nil {
		err = fmt.Errorf("create with object_lock: %s and a legal hold: %w", mode, err)
	}
	return o, over, err
}

// tryHold tries to delete under a legal hold alone, once the retention is over.
func (p *probe) tryHold(ctx context.Context, s *S3, o Info, over time.Time) error {
	t := time.NewTimer(time.Until(over))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	fresh, err := s.Create(ctx, p.run+"-flag", strings.NewReader("x"), Lock{Hold: true})
	if err != nil {
		return fmt.Errorf("create with a legal hold: %w", err)
	}
	defer p.remove(ctx, fresh.Key)
	defer s.legalHold(ctx, fresh.Key, types.ObjectLockLegalHoldStatusOff)
	return errors.Join(
		p.forbidden("a version under legal hold was deleted", s.deleteID(ctx, fresh.Key, fresh.Version, false)),
		p.forbidden("a version under legal hold was deleted once its retention was over", s.deleteID(ctx, o.Key, o.Version, false)))
}

// forbidden takes down what was tried, and whether it was done although it is forbidden. A refusal is what is wanted, for whatever reason;
// any other error leaves it open, and is given back.
func (p *probe) forbidden(what string, err error) error {
	switch {
	case err == nil:
		p.Weak = append(p.Weak, what)
	case !errors.Is(err, errKept) && status(err)/100 != 4 && code(err) != "NotImplemented":
		return fmt.Errorf("whether %s can't be told: %w", what, err)
	}
	p.Tried = append(p.Tried, what)
	return nil
}
