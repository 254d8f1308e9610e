package queue

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// ErrDamaged is returned for a file of the queue that is not what was written. It is set aside, and the message is in the archive.
var ErrDamaged = errors.New("file of the queue is damaged")

const (
	emlSuffix  = ".eml"
	jsonSuffix = ".json"
	tmpSuffix  = ".tmp"
	asideDir   = "damaged"
	maxState   = 64 << 20 // bytes of one <id>.json
)

// folder is <data_dir>/queue. A message is there when its .json is; the .eml was made durable before. Methods for one message must not be
// called at once.
type folder struct {
	dir   string
	fs    FS
	log   *slog.Logger
	alarm func() // counts files that were set aside
}

func (f *folder) path(name string) string                 { return filepath.Join(f.dir, name) }
func (f *folder) file(id record.ID, suffix string) string { return f.path(id.String() + suffix) }

// open makes the folder durably where there is none, and gives the ids of the messages in it. What a crash left half made is removed; what
// nobody knows is set aside.
func (f *folder) open() ([]record.ID, error) {
	for _, dir := range []string{f.dir, f.path(asideDir)} {
		if err := f.fs.Mkdir(dir); err != nil {
			return nil, err
		}
		if err := f.fs.SyncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, os.ErrPermission) {
			return nil, err
		}
	}
	names, err := f.fs.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, name := range names {
		have[name] = true
	}
	var ids []record.ID
	for _, name := range names {
		base, suffix := name, ""
		if i := strings.IndexByte(name, '.'); i >= 0 {
			base, suffix = name[:i], name[i:]
		}
		id, iderr := record.ParseID(base)
		switch {
		case strings.HasSuffix(name, tmpSuffix):
			err = f.fs.Remove(f.path(name))
		case iderr != nil || suffix != emlSuffix && suffix != jsonSuffix:
			f.aside(name, errors.New("no file of the queue has such a name"))
		case suffix == emlSuffix && !have[base+jsonSuffix]: // on its way in, and in the spool, or on its way out
			err = f.fs.Remove(f.path(name))
		case suffix == jsonSuffix:
			ids = append(ids, id)
		}
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// aside puts a file away with an alarm. It is never read again.
func (f *folder) aside(name string, why error) {
	f.alarm()
	if err := f.fs.Rename(f.path(name), filepath.Join(f.path(asideDir), name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		f.log.Error("a file of the queue is damaged, and can't be set aside", "file", name, "why", why, "err", err)
		return
	}
	f.log.Error("a file of the queue is damaged: it was set aside, and is not delivered. The archive has the message: `holdfast queue recover`",
		"file", name, "in", f.path(asideDir), "why", why)
}

// asideMessage puts both files of a message away.
func (f *folder) asideMessage(id record.ID, why error) {
	f.aside(id.String()+jsonSuffix, why)
	f.aside(id.String()+emlSuffix, why)
}

// take makes a message durable here: write .eml, fsync it, rename, fsync the folder; then the same with .json. On an error it may be here
// nevertheless after a crash, where maybe says so; otherwise it is not.
func (f *folder) take(s *state, body func() (io.ReadCloser, error)) (maybe bool, err error) {
	name := f.file(s.ID, emlSuffix)
	if err := f.write(name, func(w io.Writer) error {
		r, err := body()
		if err != nil {
			return err
		}
		c := newChecked(r, s.env)
		_, err = io.Copy(w, c)
		return errors.Join(err, c.Close())
	}); err != nil {
		return false, err // what is left of it the next start removes, unless a .json names it
	}
	err = f.save(s)
	return err != nil, err
}

// save makes the state of a message durable. The document stands on the first line, its SHA-256 on the second. On an error the old one may
// be there, or the new one.
func (f *folder) save(s *state) error {
	doc, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return f.write(f.file(s.ID, jsonSuffix), func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s\n%q\n", doc, record.Sum(append(doc, '\n')))
		return err
	})
}

// write makes a file durable under its name: write a temporary one, fsync it, rename, fsync the folder.
func (f *folder) write(name string, fill func(io.Writer) error) error {
	tmp := name + tmpSuffix
	file, err := f.fs.Create(tmp)
	if err != nil {
		return err
	}
	if err = fill(file); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = f.fs.Rename(tmp, name)
	}
	if err != nil {
		f.fs.Remove(tmp)
		return fmt.Errorf("queue: %w", err)
	}
	if err := f.fs.SyncDir(f.dir); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

// load reads the state of a message. ErrDamaged where it is not what save wrote; other errors may pass.
func (f *folder) load(id record.ID) (*state, error) {
	name := f.file(id, jsonSuffix)
	r, err := f.fs.Open(name)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxState+1))
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	s, err := parseState(text)
	if err == nil && s.ID != id {
		err = fmt.Errorf("it is of %s", s.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, name, err)
	}
	return s, nil
}

func parseState(text []byte) (*state, error) {
	doc, sum, _ := bytes.Cut(text, []byte("\n"))
	if want := fmt.Sprintf("%q\n", record.Sum(append(bytes.Clone(doc), '\n'))); string(sum) != want {
		return nil, errors.New("the checksum is wrong")
	}
	s := new(state)
	if err := json.Unmarshal(doc, s); err != nil {
		return nil, err
	}
	if s.V != Version {
		return nil, fmt.Errorf("version %d is not known", s.V)
	}
	s.env = new(record.Envelope)
	if err := json.Unmarshal(s.Envelope, s.env); err != nil {
		return nil, err
	}
	if s.env.ID != s.ID || len(s.env.Rcpt) != len(s.Recipients) {
		return nil, errors.New("envelope and state don't fit")
	}
	return s, nil
}

// body opens a message. Its reader gives ErrDamaged in the place of io.EOF where the bytes are not those of the envelope.
func (f *folder) body(env *record.Envelope) (io.ReadCloser, error) {
	name := f.file(env.ID, emlSuffix)
	r, err := f.fs.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	return newChecked(r, env), nil
}

// remove forgets a message: remove .json, fsync the folder, remove .eml. Where the fsync fails it may come back after a crash.
func (f *folder) remove(id record.ID) error {
	err := f.fs.Remove(f.file(id, jsonSuffix))
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = f.fs.SyncDir(f.dir)
	}
	if err == nil {
		if err = f.fs.Remove(f.file(id, emlSuffix)); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

// checked is a message that is read, and found to be what the envelope says, or not.
type checked struct {
	io.ReadCloser
	env  *record.Envelope
	hash hash.Hash
	size int64
}

func newChecked(r io.ReadCloser, env *record.Envelope) *checked {
	return &checked{ReadCloser: r, env: env, hash: sha256.New()}
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.hash.Write(p[:n])
	c.size += int64(n)
	if err == io.EOF && (c.size != c.env.Size || !bytes.Equal(c.hash.Sum(nil), c.env.SHA256[:])) {
		err = fmt.Errorf("%w: %s: %d bytes with SHA-256 %s, not %d with %s", ErrDamaged, c.env.ID, c.size, hex.EncodeToString(c.hash.Sum(nil)), c.env.Size, c.env.SHA256)
	}
	return n, err
}
