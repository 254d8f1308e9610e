package nexthop

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	open, idle prometheus.Gauge
	up         *prometheus.GaugeVec
	auth       prometheus.Counter
	replies    *prometheus.CounterVec
}

// newMetrics makes the metrics, and registers them where there is a registry.
func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_nexthop_connections", Help: "Connections to next hops, in use or idle.",
		}),
		idle: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_nexthop_connections_idle", Help: "Idle connections to next hops.",
		}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "holdfast_nexthop_up", Help: "Of the hosts named in the configuration: 0 when the last try to reach it failed. Absent until it is needed.",
		}, []string{"host"}),
		auth: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_nexthop_auth_failures_total", Help: "Times that a next hop did not let us sign in.",
		}),
		replies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_nexthop_replies_total", Help: "Next hops' replies to whole messages, by class; none: no reply came.",
		}, []string{"class"}),
	}
	for _, class := range []string{"2xx", "4xx", "5xx", "none"} {
		m.replies.WithLabelValues(class)
	}
	if registry != nil {
		registry.MustRegister(m.open, m.idle, m.up, m.auth, m.replies)
	}
	return m
}

func (m *metrics) replied(code int) {
	class := "none"
	switch code / 100 {
	case 2:
		class = "2xx"
	case 4:
		class = "4xx"
	case 5:
		class = "5xx"
	}
	m.replies.WithLabelValues(class).Inc()
}

// health shows whether a host is up. Those found in the DNS are not shown: there is no end of them.
func (m *metrics) health(h *host) {
	if h.target.IP.IsValid() {
		return
	}
	up := 1.0
	if h.down {
		up = 0
	}
	m.up.WithLabelValues(h.target.Address).Set(up)
}
