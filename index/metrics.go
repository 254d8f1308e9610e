package index

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Metrics are of the index as a whole, whichever Follower feeds it. Safe for concurrent use.
type Metrics struct {
	shown     atomic.Pointer[Follower]
	lag       *prometheus.Desc
	documents *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	partial   prometheus.Counter
	errors    prometheus.Counter
	batch     prometheus.Histogram
}

// NewMetrics makes metrics and registers them; a nil registerer leaves them to themselves.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		lag: prometheus.NewDesc("holdfast_index_lag_entries",
			"Records in custody and entries of the ledger that are not in the index yet. Absent until known.", nil, nil),
		documents: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_index_documents_total", Help: "Documents indexed, by where they were read: spool or ledger.",
		}, []string{"source"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_index_bytes_total", Help: "Bytes of the messages that were indexed, by where they were read: spool or ledger.",
		}, []string{"source"}),
		partial: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_index_unreadable_total", Help: "Records of which the message could not be read or parsed: indexed without its text.",
		}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_index_errors_total", Help: "Failed attempts to read or to write the index or what it follows; each is tried again.",
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "holdfast_index_batch_seconds", Help: "From the first record of a batch until the batch can be found.",
			Buckets: []float64{0.25, 0.5, 1, 2, 4, 8, 16, 60},
		}),
	}
	if reg != nil {
		reg.MustRegister(lagCollector{m}, m.documents, m.bytes, m.partial, m.errors, m.batch)
	}
	return m
}

// Show says whose lag is shown. Before the first call there is none.
func (m *Metrics) Show(f *Follower) { m.shown.Store(f) }

// lagCollector gives the lag at the time of the scrape, or nothing before it is known.
type lagCollector struct{ *Metrics }

func (c lagCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.lag }

func (c lagCollector) Collect(ch chan<- prometheus.Metric) {
	f := c.shown.Load()
	if f == nil {
		return
	}
	if n, known := f.Lag(); known {
		ch <- prometheus.MustNewConstMetric(c.lag, prometheus.GaugeValue, float64(n))
	}
}

// incomplete tells of a record whose document lacks its message.
func (f *Follower) incomplete(id record.ID, err error) {
	if err == nil {
		return
	}
	f.metrics.partial.Inc()
	f.log.Warn("a record is indexed without the text of its message", "id", id, "error", err)
}
