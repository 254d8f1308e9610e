package object

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Instrument counts what goes wrong in a store, and times its calls:
//
//	holdfast_object_errors_total{op,kind}    kind: conflict, mismatch, timeout, other
//	holdfast_object_seconds{op}              until the call returned; a body that Open gave is read after that
//
// An absent object is an answer, not an error, and a call that its caller gave up is none either. A nil reg gives k as it is. Two stores
// may share a registry, and then share the metrics.
func Instrument(k Keeper, reg prometheus.Registerer) Keeper {
	if reg == nil {
		return k
	}
	return &instrumented{
		Keeper: k,
		errors: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_object_errors_total",
			Help: "Calls to the object store that failed, by operation and kind of error.",
		}, []string{"op", "kind"})),
		seconds: register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "holdfast_object_seconds",
			Help:    "Time until a call to the object store returned.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60},
		}, []string{"op"})),
	}
}

func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	err := reg.Register(c)
	var have prometheus.AlreadyRegisteredError
	if errors.As(err, &have) {
		if c, ok := have.ExistingCollector.(C); ok {
			return c
		}
	}
	return c // unregistered where another metric has its name: counted and not shown
}

type instrumented struct {
	Keeper
	errors  *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func (s *instrumented) done(op string, start time.Time, err error) {
	s.seconds.WithLabelValues(op).Observe(time.Since(start).Seconds())
	s.failed(op, err)
}

func (s *instrumented) failed(op string, err error) {
	if kind := errorKind(err); kind != "" {
		s.errors.WithLabelValues(op, kind).Inc()
	}
}

func errorKind(err error) string {
	var timeout net.Error
	switch {
	case err == nil, err == io.EOF, errors.Is(err, ErrNotFound), errors.Is(err, context.Canceled):
		return ""
	case errors.Is(err, ErrConflict):
		return "conflict"
	case errors.Is(err, ErrMismatch):
		return "mismatch"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "other"
}

func (s *instrumented) Create(ctx context.Context, key string, body io.ReadSeeker, lock Lock) (info Info, err error) {
	defer func(t time.Time) { s.done("create", t, err) }(time.Now())
	return s.Keeper.Create(ctx, key, body, lock)
}

func (s *instrumented) Open(ctx context.Context, key string, off, n int64) (_ io.ReadCloser, err error) {
	defer func(t time.Time) { s.done("open", t, err) }(time.Now())
	r, err := s.Keeper.Open(ctx, key, off, n)
	return s.reader(r, err)
}

func (s *instrumented) OpenVersion(ctx context.Context, key, version string, off, n int64) (_ io.ReadCloser, err error) {
	defer func(t time.Time) { s.done("open", t, err) }(time.Now())
	r, err := s.Keeper.OpenVersion(ctx, key, version, off, n)
	return s.reader(r, err)
}

func (s *instrumented) reader(r io.ReadCloser, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, err
	}
	return &instrumentedReader{r, s}, nil
}

func (s *instrumented) Stat(ctx context.Context, key string) (info Info, err error) {
	defer func(t time.Time) { s.done("stat", t, err) }(time.Now())
	return s.Keeper.Stat(ctx, key)
}

// List is counted, not timed: its time is mostly its caller's.
func (s *instrumented) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for info, err := range s.Keeper.List(ctx, prefix, after) {
			s.failed("list", err)
			if !yield(info, err) {
				return
			}
		}
	}
}

func (s *instrumented) Versions(ctx context.Context, key string) (_ []Info, err error) {
	defer func(t time.Time) { s.done("versions", t, err) }(time.Now())
	return s.Keeper.Versions(ctx, key)
}

func (s *instrumented) Replace(ctx context.Context, key string, body []byte) (err error) {
	defer func(t time.Time) { s.done("replace", t, err) }(time.Now())
	return s.Keeper.Replace(ctx, key, body)
}

func (s *instrumented) Extend(ctx context.Context, key string, until time.Time) (err error) {
	defer func(t time.Time) { s.done("extend", t, err) }(time.Now())
	return s.Keeper.Extend(ctx, key, until)
}

func (s *instrumented) Hold(ctx context.Context, key string) (err error) {
	defer func(t time.Time) { s.done("hold", t, err) }(time.Now())
	return s.Keeper.Hold(ctx, key)
}

type instrumentedReader struct {
	io.ReadCloser
	s *instrumented
}

func (r *instrumentedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.s.failed("read", err)
	return n, err
}
