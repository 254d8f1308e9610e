package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/journal"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
)

// listeners are the SMTP servers of a node.
type listeners struct {
	servers []*smtpd.Server
	addrs   []net.Addr
}

// listen opens every listener or none.
func listen(cfgs []journal.Config, custody journal.Custody, pool *nexthop.Pool, log *slog.Logger, reg prometheus.Registerer, fail func(error)) (_ *listeners, err error) {
	l := &listeners{}
	reg.MustRegister(journal.Metrics()...)
	var open []net.Listener
	defer func() {
		if err != nil {
			for _, o := range open {
				o.Close()
			}
		}
	}()
	for _, cfg := range cfgs {
		log := log.With("part", "smtpd")
		srv, err := smtpd.New(cfg.Config, journal.New(cfg, custody, pool, log.With("listener", cfg.Name)), log, reg)
		if err != nil {
			return nil, err
		}
		o, err := net.Listen("tcp", cfg.Address)
		if err != nil {
			return nil, fmt.Errorf("listener %q: address: %w", cfg.Name, err)
		}
		open = append(open, o)
		l.servers, l.addrs = append(l.servers, srv), append(l.addrs, o.Addr())
	}
	for i, srv := range l.servers {
		go func() {
			if err := srv.Serve(open[i]); err != nil {
				fail(err)
			}
		}()
	}
	return l, nil
}

// shutdown takes no more mail and lets what is under way end, as long as ctx lasts.
func (l *listeners) shutdown(ctx context.Context) error {
	errs := make([]error, len(l.servers))
	var wg sync.WaitGroup
	for i, srv := range l.servers {
		wg.Go(func() {
			if err := srv.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) { // cut off: that client sends again
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
