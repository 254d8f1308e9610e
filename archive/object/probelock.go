package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

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

// tryLocks tries what a lock of this mode forbids, with the credentials of this process. thorough takes some seconds more: it waits for
// a retention to end under a legal hold.
func (p *probe) tryLocks(ctx context.Context, mode LockMode, thorough bool) error {
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
	if err := p.tryRetention(ctx, s, mode); err != nil {
		return err
	}
	if thorough {
		if err := p.tryHold(ctx, s, mode); err != nil {
			return err
		}
	}
	p.WORM = thorough && len(p.Weak) == 0
	return nil
}

// tryRetention tries to shorten a lock, to weaken it and to delete under it. The object stays until its minute is over.
func (p *probe) tryRetention(ctx context.Context, s *S3, mode LockMode) error {
	key := p.run + "-locked"
	until := time.Now().Add(time.Minute)
	info, err := s.Create(ctx, key, strings.NewReader("x"), Lock{Mode: mode, Until: until})
	if err != nil {
		return fmt.Errorf("create with object_lock: %s: %w", mode, err)
	}
	p.skew = time.Until(info.Time)
	p.Leftovers = append(p.Leftovers, fmt.Sprintf("%s: locked until %s", key, until.UTC().Format(time.RFC3339)))
	retain := func(to LockMode, until time.Time, bypass bool) error {
		return s.retain(ctx, key, info.Version, to, until, bypass)
	}
	faults := []error{
		p.forbidden("a retention was shortened", retain(mode, until.Add(-20*time.Second), false)),
		p.forbidden("a locked version was deleted", s.deleteID(ctx, key, info.Version, false)),
	}
	if mode == LockCompliance { // who may bypass governance is for the bucket's owner to say
		faults = append(faults,
			p.forbidden("a compliance lock became a governance lock", retain(LockGovernance, until, true)),
			p.forbidden("a version under a compliance lock was deleted as if under governance", s.deleteID(ctx, key, info.Version, true)))
	}
	return errors.Join(faults...)
}

// tryHold tries to delete under a legal hold, during and after a retention.
func (p *probe) tryHold(ctx context.Context, s *S3, mode LockMode) error {
	const retention = 3 * time.Second
	key := p.run + "-held"
	until := time.Now().Add(p.skew + retention) // by the clock of the store
	info, err := s.Create(ctx, key, strings.NewReader("x"), Lock{Mode: mode, Until: until, Hold: true})
	if err != nil {
		return fmt.Errorf("create with object_lock: %s and a legal hold: %w", mode, err)
	}
	defer p.remove(ctx, key)
	defer s.legalHold(ctx, key, types.ObjectLockLegalHoldStatusOff) // what fails here shows in remove
	if err := p.forbidden("a version under legal hold was deleted", s.deleteID(ctx, key, info.Version, false)); err != nil {
		return err
	}
	t := time.NewTimer(retention + 2*time.Second)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return p.forbidden("a version under legal hold was deleted once its retention was over", s.deleteID(ctx, key, info.Version, false))
}

// forbidden takes down what was done although it is forbidden. A refusal is what is wanted; any other error leaves it open, and is given
// back.
func (p *probe) forbidden(what string, err error) error {
	switch {
	case err == nil:
		p.Weak = append(p.Weak, what)
	case status(err)/100 != 4:
		return fmt.Errorf("whether %s can't be told: %w", what, err)
	}
	return nil
}
