package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/authres"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

// VerdictConfig is the section "verdicts" of the configuration. A zero value stands for the default.
type VerdictConfig struct {
	Enabled  bool          `mapstructure:"enabled"`
	Resolver []string      `mapstructure:"resolver"` // IP or IP:PORT of DNS servers; none: those of /etc/resolv.conf
	Modes    []string      `mapstructure:"modes"`    // of listeners; relay and queue: journal reports come from our own server
	Timeout  time.Duration `mapstructure:"timeout"`  // for one message: what is not answered by then is temperror; 5s
}

// maxVerdictTime is the longest timeout: the spool waits for a verdict for 30 seconds.
const maxVerdictTime = 20 * time.Second

// WithDefaults fills in what is zero.
func (c VerdictConfig) WithDefaults() VerdictConfig {
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	if len(c.Modes) == 0 {
		c.Modes = []string{record.ModeRelay, record.ModeQueue}
	}
	return c
}

// Validate names every fault at once: the key and its value.
func (c VerdictConfig) Validate() error {
	var errs []error
	for i, s := range c.Resolver {
		if _, err := authres.ServerAddress(s); err != nil {
			errs = append(errs, fmt.Errorf("verdicts.resolver[%d]: %w", i, err))
		}
	}
	for i, mode := range c.Modes {
		switch mode {
		case record.ModeRelay, record.ModeQueue, record.ModeJournal:
		default:
			errs = append(errs, fmt.Errorf("verdicts.modes[%d]: %q is neither relay, queue nor journal", i, mode))
		}
	}
	if c.Timeout < 0 || c.Timeout > maxVerdictTime {
		errs = append(errs, fmt.Errorf("verdicts.timeout: %v is not between 0 and %v", c.Timeout, maxVerdictTime))
	}
	return errors.Join(errs...)
}

// Verdicts stands before custody and has each message that was taken looked at: what SPF, DKIM, DMARC and ARC say of it becomes its
// supplement record.SupplementAuth. That is done beside the way of the message. It never refuses one, nor keeps anybody waiting for a
// reply: when there is more to look at than time, messages go without, and are counted. Safe for concurrent use.
type Verdicts struct {
	VerdictCustody
	cfg      VerdictConfig
	resolver *authres.Resolver
	checker  *authres.Checker
	log      *slog.Logger

	jobs     chan *record.Envelope
	stopping chan struct{} // closed: nothing more is taken
	stop     sync.Once
	workers  sync.WaitGroup
	ctx      context.Context // of the workers; its end makes them give up
	giveUp   context.CancelFunc

	results *prometheus.CounterVec
	dropped *prometheus.CounterVec
}

// VerdictCustody is what the verdicts need of custody. The spool is one.
type VerdictCustody interface {
	Custody
	// Open opens the body of a message to which a verdict is owed.
	Open(record.ID) (io.ReadCloser, error)
	// Waive says that a verdict that was owed will not come.
	Waive(record.ID)
}

const (
	verdictQueue   = 1000 // messages that wait to be looked at
	verdictWorkers = 32   // that are looked at at once: most of the time they wait for the DNS
)

// Why a message has no verdicts.
const (
	droppedFull  = "full"  // too many waited
	droppedGone  = "gone"  // the archive had it before it could be looked at (ack: archive)
	droppedFault = "fault" // a fault of ours: see the log
	droppedStop  = "stop"  // the server was stopped
)

