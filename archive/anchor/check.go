package anchor

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Kinds of finding. All but KindBehind are faults.
const (
	KindForked     = "forked"      // the ledger of today is not a continuation of what the anchor saw
	KindRolledBack = "rolled-back" // the ledger of today has less than the anchor saw
	KindAltered    = "altered"     // the anchor, its token, or what it speaks of in the ledger, is not what it was
	KindMissing    = "missing"     // it was there once
	KindUntrusted  = "untrusted"   // a token of an authority that is not trusted
	KindBehind     = "behind"      // not in the second place yet
)

// Finding says what there is to say of one object of a place.
type Finding struct {
	Kind  string `json:"kind"`
	Place string `json:"place"`
	Key   string `json:"key"`
	What  string `json:"what"`
}

// Listed is an anchor in a list.
type Listed struct {
	Key       string    `json:"key"`
	Time      time.Time `json:"time"`
	Node      string    `json:"node"`
	SHA256    string    `json:"sha256"`
	Places    []string  `json:"places"`
	Stamped   time.Time `json:"stamped,omitzero"` // by the authority
	Authority string    `json:"authority,omitempty"`
	Logs      []Log     `json:"logs"`
}

// Log is how far a log had come.
type Log struct {
	Log     string `json:"log"`
	Entries uint64 `json:"entries"`
	Commit  uint64 `json:"commit"`
	Root    string `json:"root"`
}

// Report is what a check found. Its JSON is what `holdfast anchor check --json` prints.
type Report struct {
	OK            bool      `json:"ok"`
	Anchors       int       `json:"anchors"`
	Stamped       int       `json:"stamped"`
	Newest        time.Time `json:"newest,omitzero"`
	NewestStamped time.Time `json:"newest_stamped,omitzero"`
	Logs          []Log     `json:"logs"` // of today, those that anchors speak of
	Findings      []Finding `json:"findings"`
	Unreachable   []string  `json:"unreachable"` // places that could not be asked: what they have is not known
}

// CheckOptions say what is checked against what.
type CheckOptions struct {
	Store    object.Store // of the archive
	Archive  string       // its id
	Verifier note.Verifier
	Second   func(context.Context) (*Place, error) // opens the second place; nil: there is none
	Roots    *x509.CertPool                        // of time-stamp authorities; nil: those of the system
}

// Check reads all anchors in all places and holds each against the others and against the ledger. It writes nothing. An error means that
// the archive's own store can't be read.
func Check(ctx context.Context, o CheckOptions) (*Report, error) {
	c, err := collect(ctx, o)
	if err != nil {
		return nil, err
	}
	c.copies()
	c.chain()
	if err := c.ledger(ctx); err != nil {
		return nil, err
	}
	r := &c.report
	r.Anchors = len(c.anchors)
	for _, s := range c.anchors {
		r.Newest = later(r.Newest, s.anchor.Time)
		if at := s.stampedAt(); !at.IsZero() {
			r.Stamped++
			r.NewestStamped = later(r.NewestStamped, at)
		}
	}
	slices.SortFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Place, b.Place), strings.Compare(a.What, b.What))
	})
	r.OK = !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Kind != KindBehind })
	return r, nil
}

