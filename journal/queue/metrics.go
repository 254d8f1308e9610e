package queue

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/record"
)

type metrics struct {
	queue      *Queue
	messages   *prometheus.Desc
	oldest     *prometheus.Desc
	downs      *prometheus.Desc
	deliveries *prometheus.CounterVec // by recipient
	reports    *prometheus.CounterVec
	damaged    prometheus.Counter
	failures   prometheus.Counter
}

func newMetrics(q *Queue) *metrics {
	m := &metrics{
		queue:    q,
		messages: prometheus.NewDesc("holdfast_queue_messages", "Messages in the queue: active (being delivered, or about to be), deferred, held.", []string{"state"}, nil),
		oldest:   prometheus.NewDesc("holdfast_queue_oldest_seconds", "Age of the oldest message in the queue that is not held; 0: there is none.", nil, nil),
		downs:    prometheus.NewDesc("holdfast_queue_destinations_down", "Destinations that could not be reached at the last attempt.", nil, nil),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_queue_deliveries_total", Help: "Attempts by their outcome, counted for each recipient.",
		}, []string{"outcome"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_queue_reports_total", Help: "Reports to senders (RFC 3464), by action.",
		}, []string{"action"}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_queue_damaged_total", Help: "Files of the queue that were set aside because they are damaged or foreign.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_queue_failures_total", Help: "Failures to read or write the queue or the spool; what failed is tried again.",
		}),
	}
	for _, o := range []string{"delivered", "deferred", "failed", "unknown", "expired", "dropped"} {
		m.deliveries.WithLabelValues(o)
	}
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m, m.deliveries, m.reports, m.damaged, m.failures}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range m.all() {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r != nil {
		for _, c := range m.all() {
			r.Unregister(c)
		}
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.messages
	ch <- m.oldest
	ch <- m.downs
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	q := m.queue
	q.mu.Lock()
	now, n, oldest := q.now(), map[string]int{}, 0.0
	for _, e := range q.entries {
		n[e.stateName()]++
		if !e.held && e.loaded {
			oldest = max(oldest, (now - e.born).Seconds())
		}
	}
	downs := len(q.downs)
	q.mu.Unlock()
	for _, state := range []string{StateActive, StateDeferred, StateHeld} {
		ch <- prometheus.MustNewConstMetric(m.messages, prometheus.GaugeValue, float64(n[state]), state)
	}
	ch <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, oldest)
	ch <- prometheus.MustNewConstMetric(m.downs, prometheus.GaugeValue, float64(downs))
}

// count counts an attempt.
func (m *metrics) count(d record.Delivery) {
	for _, r := range d.Recipients {
		outcome := "deferred"
		switch {
		case r.Outcome == record.Delivered:
			outcome = string(delivered)
		case r.Outcome == record.Unknown:
			outcome = string(record.Unknown)
		case permanent(r):
			outcome = string(failed)
		}
		m.deliveries.WithLabelValues(outcome).Inc()
	}
}
