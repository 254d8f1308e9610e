package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/queue"
	"github.com/holdfast-archive/holdfast/journal/spool"
	"github.com/holdfast-archive/holdfast/web"
)

// mailQueue is the queue of a node. Only a server runs it; a command without one opens it to look, and to change what is there.
type mailQueue struct {
	*queue.Queue
	stopped chan struct{} // closed when Run has ended
	cancel  func()
}

// openQueue opens the queue. pool is nil where nothing is delivered.
func (n *node) openQueue(pool *nexthop.Pool) (*mailQueue, error) {
	ways, hostnames, wait := map[string]queue.Way{}, map[string]string{}, map[string]bool{}
	for _, l := range n.cfg.Listeners {
		if l = l.WithDefaults(); l.Mode == record.ModeQueue {
			ways[l.Name] = queue.Way{Router: l.Router(), Hostname: l.Hostname}
			hostnames[l.Name], wait[l.Name] = l.Hostname, l.Ack == journal.AckArchive
		}
	}
	q, err := queue.Open(n.cfg.Queue, queue.Options{
		Custody: n.spool, Source: n.spool.Forwarding(), Carrier: queue.NewOutbound(pool, ways), Audit: n.audit,
		Hostname: func(listener string) string {
			if name, ok := hostnames[listener]; ok {
				return name
			}
			return "localhost"
		},
		Await: func(ctx context.Context, env *record.Envelope) error {
			if !wait[env.Listener] {
				return nil
			}
			return n.archive.Await(ctx, env.ID)
		},
		Log: n.log.With("part", "queue"), Metrics: n.reg,
	})
	if err != nil {
		return nil, err
	}
	return &mailQueue{Queue: q}, nil
}

// start delivers until stop.
func (m *mailQueue) start() {
	ctx, cancel := context.WithCancel(context.Background())
	m.stopped, m.cancel = make(chan struct{}), cancel
	go func() {
		defer close(m.stopped)
		m.Run(ctx, graceData)
	}()
}

// stop lets what is under way end within its grace.
func (m *mailQueue) stop() {
	if m.cancel != nil { // it was started
		m.cancel()
		<-m.stopped
	}
	m.Close()
}

// queueAPI is the part of the node's own API that is for its queue. open gives the queue.
type queueAPI struct {
	node *node
	open func(ctx context.Context) (*queue.Queue, error)
}

// queueOf is the API of a running queue.
func queueOf(n *node, m *mailQueue) *queueAPI {
	return &queueAPI{n, func(context.Context) (*queue.Queue, error) { return m.Queue, nil }}
}

// queueAt is the API of the queue of a node that delivers nothing: it is opened when somebody asks.
func queueAt(n *node) *queueAPI {
	var mu sync.Mutex
	var m *mailQueue
	return &queueAPI{n, func(ctx context.Context) (*queue.Queue, error) {
		mu.Lock()
		defer mu.Unlock()
		if m == nil {
			opened, err := n.openQueue(nil)
			if err != nil {
				return nil, err
			}
			if err := opened.Gather(ctx); err != nil && !errors.Is(err, spool.ErrClosed) {
				return nil, err
			}
			m = opened
		}
		return m.Queue, nil
	}}
}

// routes adds the routes to those of the socket.
func (a *queueAPI) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/queue", a.with(a.list))
	mux.HandleFunc("GET /api/v1/queue/{id}", a.with(a.show))
	mux.HandleFunc("POST /api/v1/queue/recover", a.with(a.recover))
	mux.HandleFunc("POST /api/v1/queue/{do}", a.with(a.change))
}

type queueHandler func(w http.ResponseWriter, r *http.Request, q *queue.Queue, by record.Actor) error

func (a *queueAPI) with(h queueHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		by, _ := r.Context().Value(peerKey{}).(record.Actor)
		q, err := a.open(r.Context())
		if err == nil {
			err = h(w, r, q, by)
		}
		if err == nil {
			return
		}
		p := queueProblem(err)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(p.Status)
		json.NewEncoder(w).Encode(p)
	}
}

// queueProblem maps errors of the queue to HTTP. Who asks is one of the node's own people: errors are given whole.
func queueProblem(err error) web.Problem {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, queue.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, queue.ErrRequest), errors.Is(err, record.ErrID):
		status = http.StatusBadRequest
	case errors.Is(err, queue.ErrBusy):
		status = http.StatusConflict
	case errors.Is(err, audit.ErrNotRecorded):
		status = http.StatusServiceUnavailable
	}
	return web.Problem{Status: status, Error: err.Error()}
}

// selectionOf reads all, domain and id of a URL.
func selectionOf(v url.Values) (queue.Selection, error) {
	sel := queue.Selection{All: v.Get("all") == "1", Domain: v.Get("domain")}
	for _, s := range v["id"] {
		id, err := record.ParseID(s)
		if err != nil {
			return sel, err
		}
		sel.IDs = append(sel.IDs, id)
	}
	return sel, nil
}

// queueLine is one line of a list: a message, or what is wrong, which ends it.
type queueLine struct {
	Message *queue.Message `json:"message,omitempty"`
	Error   *web.Problem   `json:"error,omitempty"`
}

func (a *queueAPI) list(w http.ResponseWriter, r *http.Request, q *queue.Queue, by record.Actor) error {
	sel, err := selectionOf(r.URL.Query())
	if err != nil {
		return err
	}
	enc, begun := json.NewEncoder(w), false
	err = q.List(r.Context(), by, sel, func(m queue.Message) error {
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			begun = true
		}
		return enc.Encode(queueLine{Message: &m})
	})
	if err != nil && begun {
		p := queueProblem(err)
		return enc.Encode(queueLine{Error: &p})
	}
	return err
}

func (a *queueAPI) show(w http.ResponseWriter, r *http.Request, q *queue.Queue, by record.Actor) error {
	id, err := record.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	m, err := q.Show(r.Context(), by, id)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(m)
}

// queueDone says to how many messages a change was made, and what kept others from it.
type queueDone struct {
	Done  int    `json:"done"`
	Error string `json:"error,omitempty"`
}

func (a *queueAPI) change(w http.ResponseWriter, r *http.Request, q *queue.Queue, by record.Actor) error {
	v := r.URL.Query()
	sel, err := selectionOf(v)
	if err != nil {
		return err
	}
	n, err := q.Apply(r.Context(), by, sel, queue.Change{Do: r.PathValue("do"), Reason: v.Get("reason"), Bounce: v.Get("bounce") == "1"})
	if err != nil && n == 0 {
		return err
	}
	out := queueDone{Done: n}
	if err != nil {
		out.Error = fmt.Sprint(err)
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(out)
}
