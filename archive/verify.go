package archive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/pack"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Report is what a verification found. Its JSON is what `holdfast verify --json` prints.
type Report struct {
	OK      bool   `json:"ok"` // nothing altered, missing or unaccounted for
	Full    bool   `json:"full"`
	Entries uint64 `json:"entries"`
	Records uint64 `json:"records"` // entries that have a record in a pack
	Packs   uint64 `json:"packs"`
	Bytes   int64  `json:"bytes"`  // of packs, as stored
	Raw     int64  `json:"raw"`    // of messages, where packs were opened
	Purged  uint64 `json:"purged"` // records that were destroyed, each by an act
	Moved   uint64 `json:"moved"`  // records that were put into another pack, so that what lay beside them could be destroyed

	Altered     []Finding `json:"altered"`
	Missing     []Finding `json:"missing"`
	Unaccounted []Finding `json:"unaccounted"`
	Orphans     []Finding `json:"orphans"` // packs that no entry names: no fault
	Behind      []Finding `json:"behind"`  // derived objects that are not published yet: no fault
}

// Finding names an object (or, of what is unaccounted for, a log) and what there is to say of it.
type Finding struct {
	Key  string `json:"key"`
	What string `json:"what"`
}

// VerifyOptions say what is verified.
type VerifyOptions struct {
	Store    object.Store
	Keys     *Keys
	Full     bool // open each pack and check each record
	Progress func(step string, done, total int64, unit string)
}

// Verify reads every object under packs/ and ledger/ and checks it against the ledger. It writes nothing, goes on after a fault, and can
// run beside a node that writes. An error means that it could not tell: a store that does not answer, no archive, or with Full no identity
// for encrypted packs.
func Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	init, err := readInit(ctx, o.Store, o.Keys)
	if err != nil && !isFault(err) {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	v := &verification{VerifyOptions: o, group: group, named: map[string]bool{}}
	v.report = Report{Full: o.Full, Altered: []Finding{}, Missing: []Finding{}, Unaccounted: []Finding{}, Orphans: []Finding{}, Behind: []Finding{}}
	if err != nil {
		v.altered(ledger.CommitKey(LogActs, 0), err)
	} else {
		v.archive = init.Archive
	}
	reading := ctx
	err = v.run(ctx)
	if err := cmp.Or(group.Wait(), err); err != nil {
		return nil, err
	}
	if err := v.accountForGone(context.WithoutCancel(reading)); err != nil {
		return nil, err
	}
	v.finish()
	return &v.report, nil
}

// isFault tells what is wrong with the archive from what is wrong with the way to it.
func isFault(err error) bool {
	return errors.Is(err, ledger.ErrAltered) || errors.Is(err, ledger.ErrMissing) || errors.Is(err, object.ErrMismatch) || errors.Is(err, pack.ErrCorrupt)
}

type verification struct {
	VerifyOptions
	archive string // empty: not known
	group   *errgroup.Group

	present []string // packs that were there at the start
	logs    []string
	named   map[string]bool // packs that entries name
	gone    goneness

	mu     sync.Mutex
	report Report   // guarded by mu
	absent []absent // guarded by mu
	done   atomic.Int64
}

