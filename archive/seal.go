package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/pack"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// A pack on its way, all in <data_dir>/packs, and what a crash leaves of each step:
//
//	<n>.open       being written; the records are still in the spool            → thrown away
//	<n>.pack       whole, fsynced                                              → thrown away while <n>.json is missing
//	<n>.json       its key and entries, fsynced, then the directory: sealed     → uploaded and committed by the next start, the same bytes;
//	                                                                              where the pack is not whole, its records are packed again
//	the object     created in the store                                         → as above: to create the same bytes again succeeds
//	the commit     the entries are in the ledger                                → the spool's records are released, both files removed
//
// So a pack is never written twice: an encrypted one would come out with other bytes.

// maxOpen bounds the packs that are written to at once; one more seals the oldest.
const maxOpen = 32

// maxSealed bounds the packs that wait for the store. Behind it records wait in the spool, whose own limit then tells the clients.
const maxSealed = 8

// maxItems bounds the records of one pack: their entries must fit into one commit.
const maxItems = 50_000

// openPack is a pack that is being written.
type openPack struct {
	month    string // of expiry, "2033-11", or "never"
	until    time.Time
	base     string // path without suffix
	file     File
	w        *pack.Writer
	opened   time.Time
	firstSeq uint64
	received time.Time // of the first record: the day in the key
	items    []*record.Item
	awaited  bool // somebody waits for one of them
	held     bool // a hold matches one of them
}

// sealedPack is a whole one, on its way into the store. Its JSON is the file <n>.json.
type sealedPack struct {
	V       int            `json:"v"`
	Archive string         `json:"archive"`
	Key     string         `json:"key"` // empty: entries without a pack
	SHA256  record.Digest  `json:"sha256,omitzero"`
	Size    int64          `json:"size"`
	Raw     int64          `json:"raw"` // bytes of mail in it, before compression
	Until   time.Time      `json:"until,omitzero"`
	Held    bool           `json:"held,omitempty"` // a hold matched one of them as it came
	Entries []record.Entry `json:"entries"`

	base  string         // path without suffix
	items []*record.Item // to release once committed; guarded by Archive.mu after recovery
	done  bool           // committed; guarded by Archive.mu
	// landed, of a pack that was sealed because somebody waits, is called once it is committed; nil of others, and once it was called
	landed func()
}

// monthOf gives the part of the key that says when a pack may expire.
func monthOf(until time.Time) string {
	if until.IsZero() {
		return "never"
	}
	return until.UTC().Format("2006-01")
}

// endOf gives the end of the month in a pack's key; zero for "never". ok is false where the key has neither.
func endOf(key string) (until time.Time, ok bool) {
	month, _, _ := strings.Cut(strings.TrimPrefix(key, "packs/"), "/")
	if month == "never" {
		return time.Time{}, true
	}
	first, err := time.Parse("2006-01", month)
	return first.AddDate(0, 1, 0).Add(-time.Second), err == nil
}

// expiryOf is when an item may expire. A late supplement goes with its record, where that is in a pack already.
func (a *Archive) expiryOf(it *record.Item) time.Time {
	if it.Kind == record.KindSupplement {
		if p, ok, err := a.catalog.find(it.ID, ""); err == nil && ok {
			if until, ok := endOf(p.Pack); ok && (until.IsZero() || until.After(a.now())) {
				return until
			}
		}
	}
	return a.expiry(it)
}

func (a *Archive) newPack(it *record.Item, until time.Time) (*openPack, error) {
	base := a.nextBase()
	f, err := a.fs.Create(base + ".open")
	if err != nil {
		return nil, fmt.Errorf("open pack: %w", err)
	}
	w, err := pack.NewWriter(f, pack.Options{Recipients: a.recipients})
	if err != nil {
		f.Close()
		a.fs.Remove(base + ".open")
		return nil, fmt.Errorf("open pack: %w", err)
	}
	received := it.ID.Time()
	return &openPack{month: monthOf(until), until: until, base: base, file: f, w: w, opened: a.now(), firstSeq: it.Seq, received: received}, nil
}

