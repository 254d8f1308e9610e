package main

import (
	"context"

	"github.com/holdfast-archive/holdfast/archive"
)

// What a server does for its archive beside taking mail: it anchors the ledger. None of it holds up mail, and a failure of it stops nothing:
// it is logged and counted.

// startCare begins it.
func (n *node) startCare(ctx context.Context) error {
	keys, err := archive.LoadKeys(n.cfg.KeysDir)
	if err != nil {
		return err
	}
	n.caring, n.endCare = context.WithCancel(context.Background())
	return n.startAnchors(ctx, keys)
}

// stopCare ends it and waits.
func (n *node) stopCare() {
	if n.endCare != nil {
		n.endCare()
		n.care.Wait()
	}
}