// NewVerdicts starts the workers. cfg has been validated. log and reg may be nil.
func NewVerdicts(cfg VerdictConfig, custody VerdictCustody, log *slog.Logger, reg prometheus.Registerer) *Verdicts {
	cfg = cfg.WithDefaults()
	servers := make([]string, len(cfg.Resolver))
	for i, s := range cfg.Resolver {
		servers[i], _ = authres.ServerAddress(s)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	resolver := authres.NewResolver(servers)
	v := &Verdicts{
		VerdictCustody: custody, cfg: cfg, resolver: resolver, checker: authres.NewChecker(resolver), log: log,
		jobs: make(chan *record.Envelope, verdictQueue), stopping: make(chan struct{}),
	}
	v.ctx, v.giveUp = context.WithCancel(context.Background())
	v.register(reg)
	for range verdictWorkers {
		v.workers.Go(v.work)
	}
	return v
}

// Accept implements Custody.
func (v *Verdicts) Accept(ctx context.Context, env record.Envelope, body io.Reader, opt spool.AcceptOptions) (record.ID, error) {
	if !slices.Contains(v.cfg.Modes, env.Mode) {
		return v.VerdictCustody.Accept(ctx, env, body, opt)
	}
	var kept record.Envelope
	finish := opt.Finish
	opt.Finish = func(env *record.Envelope) error {
		if finish != nil {
			if err := finish(env); err != nil {
				return err
			}
		}
		kept = *env
		return nil
	}
	opt.Verdict = true
	id, err := v.VerdictCustody.Accept(ctx, env, body, opt)
	if err == nil {
		v.take(&kept)
	}
	return id, err
}

// take has a message looked at, or not where too many wait.
func (v *Verdicts) take(env *record.Envelope) {
	reason := droppedStop
	select {
	case <-v.stopping:
	default:
		select {
		case v.jobs <- env:
			return
		default:
			reason = droppedFull
		}
	}
	v.drop(env, reason)
}

func (v *Verdicts) drop(env *record.Envelope, reason string) {
	v.Waive(env.ID)
	v.dropped.WithLabelValues(reason).Inc()
}

// Close looks at what waits, as long as ctx lasts, and ends. The listeners have ended before, the spool ends after it.
func (v *Verdicts) Close(ctx context.Context) {
	v.stop.Do(func() { close(v.stopping) })
	giveUp := context.AfterFunc(ctx, v.giveUp)
	defer giveUp()
	v.workers.Wait()
	v.giveUp()
	for {
		select {
		case env := <-v.jobs:
			v.drop(env, droppedStop)
		default:
			return
		}
	}
}

func (v *Verdicts) work() {
	for {
		select {
		case env := <-v.jobs:
			v.look(env)
			continue
		default:
		}
		select {
		case env := <-v.jobs:
			v.look(env)
		case <-v.stopping:
			if len(v.jobs) == 0 {
				return
			}
		}
	}
}

// look makes the verdicts of one message. Whatever it meets there, the server goes on.
func (v *Verdicts) look(env *record.Envelope) {
	id := env.ID
	defer func() {
		if r := recover(); r != nil {
			v.log.Error("a message could not be looked at", "record", id, "fault", r, "stack", string(debug.Stack()))
			v.drop(env, droppedFault)
		}
	}()
	verdicts, err := v.check(env)
	switch {
	case v.ctx.Err() != nil:
		v.drop(env, droppedStop)
		return
	case errors.Is(err, spool.ErrReleased):
		v.drop(env, droppedGone)
		return
	case err != nil:
		v.log.Warn("a message could not be looked at", "record", id, "err", err)
		v.drop(env, droppedFault)
		return
	}
	it := &record.Item{Kind: record.KindSupplement, ID: id, Supplement: &record.SupplementDoc{Supplement: record.Supplement{
		ID: id, Name: record.SupplementAuth, Time: record.Now(), Auth: verdicts,
	}}}
	if err := v.AppendSoon(it); err != nil {
		v.log.Warn("verdicts are not recorded", "record", id, "err", err)
		v.drop(env, droppedFault)
		return
	}
	for _, r := range verdicts.Results() {
		v.results.WithLabelValues(r.Kind, r.Result).Inc()
	}
}

func (v *Verdicts) check(env *record.Envelope) (*record.Verdicts, error) {
	body, err := v.Open(env.ID)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	ctx, cancel := context.WithTimeout(v.ctx, v.cfg.Timeout)
	defer cancel()
	return v.checker.Check(ctx, env, body)
}

func (v *Verdicts) register(reg prometheus.Registerer) {
	v.results = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_auth_verdicts_total", Help: "Messages looked at, by what spf, dkim, dmarc and arc say of them.",
	}, []string{"kind", "result"})
	v.dropped = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_auth_dropped_total", Help: "Messages that go without verdicts: full (too many waited), gone (archived before), stop, fault (see the log).",
	}, []string{"reason"})
	for _, reason := range []string{droppedFull, droppedGone, droppedStop, droppedFault} {
		v.dropped.WithLabelValues(reason)
	}
	if reg == nil {
		return
	}
	questions := func(name, help string, pick func(cached, asked, failed uint64) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(pick(v.resolver.Counts())) })
	}
	reg.MustRegister(v.results, v.dropped,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "holdfast_auth_queue_length", Help: "Messages that wait to be looked at.",
		}, func() float64 { return float64(len(v.jobs)) }),
		questions("holdfast_auth_dns_cached_total", "Questions answered from memory.", func(cached, _, _ uint64) uint64 { return cached }),
		questions("holdfast_auth_dns_asked_total", "Questions put to a DNS server.", func(_, asked, _ uint64) uint64 { return asked }),
		questions("holdfast_auth_dns_failed_total", "Questions that no DNS server answered.", func(_, _, failed uint64) uint64 { return failed }),
	)
}