// nextBase gives the path, without suffix, of the next pack on its way. They sort by age.
func (a *Archive) nextBase() string {
	a.packNo++
	return filepath.Join(a.packDir, fmt.Sprintf("%020d-%06d", a.started.UnixNano(), a.packNo))
}

// abandon throws an open pack away; its records are still in the spool.
func (a *Archive) abandon(p *openPack) {
	p.file.Close()
	a.fs.Remove(p.base + ".open") // or the next start
	a.fs.Remove(p.base + ".pack")
}

// seal ends a pack and makes it whole: pack, fsync, rename. save then writes its entries beside it.
func (a *Archive) seal(p *openPack) (*sealedPack, error) {
	sum, err := p.w.Close()
	if err != nil {
		return nil, fmt.Errorf("seal pack: %w", err)
	}
	if err := errors.Join(p.file.Sync(), p.file.Close()); err != nil {
		return nil, fmt.Errorf("seal pack: %w", err)
	}
	s := &sealedPack{V: record.Version, Archive: a.init.Archive, SHA256: sum.SHA256, Size: sum.Size, Raw: sum.Raw, Until: p.until, Held: p.held, base: p.base, items: p.items}
	s.Key = a.packKey(p, sum.SHA256)
	for i, placed := range sum.Records {
		it := p.items[i]
		e := entryOf(it)
		e.Seal, e.Frame, e.Length = placed.Seal, placed.Frame, placed.Length
		e.Pack, e.PackSHA256 = s.Key, sum.SHA256
		s.Entries = append(s.Entries, e)
	}
	if err := a.fs.Rename(p.base+".open", p.base+".pack"); err != nil {
		return nil, fmt.Errorf("seal pack: %w", err)
	}
	return s, nil
}

// save writes the entries beside the pack, fsyncs them, and then the folder: with that it is sealed.
func (a *Archive) save(s *sealedPack) error {
	text, err := json.Marshal(s)
	if err == nil {
		err = writeWhole(a.fs, s.base+".json", text)
	}
	if err != nil {
		return fmt.Errorf("seal pack: %w", err)
	}
	return nil
}

// forget removes the local files of a pack that is committed.
func (a *Archive) forget(s *sealedPack) error {
	return errors.Join(removeFrom(a.fs, s.base+".json"), removeFrom(a.fs, s.base+".pack"))
}

// keyDigits is how much of a pack's SHA-256 stands in its key, in hexadecimal digits.
const keyDigits = 16

// packKey is packs/<expiry month>/<received day>/<node>-<first seq>-<sha256 prefix>.tar.zst[.age].
func (a *Archive) packKey(p *openPack, sum record.Digest) string {
	suffix := ".tar.zst"
	if len(a.recipients) > 0 {
		suffix += ".age"
	}
	return fmt.Sprintf("packs/%s/%s/%s-%d-%s%s", p.month, p.received.UTC().Format("2006/01/02"), a.cfg.Node, p.firstSeq, sum.String()[:keyDigits], suffix)
}

// entryOf is the part of a record's entry that does not depend on its pack.
func entryOf(it *record.Item) record.Entry {
	e := record.Entry{V: record.Version, Kind: it.Kind, ID: it.ID, Seq: it.Seq}
	switch {
	case it.Envelope != nil:
		e.Time = it.Envelope.Received
	case it.Act != nil:
		e.Time, e.Name, e.By = it.Act.Time, it.Act.Kind, it.Act.Actor.ID
	case it.Supplement != nil:
		e.Time, e.Name = it.Supplement.Time, it.Supplement.Name
	}
	e.Time = e.Time.UTC()
	return e
}