// run lists packs first: what is stored later and not named by the entries read afterwards is no orphan yet.
func (v *verification) run(ctx context.Context) error {
	for info, err := range v.Store.List(ctx, "packs/", "") {
		if err != nil {
			return err
		}
		v.present = append(v.present, info.Key)
	}
	logs, err := ledger.Logs(ctx, v.Store)
	if err != nil {
		return err
	}
	v.logs = logs
	if !slices.Contains(logs, LogActs) {
		v.missing(ledger.CommitKey(LogActs, 0), ledger.ErrMissing)
	}
	for _, log := range logs {
		if err := v.log(ctx, log); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) log(ctx context.Context, name string) error {
	r, err := ledger.NewReader(ledger.Config{Store: v.Store, Log: name, Archive: v.archive, Verifier: v.Keys.verifierKey})
	if err != nil { // a name that no log has
		v.altered("ledger/"+name, err)
		return nil
	}
	seen := roaring64.New()
	sum, err := r.Verify(ctx, func(c *ledger.Commit) error {
		v.sequences(name, c, seen)
		v.gone.take(name, c)
		return v.commit(ctx, name, c)
	}, func(f ledger.Finding) {
		switch f.Kind {
		case ledger.Altered:
			v.altered(f.Key, f.Err)
		case ledger.Missing:
			v.missing(f.Key, f.Err)
		case ledger.Unknown:
			v.add(&v.report.Orphans, f.Key, f.Err)
		default:
			v.add(&v.report.Behind, f.Key, f.Err)
		}
	})
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.report.Entries += sum.Entries
	v.mu.Unlock()
	v.gaps(name, seen, sum.Pending)
	return nil
}

// sequences notes which spool sequences a commit accounts for.
func (v *verification) sequences(log string, c *ledger.Commit, seen *roaring64.Bitmap) {
	for i := range c.Entries {
		e := &c.Entries[i].Entry
		if e.Seq > 0 && !seen.CheckedAdd(e.Seq) {
			v.add(&v.report.Unaccounted, log, fmt.Errorf("entry %d bears sequence %d, which another has", c.Entries[i].N, e.Seq))
		}
		if d := e.Drop; d != nil && d.First <= d.Last {
			seen.AddRange(d.First, d.Last+1)
		}
	}
}

// gaps names the sequences that no entry accounts for and that were not in custody at the last commit.
func (v *verification) gaps(log string, seen *roaring64.Bitmap, pending [][2]uint64) {
	if seen.IsEmpty() {
		return
	}
	for _, p := range pending {
		seen.AddRange(p[0], p[1]+1)
	}
	gap := roaring64.New()
	gap.AddRange(1, seen.Maximum())
	gap.AndNot(seen)
	for first, last := range runsOf(gap) {
		v.add(&v.report.Unaccounted, log, fmt.Errorf("no entry accounts for sequences %d to %d", first, last))
	}
}

// runsOf gives the runs of consecutive numbers in a set, first and last of each.
func runsOf(set *roaring64.Bitmap) iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for it := set.Iterator(); it.HasNext(); {
			first := it.Next()
			last := first
			for it.HasNext() && it.PeekNext() == last+1 {
				last = it.Next()
			}
			if !yield(first, last) {
				return
			}
		}
	}
}

// commit checks the packs that a commit names. All records of a pack have their entries in one commit.
func (v *verification) commit(ctx context.Context, log string, c *ledger.Commit) error {
	for run := range runs(c.Entries, 0) {
		key := run[0].Entry.Pack
		if key == "" {
			continue
		}
		v.mu.Lock()
		for i := range run {
			if run[i].Entry.Moved == nil {
				v.report.Records++
			}
		}
		v.report.Packs++
		v.named[key] = true
		v.mu.Unlock()
		v.group.Go(func() error {
			err := v.pack(ctx, log, run)
			v.progress(int64(len(run)))
			return err
		})
	}
	return ctx.Err()
}

func (v *verification) progress(n int64) {
	if v.Progress != nil {
		v.Progress("verify", v.done.Add(n), 0, "records")
	}
}

// pack reads one pack whole and holds it against its entries.
func (v *verification) pack(ctx context.Context, log string, run []ledger.Numbered) error {
	key := run[0].Entry.Pack
	body, err := v.Store.Open(ctx, key, 0, -1)
	if errors.Is(err, object.ErrNotFound) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.absent = append(v.absent, absent{log, key, run[0].Entry.PackSHA256, run[0].N, run[len(run)-1].N})
		return nil
	} else if err != nil {
		return err
	}
	defer body.Close()
	check := &packCheck{key: key, entries: map[recoveredKey]*ledger.Numbered{}}
	for i := range run {
		check.entries[keyOf(&run[i].Entry)] = &run[i]
	}
	var scanned pack.Scanned
	if v.Full {
		scanned, err = pack.Scan(body, v.Keys.Identities, check.record)
	} else {
		scanned, err = hashAll(body)
	}
	if errors.Is(err, pack.ErrNoIdentity) && scanned.SHA256 == run[0].Entry.PackSHA256 {
		return fmt.Errorf("%s: %w: verify --full needs the identity of this archive in keys_dir", key, err)
	}
	if err != nil && !isFault(err) && !errors.Is(err, pack.ErrNoIdentity) {
		return fmt.Errorf("%s: %w", key, err)
	}
	v.mu.Lock()
	v.report.Bytes += scanned.Size
	v.report.Raw += check.raw
	v.mu.Unlock()
	v.judge(log, check, run, scanned, err)
	return nil
}

