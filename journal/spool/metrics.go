package spool

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	pending, staying, bytes prometheus.GaugeFunc
	fsync                   prometheus.Histogram
	failures                *prometheus.CounterVec
}

func newMetrics(s *Spool) *metrics {
	m := &metrics{
		pending: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "holdfast_spool_pending_records",
			Help: "Records, acts and supplements in custody, not yet committed to the archive.",
		}, func() float64 {
			n, _ := s.Pending()
			return float64(n)
		}),
		staying: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "holdfast_spool_undelivered_records",
			Help: "Messages that stay in the spool until their delivery has ended, in the archive or not.",
		}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(len(s.staying.byID))
		}),
		bytes: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "holdfast_spool_bytes",
			Help: "Bytes that the spool takes on disk.",
		}, func() float64 {
			return float64(s.used.Load())
		}),
		fsync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "holdfast_spool_fsync_seconds",
			Help:    "Time that an fsync of spooled records took.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_spool_failures_total",
			Help: "Failures of the spool: write, segment and big (what could not be written), space, delete, read, damage.",
		}, []string{"kind"}),
	}
	for _, kind := range []string{"write", "segment", "big", "space", "delete", "read", "damage"} {
		m.failures.WithLabelValues(kind)
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.pending, m.staying, m.bytes, m.fsync, m.failures}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for i, c := range m.collectors() {
		if err := r.Register(c); err != nil {
			for _, done := range m.collectors()[:i] {
				r.Unregister(done)
			}
			return err
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.collectors() {
		r.Unregister(c)
	}
}
