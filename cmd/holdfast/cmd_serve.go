package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/journal"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/web"
)

// How long a stop may take: messages under way, looking at those that came, pages under way, then sealing and committing.
const (
	graceData    = 10 * time.Second
	graceVerdict = 6 * time.Second
	gracePages   = 5 * time.Second
	graceArchive = 30 * time.Second
	graceIndex   = 5 * time.Second // of what could not be archived
)

func serveCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Take mail, pass it on, keep it",
		Long: `Run the listeners, the archive, the index and the web page until SIGTERM or SIGINT. Without a configuration file: embedded defaults
under ./holdfast-data, on loopback only, and an archive is made there if there is none.`,
		Example: "  holdfast serve --config /etc/holdfast/holdfast.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(o.config)
			if err != nil {
				return err
			}
			if cfg.embedded && !exists(cfg.DataDir) {
				made, err := initArchive(cmd, cfg, archive.InitOptions{})
				if err != nil {
					return err
				}
				fmt.Fprintf(os.Stderr, "holdfast: no configuration and no archive: made archive %s in %s, keys in %s\n", made.Archive, cfg.DataDir, cfg.KeysDir)
			}
			s, err := startServer(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			return s.wait(cmd.Context())
		},
	}
}

// server is a node with its listeners.
type server struct {
	node  *node
	pool  *nexthop.Pool // of connections to next hops, for listeners and queue
	queue *mailQueue
	mail  *listeners
	http  []*http.Server
	web   string // address of the page

	verdicts *journal.Verdicts // nil: none are made
}

// startServer opens the archive, probes the store, and listens. What it has opened when something fails it closes again.
func startServer(ctx context.Context, cfg *config) (_ *server, err error) {
	if len(cfg.Listeners) == 0 {
		return nil, fmt.Errorf("%w %s: no listeners", errConfig, cfg.name())
	}
	n, err := openNode(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &server{node: n}
	n.start()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if err := n.probe(ctx); err != nil {
		return nil, err
	}
	s.pool = nexthop.New(nexthop.Options{Log: n.log.With("part", "nexthop"), Registry: n.reg})
	if s.queue, err = n.openQueue(s.pool); err != nil {
		return nil, err
	}
	custody := journal.Custody(n.mail)
	if cfg.Verdicts.Enabled {
		s.verdicts = journal.NewVerdicts(cfg.Verdicts, n.mail, n.log.With("part", "verdicts"), n.reg)
		custody = s.verdicts
	}
	if s.mail, err = listen(cfg.Listeners, custody, s.pool, n.log, n.reg, n.fail); err != nil {
		return nil, err
	}
	if err := s.listenWeb(cfg); err != nil {
		return nil, err
	}
	socket, err := listenSocket(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	s.http = append(s.http, serveSocket(socket, n, queueOf(n, s.queue)))
	if err := n.startCare(ctx); err != nil {
		return nil, err
	}
	n.done.Go(func() { n.purgeOnSchedule(n.running) })
	s.queue.start() // behind the listeners: one of them may be a destination
	if !n.archive.Readable() {
		n.log.Warn("packs are not encrypted to the identity in keys_dir: this node can't read them, and can't rebuild its index")
	}
	n.log.Info("ready", "web", s.web, "listeners", s.mail.addrs, "archive", cfg.Archive.Store, "encrypted", n.archive.Encrypted())
	return s, nil
}

func (s *server) listenWeb(cfg *config) error {
	l, err := net.Listen("tcp", cfg.Web.Address)
	if err != nil {
		return fmt.Errorf("web.address: %w", err)
	}
	s.web = l.Addr().String()
	srv := &http.Server{
		Handler: web.Handler(s.node.services(), map[string]http.Handler{
			"GET /metrics": promhttp.HandlerFor(s.node.reg, promhttp.HandlerOpts{}),
			"GET /healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") }),
			"GET /readyz":  http.HandlerFunc(s.ready),
		}),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	s.http = append(s.http, srv)
	go srv.Serve(l)
	return nil
}

// ready says whether mail would be accepted.
func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	err := s.node.spool.Ready(0)
	if early := func(l journal.Config) bool { return l.Ack == journal.AckArchive }; err == nil && slices.ContainsFunc(s.node.cfg.Listeners, early) {
		err = s.node.archive.Failing()
	}
	if err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// wait serves until ctx ends or the node fails, and stops.
func (s *server) wait(ctx context.Context) error {
	var failed error
	select {
	case <-ctx.Done():
		s.node.log.Info("stopping")
	case failed = <-s.node.failed:
		s.node.log.Error("stopping", "err", failed)
	}
	err := s.stop()
	s.node.log.Info("stopped", "err", err)
	return errors.Join(failed, err)
}

// stop ends in the order of the flow: no more mail, no more questions, then what is in custody is sealed and committed. Each has its own
// time: whoever reads a page slowly takes none from the archive.
func (s *server) stop() error {
	var errs []error
	s.node.stopCare()
	var queue sync.WaitGroup
	if s.queue != nil {
		queue.Go(s.queue.stop)
	}
	if s.mail != nil {
		ctx, cancel := context.WithTimeout(context.Background(), graceData)
		errs = append(errs, s.mail.shutdown(ctx))
		cancel()
	}
	if s.verdicts != nil {
		ctx, cancel := context.WithTimeout(context.Background(), graceVerdict)
		s.verdicts.Close(ctx)
		cancel()
	}
	queue.Wait()
	if s.pool != nil {
		s.pool.Close()
	}
	pages, cancel := context.WithTimeout(context.Background(), gracePages)
	defer cancel()
	for _, srv := range s.http {
		err := srv.Shutdown(pages)
		if errors.Is(err, context.DeadlineExceeded) { // cut off
			err = srv.Close()
		}
		errs = append(errs, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), graceArchive)
	defer cancel()
	errs = append(errs, s.node.stop(ctx))
	return errors.Join(errs...)
}
