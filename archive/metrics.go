package archive

import "github.com/prometheus/client_golang/prometheus"

// metrics are what the archive counts. The names are for dashboards and stay.
type metrics struct {
	records    prometheus.Counter
	raw        prometheus.Counter
	stored     prometheus.Counter
	unreadable prometheus.Counter
	altered    prometheus.Counter
	await      prometheus.Histogram
	foreign    prometheus.Counter
	markers    prometheus.Gauge
	versions   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, a *Archive) *metrics {
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_archive_bytes_total", Help: "Bytes archived since the start: raw, as received, and stored, as compressed.",
	}, []string{"kind"})
	m := &metrics{
		records: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_archive_records_total", Help: "Records committed to the archive since the start.",
		}),
		raw:    bytes.WithLabelValues("raw"),
		stored: bytes.WithLabelValues("stored"),
		unreadable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_archive_unreadable_total", Help: "Records in custody that could not be read and stay there.",
		}),
		altered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_archive_altered_total", Help: "Records read that are not what the ledger says they were.",
		}),
		foreign: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_archive_foreign_objects_total", Help: "Objects of others that stood under the key of a new pack.",
		}),
	}
	m.await = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "holdfast_archive_await_seconds",
		Help:    "Time that a message was waited for until it was in the object store (ack: archive).",
		Buckets: prometheus.ExponentialBuckets(0.002, 2, 16),
	})
	m.markers, m.versions = newForeignGauges()
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "holdfast_ledger_size", Help: "Entries in this node's log.",
	}, func() float64 { return float64(a.log.Head().Size) })
	if reg != nil {
		reg.MustRegister(m.records, bytes, m.unreadable, m.altered, m.foreign, m.markers, m.versions, m.await, size)
	}
	return m
}
