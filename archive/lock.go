package archive

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/object"
)

// Object Lock. A pack is locked, in the PUT that makes it, until the last of its records may expire as far as that is known then, and is
// under legal hold where a hold matches one of them. What is kept for ever, or for longer than stores may lock at once, is locked for a
// time and extended. A commit of the ledger is locked as long as acts are kept. What is derived (tiles, checkpoint) is not locked: it can be
// made again.
const (
	// aYear is for how long at a time packs are locked that are kept for ever.
	aYear = 366 * 24 * time.Hour
	// atOnce is for how long a store is asked to lock: less than S3 takes, which is a hundred years.
	atOnce = 50 * aYear
	// aDay is for how long at least: what waited for the store until its time was over is locked all the same, and no lock is in the past.
	aDay = 24 * time.Hour
	// ledgerYears is how long commits are locked, as long as acts are kept.
	ledgerYears = 10
)

// Lock is the lock of a new pack whose last record may expire then (zero: never), of which some record is held.
func (a *Archive) Lock(until time.Time, held bool) object.Lock {
	mode := a.cfg.Lock()
	if mode == object.LockNone {
		return object.Lock{}
	}
	return object.Lock{Mode: mode, Until: LockedTo(until, a.now()), Hold: held}
}

// LockedTo is until when an object is locked, now, that is to be kept until then; zero: for ever.
func LockedTo(until, now time.Time) time.Time {
	switch {
	case until.IsZero():
		until = now.Add(aYear)
	case until.Before(now.Add(aDay)):
		until = now.Add(aDay)
	case until.After(now.Add(atOnce)):
		until = now.Add(atOnce)
	}
	return until.UTC()
}

// LedgerLock is the lock of a new commit, and of what bears witness to it.
func LedgerLock(c Config, now time.Time) object.Lock {
	mode := c.Lock()
	if mode == object.LockNone {
		return object.Lock{}
	}
	return object.Lock{Mode: mode, Until: now.UTC().AddDate(ledgerYears, 0, 0)}
}

// Foreign counts what others did to a store that has versions: the archive writes each object once, so that a second version of a pack or
// a commit is another's, and so is every delete marker. Neither destroys, for reads go by the SHA-256; but somebody tried.
type Foreign struct {
	Markers  int // objects hidden
	Versions int // objects written over
}

// foreignTold is how many are named in the log, of each kind.
const foreignTold = 20

// LookForForeign lists all versions in the store, says in the log what others put there, and sets holdfast_object_delete_markers and
// holdfast_object_foreign_versions.
func (a *Archive) LookForForeign(ctx context.Context) (f Foreign, err error) {
	for _, prefix := range []string{"packs/", "ledger/"} {
		last, versions := "", 0
		for info, err := range a.store.ListVersions(ctx, prefix) {
			if err != nil {
				return f, fmt.Errorf("look for delete markers: %w", err)
			}
			if object.CheckReplace(info.Key) == nil { // the checkpoint has many
				continue
			}
			if info.Key != last {
				last, versions = info.Key, 0
			}
			if info.Marker {
				if f.Markers++; f.Markers <= foreignTold {
					a.slog.Error("an object is hidden by a delete marker: somebody with access to the store deleted it", "key", info.Key, "version", info.Version, "time", info.Time)
				}
				continue
			}
			if versions++; versions == 2 {
				if f.Versions++; f.Versions <= foreignTold {
					a.slog.Error("an object was written over by somebody with access to the store", "key", info.Key, "version", info.Version, "time", info.Time)
				}
			}
		}
	}
	a.metrics.markers.Set(float64(f.Markers))
	a.metrics.versions.Set(float64(f.Versions))
	return f, nil
}

// WatchForForeign looks now and then, for the first time after a minute, until ctx ends.
func (a *Archive) WatchForForeign(ctx context.Context, every time.Duration) {
	for pause := time.Minute; sleep(ctx, pause) == nil; pause = every {
		if _, err := a.LookForForeign(ctx); err != nil && ctx.Err() == nil {
			a.slog.Warn("the versions in the store can't be listed; it is tried again later", "err", err)
		}
	}
}

func newForeignGauges() (markers, versions prometheus.Gauge) {
	return prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_object_delete_markers", Help: "Objects of the archive that others hid by a delete marker.",
		}), prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_object_foreign_versions", Help: "Objects of the archive that others wrote over.",
		})
}