// judge reports what is wrong with a pack that was read.
func (v *verification) judge(log string, check *packCheck, run []ledger.Numbered, scanned pack.Scanned, err error) {
	for i := range run {
		if e := &run[i].Entry; e.PackSHA256 != scanned.SHA256 {
			v.altered(check.key, fmt.Errorf("SHA-256 is %s, entry %d of %s has %s", scanned.SHA256, run[i].N, log, e.PackSHA256))
			break
		}
	}
	if err != nil {
		v.altered(check.key, err)
	}
	for _, f := range check.faults {
		v.altered(check.key, f)
	}
	if v.Full && err == nil && len(check.entries) > 0 {
		for _, e := range check.entries {
			v.altered(check.key, fmt.Errorf("%s %s of entry %d of %s is not in it (%d such)", e.Entry.Kind, e.Entry.ID, e.N, log, len(check.entries)))
			break
		}
	}
}

// packCheck holds the records of one pack against its entries.
type packCheck struct {
	key     string
	entries map[recoveredKey]*ledger.Numbered // those whose records have not come by
	faults  []error
	raw     int64
}

func (c *packCheck) record(r *pack.Record) error {
	e, ok := c.entries[recoveredKey{id: r.ID, name: r.Name}]
	if !ok {
		c.faults = append(c.faults, fmt.Errorf("%s %s in it has no entry", r.Kind, r.ID))
		return nil
	}
	delete(c.entries, recoveredKey{id: r.ID, name: r.Name})
	seal, err := r.Seal()
	if err != nil {
		return err
	}
	c.raw += r.MessageSize()
	switch {
	case seal != e.Entry.Seal || r.Kind != e.Entry.Holds():
		c.faults = append(c.faults, fmt.Errorf("%s %s has seal %s, entry %d has %s", r.Kind, r.ID, seal, e.N, e.Entry.Seal))
	case r.Frame != e.Entry.Frame || r.Length != e.Entry.Length:
		c.faults = append(c.faults, fmt.Errorf("%s %s is at %d, entry %d says %d", r.Kind, r.ID, r.Frame, e.N, e.Entry.Frame))
	}
	return nil
}

// hashAll reads a pack without opening it.
func hashAll(r io.Reader) (pack.Scanned, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return pack.Scanned{Size: n, SHA256: record.Digest(h.Sum(nil))}, err
}

func (v *verification) add(list *[]Finding, key string, what error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	*list = append(*list, Finding{key, what.Error()})
}

// logOfPack gives the log that a pack belongs to by its key: …/<node>-<first seq>-<sha256 prefix>.tar.zst[.age].
func logOfPack(key string) (log string, ok bool) {
	parts := strings.Split(key[strings.LastIndexByte(key, '/')+1:], "-")
	if len(parts) < 3 {
		return "", false
	}
	node := strings.Join(parts[:len(parts)-2], "-")
	return NodeLog(node), nodeName.MatchString(node)
}

func (v *verification) altered(key string, what error) { v.add(&v.report.Altered, key, what) }
func (v *verification) missing(key string, what error) { v.add(&v.report.Missing, key, what) }

// finish lists orphans and gives the verdict. A node has its log before it has packs: where it has packs only, the log is gone.
func (v *verification) finish() {
	gone := map[string]bool{}
	for _, key := range v.present {
		if v.named[key] {
			continue
		}
		v.add(&v.report.Orphans, key, errors.New("no entry names it"))
		if log, ok := logOfPack(key); ok && !gone[log] && !slices.Contains(v.logs, log) {
			gone[log] = true
			v.missing(ledger.CommitKey(log, 0), errors.New("the whole log is gone; there are packs of its node"))
		}
	}
	r := &v.report
	for _, list := range []*[]Finding{&r.Altered, &r.Missing, &r.Unaccounted, &r.Orphans, &r.Behind} {
		slices.SortFunc(*list, func(a, b Finding) int {
			return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.What, b.What))
		})
	}
	r.OK = len(r.Altered)+len(r.Missing)+len(r.Unaccounted) == 0
}