// List gives the anchors that there are in all places, the oldest first, and which places could not be asked.
func List(ctx context.Context, o CheckOptions) ([]Listed, []string, error) {
	c, err := collect(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	list := []Listed{}
	for _, s := range c.anchors {
		l := Listed{Key: s.anchor.Key, Time: s.anchor.Time, Node: s.anchor.Node, SHA256: s.anchor.SHA256.String(), Stamped: s.stampedAt()}
		for i, h := range s.in {
			if h != nil {
				l.Places = append(l.Places, c.places[i].Name)
			}
			if h != nil && h.token != nil {
				l.Authority = h.token.Authority
			}
		}
		for k := range s.anchor.Checkpoints {
			l.Logs = append(l.Logs, logOf(&s.anchor.Checkpoints[k]))
		}
		list = append(list, l)
	}
	return list, c.report.Unreachable, nil
}

func logOf(cp *ledger.Checkpoint) Log {
	return Log{Log: cp.Log, Entries: cp.Size, Commit: cp.Commit, Root: cp.Root.String()}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// seen is one anchor, and what each place has of it.
type seen struct {
	anchor *Anchor
	in     []*held // by place; nil: not there
}

func (s *seen) stampedAt() (at time.Time) {
	for _, h := range s.in {
		if t := h.stampedAt(); !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return at
}

// collection is what all places have.
type collection struct {
	CheckOptions
	places  []*Place
	anchors []*seen // the oldest first
	report  Report
}

func (c *collection) found(place, kind, key, what string) {
	c.report.Findings = append(c.report.Findings, Finding{kind, place, key, what})
}

func collect(ctx context.Context, o CheckOptions) (*collection, error) {
	c := &collection{CheckOptions: o, report: Report{Logs: []Log{}, Findings: []Finding{}, Unreachable: []string{}}}
	own := &Place{Name: "archive", Store: o.Store}
	c.places = []*Place{own}
	if err := c.strangers(ctx); err != nil {
		return nil, err
	}
	have, err := c.all(ctx, own)
	if err != nil {
		return nil, err
	}
	in := []map[record.Digest]*held{have}
	if o.Second != nil {
		second, err := o.Second(ctx)
		if err == nil {
			have, err = c.all(ctx, second)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			c.report.Unreachable = append(c.report.Unreachable, err.Error())
		} else {
			c.places, in = append(c.places, second), append(in, have)
		}
	}
	bySum := map[record.Digest]*seen{}
	for i, have := range in {
		for sum, h := range have {
			s := bySum[sum]
			if s == nil {
				s = &seen{anchor: h.anchor, in: make([]*held, len(in))}
				bySum[sum] = s
				c.anchors = append(c.anchors, s)
			}
			s.in[i] = h
		}
	}
	slices.SortFunc(c.anchors, func(a, b *seen) int { return byTime(a.anchor, b.anchor) })
	return c, nil
}

func (c *collection) all(ctx context.Context, p *Place) (map[record.Digest]*held, error) {
	return p.all(ctx, c.Archive, c.Verifier, c.Roots, func(kind, key string, err error) { c.found(p.Name, kind, key, err.Error()) })
}

// strangers names anchors of another archive in the archive's own store: it was made anew over the old one.
func (c *collection) strangers(ctx context.Context) error {
	for after := ""; ; {
		next := ""
		for info, err := range c.Store.List(ctx, "anchors/", after) {
			if err != nil {
				return err
			}
			next = info.Key
			break
		}
		if next == "" {
			return nil
		}
		archive, _, _ := strings.Cut(strings.TrimPrefix(next, "anchors/"), "/")
		if archive != c.Archive {
			c.found("archive", KindForked, "anchors/"+archive, fmt.Sprintf("anchors of archive %s, and this is %s", archive, c.Archive))
		}
		after = "anchors/" + archive + "/\xff"
	}
}

// copies compares the places: what one lacks.
func (c *collection) copies() {
	if len(c.places) < 2 {
		return
	}
	newest := map[string]string{} // by node: the newest key in the second place
	for _, s := range c.anchors {
		if s.in[1] != nil {
			newest[s.anchor.Node] = max(newest[s.anchor.Node], s.anchor.Key)
		}
	}
	own, second := c.places[0].Name, c.places[1].Name
	for _, s := range c.anchors {
		switch {
		case s.in[0] == nil:
			c.found(own, KindMissing, s.anchor.Key, "it is in "+second)
		case s.in[1] == nil && s.anchor.Key > newest[s.anchor.Node]:
			c.found(second, KindBehind, s.anchor.Key, "not there yet")
		case s.in[1] == nil:
			c.found(second, KindMissing, s.anchor.Key, "it is in the archive, and a later one is there")
		case s.in[0].token == nil && s.in[1].token != nil:
			c.found(own, KindMissing, tokenKey(s.anchor.Key), "it is in "+second)
		}
	}
}

// chain names anchors that are in no place, and that a later one of the node went on from.
func (c *collection) chain() {
	known := map[record.Digest]bool{}
	for _, s := range c.anchors {
		known[s.anchor.SHA256] = true
	}
	for _, s := range c.anchors {
		if p := s.anchor.Previous; p != (record.Digest{}) && !known[p] {
			c.found("archive", KindMissing, s.anchor.Key, fmt.Sprintf("the anchor before it, of SHA-256 %s, is in no place", p))
		}
	}
}

// ledger holds the checkpoints of all anchors against the logs.
func (c *collection) ledger(ctx context.Context) error {
	type spoken struct {
		cp  ledger.Checkpoint
		key string
	}
	logs := map[string][]spoken{}
	known := map[string]bool{}
	for _, s := range c.anchors {
		for _, cp := range s.anchor.Checkpoints {
			if !known[string(cp.Note)] {
				known[string(cp.Note)] = true
				logs[cp.Log] = append(logs[cp.Log], spoken{cp, s.anchor.Key})
			}
		}
	}
	for _, name := range sortedKeys(logs) {
		said := logs[name]
		r, err := ledger.NewReader(ledger.Config{Store: c.Store, Log: name, Archive: c.Archive, Verifier: c.Verifier})
		if err != nil {
			return err
		}
		earlier := make([]ledger.Checkpoint, len(said))
		for i := range said {
			earlier[i] = said[i].cp
		}
		head, err := r.Descends(ctx, earlier, func(i int, err error) { c.found("archive", kindOf(err), said[i].key, err.Error()) })
		switch {
		case err == nil:
			c.report.Logs = append(c.report.Logs, logOf(&head.Checkpoint))
		case errors.Is(err, ledger.ErrNoLog):
			c.found("archive", KindRolledBack, said[len(said)-1].key, fmt.Sprintf("log %s is gone, and had %d entries", name, said[len(said)-1].cp.Size))
		case errors.Is(err, ledger.ErrAltered), errors.Is(err, ledger.ErrMissing), errors.Is(err, ledger.ErrKey), errors.Is(err, ledger.ErrForeign):
			c.found("archive", KindAltered, said[len(said)-1].key, err.Error())
		default:
			return err
		}
	}
	return nil
}

func kindOf(err error) string {
	switch {
	case errors.Is(err, ledger.ErrForked):
		return KindForked
	case errors.Is(err, ledger.ErrRolledBack):
		return KindRolledBack
	}
	return KindAltered
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
