package search

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/bundle"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

// ExportRequest is one export as a person put it.
type ExportRequest struct {
	Query    string
	Location *time.Location // of dates without a zone; nil: UTC
	Place    string         // of the bundle: a folder, to be made; an absolute path
	Bundle   bundle.Request // how; what concerns the query is filled in here
	Review   bundle.Review  // nil: nothing is withheld
	Software string
	Progress func(done, total int64) // messages; nil: nobody asks
}

// exportPage is how many hits are asked of the index at a time.
const exportPage = 10_000

// Export writes the act and then a bundle. The export of the same that was cut off at the same place is gone on with, with an act of its own.
// Errors: *syntax.Error, audit.ErrNotRecorded, index.ErrTooBroad, ErrNoSet, bundle.ErrExists, bundle.ErrOther, bundle.ErrRequest,
// bundle.ErrState.
func (s *Service) Export(ctx context.Context, by record.Actor, r ExportRequest) (res *bundle.Result, err error) {
	if r.Location == nil {
		r.Location = time.UTC
	}
	parsed, err := s.parse(r.Query, r.Location)
	if err != nil {
		return nil, err
	}
	req := r.Bundle
	req.Typed, req.Query, req.Zone = r.Query, parsed.Query.String(), r.Location.String()
	job, err := bundle.Begin(r.Place, req)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	defer func() { err = errors.Join(err, job.Close()) }()
	if earlier := job.Resumed(); earlier != nil {
		req = *earlier
	}
	act, err := s.Audit.Record(ctx, record.ActExport, by, map[string]any{
		"typed": req.Typed, "canonical": req.Query, "zone": req.Zone, "matter": req.Matter, "place": r.Place, "resumed": job.Resumed() != nil,
		"withheld": req.Withheld,
	})
	if err != nil {
		return nil, err
	}
	var sel bundle.Selection
	if job.Resumed() == nil {
		if sel, err = s.selection(ctx, parsed, &req); err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
	}
	text, err := json.Marshal(act)
	if err != nil {
		return nil, err
	}
	if err := job.Start(req, sel, r.Software, text); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	o := bundle.Options{Archive: s.Archive, Review: r.Review}
	if r.Progress != nil {
		o.Progress = func(done, total, _ int64) { r.Progress(done, total) }
	}
	if res, err = job.Run(ctx, o); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	if err := s.Audit.Do(ctx, record.ActExportDone, by, map[string]any{
		"export": act.ID.String(), "place": r.Place, "tagmanifest_sha256": res.SHA256.String(), "counts": res.Counts,
	}); err != nil {
		return nil, err
	}
	if err := job.Deliver(); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return res, nil
}

// selection asks the index for all hits, and finds their places in the ledger as it is afterwards.
func (s *Service) selection(ctx context.Context, parsed syntax.Parsed, req *bundle.Request) (bundle.Selection, error) {
	sel := bundle.Selection{Numbers: roaring64.New()}
	for _, t := range s.Progress(ctx) {
		req.Index = append(req.Index, bundle.Through{Log: t.Log, Seq: t.Seq})
	}
	ask := index.Request{Query: parsed.Query, Sort: index.ReceivedAsc, Limit: exportPage, Within: Timeout}
	var err error
	if ask.Sets, err = s.sets(ctx, parsed.Query); err != nil {
		return sel, err
	}
	var snap *archive.Snapshot
	for {
		found, err := s.Index.Search(ctx, ask)
		if err != nil {
			return sel, err
		}
		if snap == nil { // after the first answer: what it found is archived by now, or is waiting to be
			if snap, err = s.Archive.Snapshot(ctx); err != nil {
				return sel, err
			}
			req.Unsure = found.Unknown
		}
		for i := range found.Hits {
			number, archived, err := snap.Find(found.Hits[i].ID)
			switch {
			case err != nil:
				return sel, err
			case archived:
				sel.Numbers.Add(number)
			default:
				req.Pending++
			}
		}
		if len(found.Hits) < ask.Limit {
			sel.Log, sel.Commit = snap.Checkpoint.Log, snap.Checkpoint.Commit
			return sel, nil
		}
		ask.After = &found.Hits[len(found.Hits)-1].Cursor
	}
}
