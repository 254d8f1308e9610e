package bleve

import (
	"context"
	"errors"
	"time"

	"github.com/blevesearch/bleve/v2/index/scorch/mergeplan"
)

// Bleve merges small segments by itself as they come, up to limits.segment documents. What is larger is merged here, in quiet hours: a shard that
// nothing has come to for a while into one segment, others as far as the sizes of their segments ask for. Where many have gathered, it is done at any
// hour: a search looks into each.
const (
	mergeStep   = time.Minute
	settledTime = time.Hour // a shard that no batch has come to for so long is merged whole
	manyParts   = 40        // segments of one shard that are merged at any hour
)

// mergeInQuietHours merges until the index is closed.
func (b *Backend) mergeInQuietHours() {
	defer close(b.merged)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-b.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(mergeStep):
		}
		b.mergeShards(ctx)
	}
}

// mergeShards looks after each shard once.
func (b *Backend) mergeShards(ctx context.Context) {
	for name, m := range b.meta.list() {
		if ctx.Err() != nil {
			return
		}
		if m.Batch == 0 || m.Merged == m.Batch {
			continue
		}
		if err := b.mergeShard(ctx, name, m); err != nil && ctx.Err() == nil {
			b.log.Warn("a shard of the index is not merged; its searches are slower", "shard", name, "err", err)
		}
	}
}

// mergeShard merges the segments of a shard where it is time for it. Outside of quiet hours it opens none.
func (b *Backend) mergeShard(ctx context.Context, name string, m shardMeta) error {
	quiet := b.quiet()
	s := b.opened(name, m.folder(name))
	if s == nil {
		if !quiet {
			return nil
		}
		var err error
		if s, err = b.acquire(name); err != nil {
			return err
		}
	}
	defer b.release(s)
	b.shardsMu.Lock()
	settled := time.Since(s.changed) >= settledTime
	b.shardsMu.Unlock()
	if !quiet && s.parts() < manyParts {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if quiet {
		go b.untilLoud(ctx, cancel)
	}
	options := mergeplan.DefaultMergePlanOptions
	if settled {
		options = mergeplan.SingleSegmentMergePlanOptions
	}
	if !settled || s.parts() > 1 {
		if err := s.ix.ForceMerge(ctx, &options); err != nil {
			return err
		}
	}
	if !settled || s.parts() > 1 {
		return nil // more comes, or it was interrupted
	}
	err := b.meta.change(name, s.folder, func(now *shardMeta) { now.Merged = m.Batch })
	if errors.Is(err, errMoved) {
		return nil
	}
	return err
}

// untilLoud ends a merge when the quiet hours do. It is done again then from where it began.
func (b *Backend) untilLoud(ctx context.Context, cancel func()) {
	for b.quiet() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
	cancel()
}

// parts is how many segments the shard has, one with deletions counting as two: what was deleted goes with a merge.
func (s *shard) parts() (n int) {
	snap := s.snapshot()
	defer snap.Close()
	for _, p := range snap.Segments() {
		n++
		if p.Deleted() != nil && !p.Deleted().IsEmpty() {
			n++
		}
	}
	return n
}
