package bundle

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Report is what Verify found.
type Report struct {
	OK       bool      `json:"ok"`
	Files    int64     `json:"files"`    // of the payload, that the manifest lists
	Bytes    int64     `json:"bytes"`    // of these
	Records  int64     `json:"records"`  // that custody.jsonl speaks of
	Messages int64     `json:"messages"` // whose bytes and envelope are those that the ledger has entered
	Proofs   int64     `json:"proofs"`   // that hold
	Archive  string    `json:"archive"`  // its id
	Key      string    `json:"key"`      // that all of it is signed with
	Trusted  bool      `json:"trusted"`  // this key was given by whoever asked; otherwise it is the bundle's own word
	Altered  []Finding `json:"altered"`
	Missing  []Finding `json:"missing"`
	Added    []Finding `json:"added"`
}

// Finding is one file and what is wrong with it.
type Finding struct {
	File string `json:"file"`
	What string `json:"what"`
}

// VerifyOptions say what to verify with.
type VerifyOptions struct {
	Key      string                  // verifier key of the archive, as ledger.pub has it; empty: the bundle's own, which proves nothing
	Progress func(done, total int64) // bytes of the payload, total as the bag says; nil: nobody asks
}

// Verify checks a bundle with nothing but its files and the archive's key. What is wrong with the bundle is in the report; an error says
// that it could not be told. It needs about 30 bytes of memory a file.
func Verify(ctx context.Context, bag fs.FS, o VerifyOptions) (*Report, error) {
	v := &verifier{ctx: ctx, bag: bag, o: &o, seed: maphash.MakeSeed(), known: map[uint64]bool{}, gone: map[string]bool{},
		r: &Report{Altered: []Finding{}, Missing: []Finding{}, Added: []Finding{}}}
	if o.Key != "" {
		key, err := note.NewVerifier(strings.TrimSpace(o.Key))
		if err != nil {
			return nil, fmt.Errorf("key: not a verifier key of a ledger: %w", err)
		}
		v.key, v.r.Trusted = key, true
	}
	err := v.walk(func(name string, plain bool) {
		if plain {
			v.known[v.hash(name)] = false
		} else {
			v.altered(name, "neither a file nor a folder")
		}
	})
	if err == nil {
		err = v.all()
	}
	if err != nil {
		return nil, err
	}
	err = v.walk(func(name string, plain bool) {
		if plain && !v.known[v.hash(name)] {
			v.r.Added = append(v.r.Added, Finding{name, "no list of the bundle has it"})
		}
	})
	v.r.OK = len(v.r.Altered)+len(v.r.Missing)+len(v.r.Added) == 0
	return v.r, err
}

type verifier struct {
	ctx   context.Context
	bag   fs.FS
	o     *VerifyOptions
	r     *Report
	key   note.Verifier
	seed  maphash.Seed
	known map[uint64]bool // by hash of its name, each file that is there; true: some list has it
	gone  map[string]bool // names in r.Missing
	total int64           // bytes of the payload, as bag-info.txt says
}

func (v *verifier) hash(name string) uint64 { return maphash.String(v.seed, name) }

func (v *verifier) altered(name, what string) {
	v.r.Altered = append(v.r.Altered, Finding{name, what})
}

func (v *verifier) missing(name, what string) {
	if !v.gone[name] {
		v.gone[name] = true
		v.r.Missing = append(v.r.Missing, Finding{name, what})
	}
}

// listed says that a list has this file; it gives false, and notes it as missing, where it is not there.
func (v *verifier) listed(name, by string) bool {
	h := v.hash(name)
	seen, there := v.known[h]
	switch {
	case !there:
		v.missing(name, by+" has it")
	case seen:
		v.altered(by, "it has "+name+" twice")
	default:
		v.known[h] = true
	}
	return there && !seen
}

// walk gives every file of the bag; plain is false for what is no regular file.
func (v *verifier) walk(give func(name string, plain bool)) error {
	return fs.WalkDir(v.bag, ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil {
			err = v.ctx.Err()
		}
		if err != nil {
			return err
		}
		if !e.IsDir() {
			give(name, e.Type().IsRegular())
		}
		return nil
	})
}

// maxTag bounds what is read of a file that is held in memory.
const maxTag = 16 << 20

// tag reads a small file that a list has. What is wrong with it is noted.
func (v *verifier) tag(name, by string) ([]byte, bool, error) {
	if !v.listed(name, by) {
		return nil, false, nil
	}
	return v.small(name)
}

// open opens a file that is there, and a regular one.
func (v *verifier) open(name string) (fs.File, error) {
	if _, there := v.known[v.hash(name)]; !there {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return v.bag.Open(name)
}

func (v *verifier) small(name string) ([]byte, bool, error) {
	f, err := v.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTag+1))
	if err != nil {
		return nil, false, err
	}
	if len(text) > maxTag {
		v.altered(name, "longer than such a file can be")
		return nil, false, nil
	}
	return text, true, nil
}

