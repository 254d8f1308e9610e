package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"syscall"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/holdfast-archive/holdfast/archive"
)

// Job is one export on its way: in NAME.part, with the bag as it grows in bag/ and in state/ what a later run needs to go on. It is for one
// goroutine, and holds a lock on NAME.part from the first byte on, so that of two jobs one is ErrOther.
type Job struct {
	place string // of the bundle when it is whole
	part  string
	begun *begun // nil: nothing is written yet
	lock  *os.File
}

// begun is state/begun.json: what is exported. It is written once.
type begun struct {
	V        int     `json:"v"`
	Request  Request `json:"request"`
	Log      string  `json:"log"`
	Commit   uint64  `json:"commit"`
	Software string  `json:"software"`
}

// Names of what is in NAME.part.
const (
	bagFolder   = "bag"
	stateFolder = "state"
	fileBegun   = "begun.json"
	fileHits    = "hits"
	fileActs    = "acts.jsonl"
	fileMark    = "progress.json"
)

// Begin looks at the place of a bundle, and writes nothing. A job that was cut off there is gone on with where the same was asked for:
// ErrOther where something else was, or where another process is at it. ErrExists where there is anything at the place itself.
func Begin(place string, r Request) (*Job, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	j := &Job{place: place, part: place + ".part"}
	if _, err := os.Lstat(place); err == nil {
		return nil, fmt.Errorf("%s: %w", place, ErrExists)
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	text, err := os.ReadFile(j.state(fileBegun))
	if errors.Is(err, os.ErrNotExist) {
		return j, j.nothingThere()
	} else if err != nil {
		return nil, err
	}
	var b begun
	if err := json.Unmarshal(text, &b); err != nil || b.V != Version {
		return nil, fmt.Errorf("%s: %w", j.state(fileBegun), ErrState)
	}
	if !b.Request.sameAs(&r) {
		return nil, fmt.Errorf("%s: %w: finish that one, or remove the folder", j.part, ErrOther)
	}
	j.begun = &b
	return j, j.take()
}

// sameAs says that two requests ask for the same. What was found when they were made, and what relative dates meant then, is not compared.
func (r *Request) sameAs(o *Request) bool {
	a, b := *r, *o
	for _, q := range []*Request{&a, &b} {
		q.Query, q.Index, q.Unsure, q.Pending = "", nil, 0, 0
	}
	return reflect.DeepEqual(a, b)
}

// nothingThere is nil where NAME.part is absent, or a job in it did not come so far as to have begun.
func (j *Job) nothingThere() error {
	list, err := os.ReadDir(j.part)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	for _, e := range list {
		if e.Name() != stateFolder {
			return fmt.Errorf("%s: %w", j.part, ErrExists)
		}
	}
	return nil
}

// Resumed gives what is gone on with; nil where this is a new job.
func (j *Job) Resumed() *Request {
	if j.begun == nil {
		return nil
	}
	return &j.begun.Request
}

// Start writes down what is exported. The act of the export must be in custody before; act is its JSON. A job that is gone on with keeps its
// own selection and request, and adds the act.
func (j *Job) Start(r Request, sel Selection, software string, act []byte) error {
	if j.begun == nil {
		if err := os.MkdirAll(filepath.Join(j.part, stateFolder), 0o700); err != nil {
			return err
		}
		if err := j.take(); err != nil {
			return err
		}
		hits, err := sel.Numbers.MarshalBinary()
		if err == nil {
			err = writeSynced(j.state(fileHits), hits)
		}
		if err == nil {
			err = writeSynced(j.state(fileActs), nil)
		}
		if err != nil {
			return err
		}
		b := begun{Version, r, sel.Log, sel.Commit, software}
		text, err := json.Marshal(&b)
		if err == nil {
			err = writeSynced(j.state(fileBegun), text)
		}
		if err != nil {
			return err
		}
		j.begun = &b
	}
	f, err := os.OpenFile(j.state(fileActs), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(act, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

// take locks the job for this process.
func (j *Job) take() error {
	f, err := os.OpenFile(j.state("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("%s: %w, and is going on", j.part, ErrOther)
	}
	j.lock = f
	return nil
}

// Close lets go of the lock. What was written stays, for a later run.
func (j *Job) Close() error {
	if j.lock == nil {
		return nil
	}
	return j.lock.Close()
}

func (j *Job) state(name string) string { return filepath.Join(j.part, stateFolder, name) }

func (j *Job) hits() (*roaring64.Bitmap, error) {
	f, err := os.Open(j.state(fileHits))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hits := roaring64.New()
	if _, err := hits.ReadFrom(f); err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %w: %w", f.Name(), ErrState, err)
	}
	return hits, nil
}

// Options are what a job is run with.
type Options struct {
	Archive  *archive.Archive
	Review   Review                         // nil: nothing is withheld
	Progress func(done, total, bytes int64) // messages, and bytes of mail; nil: nobody asks
}

// Run writes the bag, from where an earlier run ended, to its end. After an error, or a kill, the next run goes on. It leaves the bag in
// NAME.part, for Deliver.
func (j *Job) Run(ctx context.Context, o Options) (*Result, error) {
	resumed := false
	if _, err := os.Stat(j.state(fileMark)); err == nil {
		resumed = true
	}
	hits, err := j.hits()
	if err != nil {
		return nil, err
	}
	snap, err := o.Archive.SnapshotAt(ctx, j.begun.Log, j.begun.Commit)
	if err != nil {
		return nil, err
	}
	w, err := openWriter(j, snap, &o)
	if err != nil {
		return nil, err
	}
	err = w.all(ctx, hits)
	if err == nil {
		err = w.finish()
	}
	if err = errors.Join(err, w.close()); err != nil {
		return nil, err
	}
	if err := syncTree(j.part); err != nil {
		return nil, err
	}
	w.result.Resumed = resumed
	return &w.result, nil
}

// writeSynced makes a file, or replaces it: written under another name, fsynced, renamed, and the folder fsynced.
func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncPath(filepath.Dir(path))
}

// syncPath fsyncs one file or folder.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
