package sweep

import (
	"fmt"
	"io"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/retention"
)

// WriteCertificate writes what was destroyed by one act as a page to print. All that it says stands in the act and in the ledger, where
// anybody who has the archive's public key can check it.
func WriteCertificate(w io.Writer, archiveID string, d *retention.DestroyedDoc) error {
	p := printer{w: w}
	p.line("CERTIFICATE OF DESTRUCTION")
	p.line("")
	p.line("Archive        %s", archiveID)
	p.line("Log            %s", d.Log)
	p.line("Act            %s (destroying)", d.Act)
	p.line("Begun          %s, by %s", d.Began.UTC().Format(time.RFC3339), actor(d.By))
	p.line("Ended          %s", d.Ended.UTC().Format(time.RFC3339))
	p.line("Plan           %s, by %s", d.Plan, actor(d.Planned))
	if d.Approved != nil {
		p.line("Approved       %s, by %s: %s", d.Approved.At.UTC().Format(time.RFC3339), actor(d.Approved.By), d.Approved.Reason)
	}
	p.line("Destroyed      %d records, %d bytes of messages", d.Records, d.Bytes)
	if d.Moved > 0 {
		p.line("Moved          %d records that lay beside them and are kept", d.Moved)
	}
	p.line("")
	p.line("The packs that are gone, each with its SHA-256, and the entries of the log whose records they held:")
	for i := range d.Packs {
		one := &d.Packs[i]
		p.line("")
		p.line("  %s", one.Key)
		p.line("  SHA-256 %s", one.SHA256)
		p.line("  entries %d to %d: %d destroyed, %d moved", one.First, one.Last, one.Last-one.First+1-one.Staying(), one.Staying())
	}
	p.line("")
	p.line("Each of these entries still stands in the log, and `holdfast verify` accounts for it.")
	return p.err
}

func actor(a record.Actor) string {
	if a.ID == "" {
		return "unknown"
	}
	return a.ID
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}
