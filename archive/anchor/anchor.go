// Package anchor keeps an operator from rewriting the past. From time to time the signed checkpoints of all logs are put into a document, an
// anchor, which is stamped by a time-stamp authority (RFC 3161), stored in the archive, and copied to a second place that others look after.
// Who rewrites the ledger afterwards, or takes its end away, can sign the new one with his key, but not have it stamped yesterday, nor have
// it in that place.
//
// What it promises: an anchor is made in the background and holds up no mail; nothing in a place is ever replaced or removed; Check names
// each anchor that the ledger of today does not hold, and which are gone. ANCHOR.md has the format.
package anchor

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/archive/timestamp"
)

// Config is the section "anchor" of the configuration.
type Config struct {
	Every       time.Duration `mapstructure:"every"`        // how often
	Store       string        `mapstructure:"store"`        // the second place, a URL as object.Open takes it; empty: none
	Authority   string        `mapstructure:"authority"`    // URL of a time-stamp authority; empty: none
	AuthorityCA string        `mapstructure:"authority_ca"` // PEM file of its roots; empty: those of the system
	Timeout     time.Duration `mapstructure:"timeout"`      // of the authority
}

// Enabled says whether anchors are made: where there is somebody to give them to.
func (c Config) Enabled() bool { return c.Store != "" || c.Authority != "" }

// Validate names every fault at once.
func (c Config) Validate() error {
	var errs []error
	if c.Every < time.Second || c.Every > 31*24*time.Hour {
		errs = append(errs, fmt.Errorf("anchor.every: %v is not between 1s and 744h", c.Every))
	}
	if c.Timeout < 10*time.Millisecond || c.Timeout > 5*time.Minute {
		errs = append(errs, fmt.Errorf("anchor.timeout: %v is not between 10ms and 5m", c.Timeout))
	}
	if c.Store != "" {
		if err := object.CheckURL(c.Store); err != nil {
			errs = append(errs, fmt.Errorf("anchor.store: %w", err))
		}
	}
	if c.Authority != "" {
		if err := timestamp.CheckURL(c.Authority); err != nil {
			errs = append(errs, fmt.Errorf("anchor.authority: %w", err))
		}
	}
	if c.AuthorityCA != "" {
		if _, err := timestamp.LoadRoots(c.AuthorityCA); err != nil {
			errs = append(errs, fmt.Errorf("anchor.authority_ca: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Defaults of anchor.every.
const DefaultEvery = time.Hour

// ErrAnchor is returned for a document that is no anchor of this archive.
var ErrAnchor = errors.New("not an anchor of this archive")

// document is an anchor as it is stored, as one line of JSON.
type document struct {
	V           int           `json:"v"`
	Archive     string        `json:"archive"`
	Node        string        `json:"node"` // that made it
	Time        time.Time     `json:"time"` // UTC, by the node's clock
	Previous    record.Digest `json:"previous,omitzero"`
	Checkpoints []string      `json:"checkpoints"` // signed notes, in the order of the logs' names
}

// Anchor is one anchor, read and verified as far as it speaks for itself.
type Anchor struct {
	Key         string
	SHA256      record.Digest // of the document
	Previous    record.Digest // of the anchor that the node made before; zero: none
	Node        string
	Time        time.Time
	Checkpoints []ledger.Checkpoint
	Document    []byte
}

// The most that an anchor may have: it has a checkpoint of some 300 bytes for each log.
const maxDocument = 1 << 20

// prefix is where the anchors of an archive are, in every place.
func prefix(archive string) string { return "anchors/" + archive + "/" }

const (
	suffixDocument = ".json"
	suffixToken    = ".tst"
)

// key is anchors/<archive>/<node>/<yyyy>/<mm>/<dd>/<hhmmss.mmm>-<sha256 prefix>.json: the order of a node's keys is that of time.
func key(d *document, sum record.Digest) string {
	return fmt.Sprintf("%s%s/%s-%s%s", prefix(d.Archive), d.Node, d.Time.UTC().Format("2006/01/02/150405.000"), sum.String()[:16], suffixDocument)
}

// tokenKey is where the token of an anchor is.
func tokenKey(key string) string { return strings.TrimSuffix(key, suffixDocument) + suffixToken }

// make writes an anchor of these checkpoints.
func makeAnchor(archive, node string, now time.Time, previous record.Digest, heads []ledger.Checkpoint) (*Anchor, error) {
	d := document{V: record.Version, Archive: archive, Node: node, Time: now.UTC().Truncate(time.Millisecond), Previous: previous}
	for i := range heads {
		d.Checkpoints = append(d.Checkpoints, string(heads[i].Note))
	}
	text, err := encode(&d)
	if err != nil {
		return nil, err
	}
	sum := record.Sum(text)
	return &Anchor{Key: key(&d, sum), SHA256: sum, Previous: previous, Node: node, Time: d.Time, Checkpoints: heads, Document: text}, nil
}

func encode(d *document) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(d)
	return b.Bytes(), err
}

// parse reads an anchor. ErrAnchor where it is malformed, of another archive, not in its place, or a checkpoint in it is not one of this
// archive's key.
func parse(at string, text []byte, archive string, verifier note.Verifier) (*Anchor, error) {
	var d document
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnchor, err)
	}
	sum := record.Sum(text)
	if again, err := encode(&d); err != nil || !bytes.Equal(again, text) || d.V != record.Version {
		return nil, fmt.Errorf("%w: not in its canonical form, version 1", ErrAnchor)
	}
	if d.Archive != archive || key(&d, sum) != at {
		return nil, fmt.Errorf("%w: what it says of itself and its key do not agree", ErrAnchor)
	}
	a := &Anchor{Key: at, SHA256: sum, Previous: d.Previous, Node: d.Node, Time: d.Time, Document: text}
	last := ""
	for _, signed := range d.Checkpoints {
		log := ledger.LogOf([]byte(signed))
		cp, err := ledger.OpenCheckpoint([]byte(signed), archive, log, verifier)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAnchor, err)
		}
		if log <= last {
			return nil, fmt.Errorf("%w: its logs are not in order", ErrAnchor)
		}
		last = log
		a.Checkpoints = append(a.Checkpoints, cp)
	}
	return a, nil
}

// same says whether two sets of checkpoints are the same.
func same(a, b []ledger.Checkpoint) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Note, b[i].Note) {
			return false
		}
	}
	return true
}

func byTime(a, b *Anchor) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Key, b.Key)) }
