package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/retention"
	"github.com/holdfast-archive/holdfast/retention/keeper"
)

// openLengthener makes what has the locks in the store follow the policies; nil where nothing is locked.
func (n *node) openLengthener() *keeper.Lengthener {
	if n.cfg.Archive.Lock() == object.LockNone {
		return nil
	}
	log := archive.NodeLog(n.cfg.Node)
	l := keeper.NewLengthener(keeper.LockOptions{
		InForce: func() (p *retention.Policies, holds []retention.Hold, err error) {
			err = n.book.Read(func() { p, holds = n.rules.PoliciesInForce(), n.rules.HoldsInForce() })
			return p, holds, err
		},
		Search:  n.index.Search,
		Indexed: func(ctx context.Context) (uint64, error) { return n.indexed(ctx, log) },
		Entries: func(ctx context.Context, from uint64) iter.Seq2[archive.Replayed, error] {
			return n.archive.Replay(ctx, log, from, func(*record.Entry) bool { return false })
		},
		Lock:   n.packLock,
		Extend: n.store.Extend,
		Say: func(ctx context.Context, packs []keeper.Longer, alone record.IDs) error {
			return n.audit.Do(ctx, record.ActLock, keeper.Schedule, map[string]any{"packs": packs, "alone": alone})
		},
		Path: filepath.Join(n.cfg.DataDir, "locks.json"), Now: time.Now, Log: n.log.With("part", "locks"),
	})
	for name, of := range map[string]struct {
		help string
		get  func(keeper.LockState) float64
	}{
		"holdfast_locks_behind_entries": {"Entries of this node's log whose packs have not been looked at since policies changed.", func(s keeper.LockState) float64 { return float64(s.Total - s.Entries) }},
		"holdfast_locks_alone_records":  {"Records that are to be kept longer than their pack is locked.", func(s keeper.LockState) float64 { return float64(s.Alone) }},
		"holdfast_locks_over_records":   {"Records that a lock keeps for more than a month beyond their time.", func(s keeper.LockState) float64 { return float64(s.OverLocked) }},
		"holdfast_locks_over_flags":     {"Packs under legal hold in the store of which no hold in force holds a record.", func(s keeper.LockState) float64 { return float64(s.OverFlagged) }},
	} {
		n.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: of.help}, func() float64 { return of.get(l.State()) }))
	}
	return l
}

// indexed is how many entries of a log are in the index.
func (n *node) indexed(ctx context.Context, log string) (uint64, error) {
	for _, t := range n.index.through(ctx) {
		if t.Log == log {
			return t.Seq, nil
		}
	}
	return 0, errors.New("it is not known yet how far the index is")
}

// packLock asks the store for the lock of a pack. One that is hidden is there.
func (n *node) packLock(ctx context.Context, key string) (object.Lock, error) {
	info, err := n.store.Stat(ctx, key)
	if !errors.Is(err, object.ErrNotFound) {
		return info.Lock, err
	}
	versions, verr := n.store.Versions(ctx, key)
	if verr != nil {
		return object.Lock{}, verr
	}
	for _, v := range versions {
		if !v.Marker {
			return object.Lock{}, nil // Extend looks at each version
		}
	}
	return object.Lock{}, err
}

// lockReport is what `holdfast retention locks --json` prints.
type lockReport struct {
	ObjectLock string            `json:"object_lock"`
	State      *keeper.LockState `json:"state,omitempty"` // absent: nothing is locked
}

func (a *governanceAPI) locks(r *http.Request, by record.Actor) (any, error) {
	if err := a.viewed(r, by, "locks", nil); err != nil {
		return nil, err
	}
	if a.lengthener == nil {
		return lockReport{ObjectLock: "none"}, nil
	}
	s := a.lengthener.State()
	return lockReport{string(a.cfg.Archive.Lock()), &s}, nil
}

func retentionLocksCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:   "locks",
		Short: "Say how far the locks in the store follow the policies, and what they keep too long",
		Long: `Show how far the locks of packs have been extended since policies, holds or the quarter of the year changed, and what is kept beyond its own
time: by a lock, which can't be shortened, or by a legal hold in the store that no hold in force asks for any more.`,
		Example: "  holdfast retention locks\n  holdfast retention locks --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var report lockReport
			if err := ask(cmd, o, "/retention/locks", nil, nil, "", &report); err != nil {
				return err
			}
			if o.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			}
			return printLocks(cmd.OutOrStdout(), &report)
		},
	}, o)
}

func printLocks(w io.Writer, r *lockReport) error {
	if r.State == nil {
		_, err := fmt.Fprintln(w, "nothing is locked (archive.object_lock: none): this program alone keeps what policies and holds keep")
		return err
	}
	s := r.State
	fmt.Fprintf(w, "%s: %d of %d entries of the log are looked at, %d packs, since %s: %d locks extended\n",
		r.ObjectLock, s.Entries, s.Total, s.Packs, s.Began.Format("2006-01-02 15:04"), s.Extended)
	if s.Alone > 0 {
		fmt.Fprintf(w, "%d records are to be kept longer than their pack is locked, for few in it are: this program keeps them from then on\n", s.Alone)
	}
	if s.OverLocked > 0 {
		fmt.Fprintf(w, "kept too long: %d records by the lock of their pack, the last until %s\n", s.OverLocked, s.Furthest.Format("2006-01-02"))
	}
	if s.OverFlagged > 0 {
		fmt.Fprintf(w, "kept too long: %d packs by a legal hold in the store that no hold in force asks for\n", s.OverFlagged)
	}
	return nil
}