// all goes down from the signature to each file.
func (v *verifier) all() error {
	tagSum, err := v.note()
	if err != nil {
		return err
	}
	tags, ok, err := v.tag(fileTags, "each bundle")
	if err != nil {
		return err
	}
	if ok && tagSum != (record.Digest{}) && record.Sum(tags) != tagSum {
		v.altered(fileTags, "not what is signed")
	}
	if err := v.tags(tags); err != nil {
		return err
	}
	if err := v.manifest(); err != nil {
		return err
	}
	return v.custody()
}

// note opens bundle.note.
func (v *verifier) note() (tags record.Digest, err error) {
	own, ok, err := v.small(fileKey)
	if err != nil {
		return tags, err
	}
	if v.key == nil && ok {
		if v.key, err = note.NewVerifier(strings.TrimSpace(string(own))); err != nil {
			v.altered(fileKey, "not a verifier key")
		}
	}
	signed, ok, err := v.tag(fileNote, "each bundle")
	if err != nil || !ok || v.key == nil {
		return tags, err
	}
	v.r.Key = ledger.KeyID(v.key)
	text, err := ledger.OpenNote(signed, v.key)
	if err != nil {
		v.altered(fileNote, err.Error())
		v.key = nil // what follows from it would be said of every proof
		return tags, nil
	}
	archive, tags, ok := parseNote(text)
	if !ok {
		v.altered(fileNote, "not the note of a bundle")
		return record.Digest{}, nil
	}
	v.r.Archive = archive
	return tags, nil
}

// tags checks the files that the tag manifest lists.
func (v *verifier) tags(tags []byte) error {
	seen := map[string]bool{}
	for line := range strings.Lines(string(tags)) {
		want, name, ok := parseLine(line)
		if !ok || strings.Contains(name, "/") {
			v.altered(fileTags, fmt.Sprintf("a line that is none: %.100q", line))
			continue
		}
		seen[name] = true
		if name == fileManifest { // it is long
			v.file(name, want, fileTags)
			continue
		}
		text, ok, err := v.tag(name, fileTags)
		if err != nil {
			return err
		}
		if ok && record.Sum(text) != want {
			v.altered(name, "SHA-256 is not what "+fileTags+" has")
		}
		if name == fileInfo {
			v.info(text)
		}
	}
	for _, name := range tagged {
		if !seen[name] {
			v.altered(fileTags, "it does not have "+name)
		}
	}
	return v.ctx.Err()
}

// info reads how large the payload is.
func (v *verifier) info(text []byte) {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Payload-Oxum: "); ok {
			fmt.Sscanf(rest, "%d.", &v.total)
		}
	}
}

// manifest checks every file of the payload.
func (v *verifier) manifest() error {
	f, err := v.open(fileManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // said already
	} else if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if err != nil && err != io.EOF {
			if errors.Is(err, bufio.ErrBufferFull) {
				v.altered(fileManifest, "a line that is none")
				return nil
			}
			return err
		}
		want, name, ok := parseLine(string(line))
		if !ok || !strings.HasPrefix(name, "data/") {
			v.altered(fileManifest, fmt.Sprintf("a line that is none: %.100q", line))
			continue
		}
		v.r.Files++
		if err := v.file(name, want, fileManifest); err != nil {
			return err
		}
	}
}

// parseLine reads a line of a manifest: 64 hexadecimal digits, two blanks, the name.
func parseLine(line string) (sum record.Digest, name string, ok bool) {
	line, ok = strings.CutSuffix(line, "\n")
	if !ok || len(line) < 67 || line[64:66] != "  " {
		return sum, "", false
	}
	sum, err := record.ParseDigest(line[:64])
	name = line[66:]
	return sum, name, err == nil && fs.ValidPath(name) && name != "."
}

// file checks one file against its line in a list.
func (v *verifier) file(name string, want record.Digest, by string) error {
	if !v.listed(name, by) {
		return nil
	}
	got, n, err := v.sum(name)
	if err != nil {
		return err
	}
	v.r.Bytes += n
	if v.o.Progress != nil {
		v.o.Progress(v.r.Bytes, v.total)
	}
	if got != want {
		v.altered(name, "SHA-256 is not what "+by+" has")
	}
	return nil
}

func (v *verifier) sum(name string) (record.Digest, int64, error) {
	if err := v.ctx.Err(); err != nil {
		return record.Digest{}, 0, err
	}
	f, err := v.open(name)
	if err != nil {
		return record.Digest{}, 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return record.Digest(h.Sum(nil)), n, err
}

// withoutNewline is a line without its end.
func withoutNewline(b []byte) []byte { return bytes.TrimSuffix(b, []byte("\n")) }
