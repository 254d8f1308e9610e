package scrub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Finding is something that is wrong with an object.
type Finding struct {
	Kind string    `json:"kind"` // "altered", "missing"
	Key  string    `json:"key"`
	What string    `json:"what"`
	Time time.Time `json:"time"` // when it was found first, UTC
}

// Status is how far the scrub is and what it has found. Its JSON is that of the API.
type Status struct {
	Share     float64   `json:"share"`              // of the archive, each day
	Started   time.Time `json:"started,omitzero"`   // the pass that is under way
	Completed time.Time `json:"completed,omitzero"` // the last whole pass
	Findings  []Finding `json:"findings"`           // at most MaxFindings of them
	More      int       `json:"more,omitempty"`     // findings beyond these
}

// MaxFindings is how many findings are kept. They are all in the log, and verify names each.
const MaxFindings = 1000

// state is the file with the position. It is derived: without it a pass begins anew.
type state struct {
	V         int               `json:"v"`
	Archive   string            `json:"archive"`
	Started   time.Time         `json:"started,omitzero"`
	Completed time.Time         `json:"completed,omitzero"`
	Next      map[string]uint64 `json:"next"` // by log: the commit whose packs come next
	Findings  []Finding         `json:"findings,omitempty"`
	More      int               `json:"more,omitempty"`

	saved time.Time
}

func load(path string) (state, error) {
	var s state
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && s.V != record.Version {
		err = fmt.Errorf("version %d", s.V)
	}
	if err != nil {
		return state{}, fmt.Errorf("%s: %w", path, err)
	}
	if s.Next == nil {
		s.Next = map[string]uint64{}
	}
	return s, nil
}

// save writes the position, if anything has changed and it is time.
//
//	write(<path>.new), fsync, close, rename(<path>)
func (s *Scrubber) save(now bool) {
	s.mu.Lock()
	due := s.unsaved && (now || time.Since(s.state.saved) > saveEvery)
	var text []byte
	if due {
		text, _ = json.Marshal(&s.state) // of plain values
		s.unsaved, s.state.saved = false, time.Now()
	}
	s.mu.Unlock()
	if !due {
		return
	}
	if err := write(s.Path, text); err != nil {
		s.Log.Warn("the position of the scrub can't be kept", "err", err)
	}
}

func write(path string, text []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", filepath.Clean(path))
}

func (s *Scrubber) next(log string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Next[log]
}

func (s *Scrubber) passed(log string, next uint64) {
	s.mu.Lock()
	s.state.Next[log], s.unsaved = next, true
	s.mu.Unlock()
	s.save(false)
}

// found takes up a finding, and says it aloud where it is new.
func (s *Scrubber) found(kind, key string, what error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.state.Findings, func(f Finding) bool { return f.Key == key }) {
		return
	}
	s.unsaved = true
	if len(s.state.Findings) < MaxFindings {
		s.state.Findings = append(s.state.Findings, Finding{kind, key, what.Error(), s.Now().UTC()})
	} else {
		s.state.More++
	}
	s.Log.Error("the scrub has found a fault", "kind", kind, "object", key, "err", what)
}

// healed lets go of the findings of objects that are well again.
func (s *Scrubber) healed(well func(key string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.state.Findings)
	s.state.Findings = slices.DeleteFunc(s.state.Findings, func(f Finding) bool {
		is := well(f.Key)
		if is {
			s.Log.Info("what the scrub had found is well again", "object", f.Key)
		}
		return is
	})
	if n := len(s.state.Findings); n != before {
		s.unsaved = true
		if n == 0 {
			s.state.More = 0 // what was beyond the list is found again
		}
	}
}

// inLog says whether a key is of an object of a log.
func inLog(log, key string) bool { return strings.HasPrefix(key, "ledger/"+log+"/") }

// Status tells how far it is.
func (s *Scrubber) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{s.Config.Share, s.state.Started, s.state.Completed, append([]Finding{}, s.state.Findings...), s.state.More}
}

// position gives, by log, the commit whose packs come next.
func (s *Scrubber) position() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.state.Next)
}

type metrics struct {
	packs, bytes, failures prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Scrubber) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		packs:    counter("holdfast_scrub_packs_total", "Packs that the scrub has read whole since the start."),
		bytes:    counter("holdfast_scrub_bytes_total", "Bytes of packs that the scrub has read since the start."),
		failures: counter("holdfast_scrub_failures_total", "Times that the scrub could not read the archive."),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, f func(*state) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return f(&s.state)
		})
	}
	reg.MustRegister(m.packs, m.bytes, m.failures,
		gauge("holdfast_scrub_findings", "Objects that the scrub found altered or missing and that are not well again.", func(s *state) float64 { return float64(len(s.Findings) + s.More) }),
		gauge("holdfast_scrub_completed_timestamp_seconds", "Unix time at which the scrub had last read all of the archive; 0: not yet.", func(s *state) float64 {
			if s.Completed.IsZero() {
				return 0
			}
			return float64(s.Completed.Unix())
		}),
		gauge("holdfast_scrub_position_commits", "Commits whose packs the pass under way has read.", func(s *state) (n float64) {
			for _, next := range s.Next {
				n += float64(next)
			}
			return n
		}))
	return m
}
