package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/anchor"
	"github.com/holdfast-archive/holdfast/archive/replica"
	"github.com/holdfast-archive/holdfast/archive/scrub"
)

// care is what a server does for its archive beside taking mail: it anchors the ledger, reads what is stored, and keeps a second copy. None of
// it holds up mail, and a failure of it stops nothing: it is logged, counted, and shown.
type care struct {
	sync.WaitGroup
	ctx context.Context
	end context.CancelFunc

	anchors atomic.Pointer[anchor.Maker] // nil: none are made
	scrub   atomic.Pointer[scrub.Scrubber]
}

// startCare begins it.
func (n *node) startCare(ctx context.Context) error {
	keys, err := archive.LoadKeys(n.cfg.KeysDir)
	if err != nil {
		return err
	}
	n.care.ctx, n.care.end = context.WithCancel(context.Background())
	if err := n.startScrub(keys); err != nil {
		return err
	}
	if n.replica != nil {
		n.care.Go(func() { n.replica.Run(n.care.ctx) })
	}
	return n.startAnchors(ctx, keys)
}

// graceCare is how long a stop waits for it: a file system that hangs must not keep mail from being archived.
const graceCare = 10 * time.Second

// stopCare ends it and waits.
func (n *node) stopCare() {
	if n.care.end == nil {
		return
	}
	n.care.end()
	done := make(chan struct{})
	go func() { n.care.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(graceCare):
		n.log.Warn("scrub, anchors or second copy do not end; the stop goes on without them")
	}
}

// startScrub reads the node's own log and that of all nodes, and what they name.
func (n *node) startScrub(keys *archive.Keys) error {
	s, err := scrub.New(scrub.Options{
		Config: n.cfg.Scrub, Store: n.store, Archive: n.archive.Init().Archive, Verifier: keys.LedgerVerifier(),
		Logs: []string{archive.LogActs, archive.NodeLog(n.cfg.Node)}, Path: filepath.Join(n.cfg.DataDir, "scrub.json"),
		Busy: n.mail.busy, Log: n.log.With("part", "scrub"), Registry: n.reg, Now: time.Now,
	})
	if err != nil {
		return err
	}
	n.care.scrub.Store(s)
	n.care.Go(func() { s.Run(n.care.ctx) })
	return nil
}

// careStatus is what GET /api/v1/care answers.
type careStatus struct {
	Notices []string       `json:"notices"`
	Scrub   *scrub.Status  `json:"scrub"`
	Anchor  *anchor.Status `json:"anchor"` // null: no anchors are made

	Replica *replica.Status `json:"replica"` // null: there is no second copy
}

func (n *node) careStatus() careStatus {
	c := careStatus{Notices: n.notices()}
	if s := n.care.scrub.Load(); s != nil {
		status := s.Status()
		c.Scrub = &status
	}
	if m := n.care.anchors.Load(); m != nil {
		status := m.Status()
		c.Anchor = &status
	}
	if n.replica != nil {
		status := n.replica.Status()
		c.Replica = &status
	}
	return c
}

// notices says what whoever looks at the archive should know.
func (n *node) notices() []string {
	list := []string{}
	if s := n.care.scrub.Load(); s != nil {
		if status := s.Status(); len(status.Findings) > 0 {
			list = append(list, fmt.Sprintf("the scrub has found %d objects altered or missing, first %s (%s). holdfast verify names them all.",
				len(status.Findings)+status.More, status.Findings[0].Key, status.Findings[0].Kind))
		}
	}
	if m := n.care.anchors.Load(); m != nil && m.Status().Conflict {
		list = append(list, "the ledger does not go on from its last anchor: it was set back or rewritten. holdfast anchor check says where.")
	}
	if n.replica != nil {
		if faults := n.replica.Status().Faults; len(faults) > 0 {
			list = append(list, fmt.Sprintf("%d objects could not be copied to the second copy, first %s. holdfast replicate --repair reads both and mends.",
				len(faults), faults[0].Key))
		}
	}
	return list
}
