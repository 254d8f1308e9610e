package smtpd

import (
	"log/slog"
	"os"
	"sync"
	"time"
)

// reloaded is what files hold, read again when they change. While they can't be read, half written perhaps, what they held before serves.
// Safe for concurrent use.
type reloaded[T any] struct {
	files []string
	read  func() (T, error)
	log   *slog.Logger // nil: says nothing

	mu      sync.Mutex
	value   T // guarded by mu, as are all that follow
	have    bool
	asRead  []stamp // the files as they were when value was read
	refused []stamp // the files as they were when that failed
}

// stamp tells one state of a file from another.
type stamp struct {
	size int64
	time time.Time
}

// get is what the files hold now. An error means that they could never be read.
func (r *reloaded[T]) get() (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, err := r.stamps()
	if r.have && (err != nil || same(now, r.asRead) || same(now, r.refused)) {
		return r.value, nil
	}
	value, err := r.read()
	if err != nil {
		if r.have {
			r.refused = now
			if r.log != nil {
				r.log.Error("changed files can't be used, what they held before serves", "files", r.files, "err", err)
			}
			return r.value, nil
		}
		return value, err
	}
	r.value, r.have, r.asRead, r.refused = value, true, now, nil
	return value, nil
}

func (r *reloaded[T]) stamps() (list []stamp, err error) {
	for _, f := range r.files {
		info, err := os.Stat(f)
		if err != nil {
			return nil, err
		}
		list = append(list, stamp{info.Size(), info.ModTime()})
	}
	return list, nil
}

func same(a, b []stamp) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].size != b[i].size || !a[i].time.Equal(b[i].time) {
			return false
		}
	}
	return true
}
