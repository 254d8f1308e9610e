package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive/object"
)

// publishTimeout bounds what publishing may add to an Append, which has succeeded by then.
const publishTimeout = 15 * time.Second

// queue takes a full tile for publishing.
func (l *Log) queue(t tlog.Tile, hashes []tlog.Hash) {
	l.full = append(l.full, fullTile{t, tileData(hashes)})
}

// publish publishes what is due: full tiles now, the rest if force or when PublishEvery has passed. A failure is no failure of the log:
// it is logged and tried again, full tiles with the next Append, the rest after PublishEvery and by Close. The caller holds mu.
func (l *Log) publish(ctx context.Context, force bool) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	now := l.c.Now()
	since := now.Sub(l.publishTried)
	due := force || since >= l.c.PublishEvery || since < 0 // the clock was set back
	var err error
	if due {
		l.publishTried = now
		err = l.publishAll(ctx)
	} else {
		err = l.publishFull(ctx)
	}
	if err != nil {
		l.c.Logger.WarnContext(ctx, "ledger: publishing failed, will try again", "log", l.log, "err", err)
	}
	if l.lost == nil && !l.closed && l.timer == nil && (len(l.full) > 0 || l.publishedSize != l.Head().Size) {
		l.timer = time.AfterFunc(l.c.PublishEvery, l.tick)
	}
}

// tick publishes when no Append has come to do it.
func (l *Log) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	if l.closed || l.lost != nil {
		return
	}
	l.publish(context.Background(), true)
}

// publishAll publishes the tiles of the tree and then its checkpoint.
func (l *Log) publishAll(ctx context.Context) error {
	if err := l.publishFull(ctx); err != nil {
		return err
	}
	head := l.Head()
	if l.publishedSize == head.Size {
		return nil
	}
	for _, t := range tlog.NewTiles(tileHeight, int64(l.publishedSize), int64(head.Size)) {
		if t.W == tileWidth {
			continue
		}
		if err := l.createTile(ctx, t, tileData(l.edge.partial(t))); err != nil {
			return err
		}
	}
	cp, err := l.published(ctx)
	if err != nil {
		return err
	}
	if cp != nil && cp.Size > head.Size {
		return l.lose(fmt.Errorf("log %s: %w: its checkpoint has %d entries, ours %d", l.log, ErrLost, cp.Size, head.Size))
	}
	if err := l.c.Publisher.Replace(ctx, checkpointKey(l.log), head.Note); err != nil {
		return fmt.Errorf("%s: %w", checkpointKey(l.log), err)
	}
	l.publishedSize = head.Size
	return nil
}

// publishFull creates the full tiles that are queued.
func (l *Log) publishFull(ctx context.Context) error {
	for len(l.full) > 0 {
		if err := l.createTile(ctx, l.full[0].tile, l.full[0].data); err != nil {
			return err
		}
		l.full = l.full[1:]
	}
	return nil
}

// createTile writes a tile. One that is there with other bytes was altered: nothing is ever overwritten, so it stays, for Verify to name.
func (l *Log) createTile(ctx context.Context, t tlog.Tile, data []byte) error {
	key := tileKey(l.log, t)
	_, err := l.store.Create(ctx, key, bytes.NewReader(data), object.Lock{})
	if errors.Is(err, object.ErrConflict) {
		l.c.Logger.ErrorContext(ctx, "ledger: tile is not what the commits say", "key", key)
		return nil
	} else if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
