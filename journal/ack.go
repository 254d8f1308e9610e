package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
)

// The values of ack: what a message must have come into before its client, and its next hop, hear of it.
const (
	AckSpool   = "spool"   // the local disk
	AckArchive = "archive" // the object store, so that the node may lose its disk
)

// awaitTime is how long the archive is waited for with ack: archive. Clients wait ten minutes for the reply to the end of data (RFC 5321
// section 4.5.3.2.6), next hops five for more of it.
const awaitTime = 2 * time.Minute

// ErrNotArchived is returned where ack is archive and the message is in the spool only: the client is told to try again, and nobody is sent the
// message. It is archived later, and what comes of the next try is another record.
var ErrNotArchived = errors.New("message is not in the archive yet")

// ack is what a listener waits for before it acknowledges.
type ack struct {
	custody  Custody
	archive  bool          // ack: archive
	patience time.Duration // with the archive
}

func newAck(cfg Config, custody Custody) ack {
	return ack{custody: custody, archive: cfg.WithDefaults().Ack == AckArchive, patience: awaitTime}
}

// ready says whether a message of size bytes (0: not known) would be taken and acknowledged now.
func (a ack) ready(size int64) error {
	if err := a.custody.Ready(size); err != nil || !a.archive {
		return err
	}
	if err := a.custody.Failing(); err != nil {
		return fmt.Errorf("%w: %v", ErrNotArchived, err)
	}
	return nil
}

// await waits, after custody, for what else there is to wait for. The error of a server that is forced to stop is that of ctx; any other is
// ErrNotArchived. Who hung up will send again, so for him nothing is waited for.
func (a ack) await(ctx context.Context, s *smtpd.Session, id record.ID) error {
	if !a.archive {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	waiting := make(chan struct{})
	defer close(waiting)
	go func() {
		select {
		case <-s.Gone(): // nil: never
			cancel()
		case <-waiting:
		}
	}()
	err := a.custody.Await(wait, id)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", id, context.Cause(ctx))
	case errors.Is(wait.Err(), context.Canceled):
		err = smtpd.ErrClientGone
	}
	return fmt.Errorf("%w: %v", ErrNotArchived, err)
}

// notSent tells of a message whose next hop never got the end of it, because it was not acknowledged here.
func notSent(hop *nexthop.Transaction, why error) *record.Delivery {
	hop.Close()
	d := hop.Delivery()
	d.Outcome, d.Reason = record.Refused, strings.TrimSuffix("not sent: "+why.Error()+"; "+d.Reason, "; ")
	for i := range d.Recipients {
		if r := &d.Recipients[i]; r.Time.IsZero() {
			r.Time = record.Now()
		}
	}
	return d
}