// recoverPacks throws away what was not sealed and gives what was, oldest first. A pack that is not what was sealed any more is thrown away
// too, and one of another archive: what is in it is still in the spool, and is packed again.
func (a *Archive) recoverPacks() ([]*sealedPack, error) {
	names, err := a.fs.ReadDir(a.packDir)
	if err != nil {
		return nil, fmt.Errorf("packs: %w", err)
	}
	var sealed []*sealedPack
	for _, name := range names {
		base, isJSON := strings.CutSuffix(filepath.Join(a.packDir, name), ".json")
		if !isJSON {
			continue
		}
		s, err := a.recoverPack(base)
		switch {
		case errors.Is(err, errNotWhole) || errors.Is(err, os.ErrNotExist):
			a.slog.Error("a sealed pack is not whole: its records are packed again", "pack", base, "err", err)
		case err != nil:
			return nil, fmt.Errorf("packs: %w", err)
		case s.Archive != a.init.Archive:
			a.slog.Error("a sealed pack is of another archive: its records are packed again", "pack", base, "archive", s.Archive)
		default:
			sealed = append(sealed, s)
		}
	}
	for _, name := range names {
		path := filepath.Join(a.packDir, name)
		keep := slices.ContainsFunc(sealed, func(s *sealedPack) bool { return path == s.base+".json" || path == s.base+".pack" })
		if !keep {
			if err := a.fs.Remove(path); err != nil {
				return nil, fmt.Errorf("packs: %w", err)
			}
		}
	}
	return sealed, nil
}

// errNotWhole: what was sealed is not what is on the disk.
var errNotWhole = errors.New("not the bytes that were sealed")

// recoverPack reads what was written down of a sealed pack and checks its file.
func (a *Archive) recoverPack(base string) (*sealedPack, error) {
	f, err := a.fs.Open(base + ".json")
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	s := &sealedPack{base: base}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s.json: %w: %w", base, errNotWhole, err)
	}
	return s, a.whole(s)
}

// whole checks the file of a sealed pack.
func (a *Archive) whole(s *sealedPack) error {
	if s.Key == "" {
		return nil
	}
	f, err := a.openWhole(s)
	if err != nil {
		return err
	}
	return f.Close()
}

// openWhole opens the file of a sealed pack, at its start. errNotWhole: it is gone, or has other bytes.
func (a *Archive) openWhole(s *sealedPack) (io.ReadSeekCloser, error) {
	f, err := a.fs.Open(s.base + ".pack")
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w: %w", errNotWhole, err)
		}
		return nil, err
	}
	got, err := hashAll(f)
	if err == nil && got.SHA256 != s.SHA256 {
		err = fmt.Errorf("%s.pack: %w", s.base, errNotWhole)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// evade gives a sealed pack another key: under its own stands an object with other bytes, which nobody may replace and which is no pack of
// this archive. The alarm is for somebody to find out who wrote it; verify lists it as an orphan. The new key has more digits of the
// same SHA-256, so that it is the same again if this is cut off, and is written down before it is used.
func (a *Archive) evade(ctx context.Context, s *sealedPack, conflict error) error {
	sum := s.SHA256.String()
	name := s.Key[strings.LastIndexByte(s.Key, '/')+1:]
	at := len(s.Key) - len(name) + strings.LastIndexByte(name, '-') + 1
	digits := strings.IndexByte(s.Key[at:], '.')
	if digits < 0 || digits >= len(sum) || !strings.HasPrefix(sum, s.Key[at:at+digits]) {
		return conflict
	}
	key := s.Key[:at] + sum[:min(2*digits, len(sum))] + s.Key[at+digits:]
	a.metrics.foreign.Inc()
	a.slog.Error("a foreign object stands under the key of a new pack: the pack is stored under another", "key", s.Key, "instead", key, "err", conflict)
	s.Key = key
	for i := range s.Entries {
		s.Entries[i].Pack = key
	}
	return a.retry(ctx, "write down a pack's new key", func() error { return a.save(s) })
}
