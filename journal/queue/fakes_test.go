package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

// fakeSpool is a spool that is strict: it fails the test where a supplement's name is used twice for different words, where something is
// asked of it that it never gave, and it forgets at a power cut whatever it may.
type fakeSpool struct {
	t   testing.TB
	rng *rand.Rand

	mu          sync.Mutex
	order       []record.ID
	messages    map[record.ID]*record.Item
	bodies      map[record.ID][]byte
	supplements map[record.ID]map[string]string // by name: the document
	final       map[record.ID]bool              // a last supplement is durable
	ended       map[record.ID]bool              // in memory
	gone        map[record.ID]bool              // its segment is deleted: it can't come back
	soon        []*record.Item                  // AppendSoon, not yet durable
	given       int
	changed     chan struct{}
	dead        bool
	fails       func(op string) error
	acts        []string
}

func newFakeSpool(t testing.TB, rng *rand.Rand) *fakeSpool {
	return &fakeSpool{
		t: t, rng: rng, messages: map[record.ID]*record.Item{}, bodies: map[record.ID][]byte{}, supplements: map[record.ID]map[string]string{},
		final: map[record.ID]bool{}, ended: map[record.ID]bool{}, gone: map[record.ID]bool{}, changed: make(chan struct{}),
	}
}

// restart is what a new process finds.
func (s *fakeSpool) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range s.soon[:s.rng.IntN(len(s.soon)+1)] {
		s.write(it)
	}
	s.soon = nil
	for id := range s.ended {
		if s.rng.IntN(2) == 0 {
			s.gone[id] = true
		}
	}
	s.ended = map[record.ID]bool{}
	s.given, s.dead, s.changed = 0, false, make(chan struct{})
}

func (s *fakeSpool) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
}

func (s *fakeSpool) check(op string) error {
	if s.dead {
		return errDead
	}
	if s.fails != nil {
		return s.fails(op)
	}
	return nil
}

func (s *fakeSpool) Accept(_ context.Context, env record.Envelope, body io.Reader, _ spool.AcceptOptions) (record.ID, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return record.ID{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check("accept"); err != nil {
		return record.ID{}, err
	}
	if env.ID.IsZero() {
		env.ID = record.NewID(time.Now())
	}
	env.V, env.Received, env.Size, env.SHA256 = 1, record.Now(), int64(len(text)), record.Sum(text)
	doc, err := json.Marshal(env)
	if err != nil {
		return record.ID{}, err
	}
	id := env.ID
	s.messages[id] = &record.Item{Kind: record.KindMessage, ID: id, Envelope: &env, EnvelopeJSON: doc}
	s.bodies[id] = text
	s.order = append(s.order, id)
	close(s.changed)
	s.changed = make(chan struct{})
	return id, nil
}

func (s *fakeSpool) write(it *record.Item) {
	text := string(it.Supplement.JSON)
	if text == "" {
		b, _ := json.Marshal(it.Supplement.Supplement)
		text = string(b)
	}
	id, name := it.ID, it.Supplement.Name
	if s.messages[id] == nil {
		s.t.Errorf("supplement %s of %s, which is not here", name, id)
	}
	if s.supplements[id] == nil {
		s.supplements[id] = map[string]string{}
	}
	if have, ok := s.supplements[id][name]; ok && have != text {
		s.t.Errorf("two documents are called %s of %s:\n%s\n%s", name, id, have, text)
	}
	s.supplements[id][name] = text
	if it.Supplement.Delivery.Next.IsZero() {
		s.final[id] = true
	}
}

func (s *fakeSpool) Append(_ context.Context, it *record.Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check("append"); err != nil {
		return err
	}
	for _, it := range s.soon {
		s.write(it)
	}
	s.soon = nil
	s.write(it)
	return nil
}

func (s *fakeSpool) AppendSoon(it *record.Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errDead
	}
	s.soon = append(s.soon, it)
	return nil
}

func (s *fakeSpool) Open(id record.ID) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check("open"); err != nil {
		return nil, err
	}
	if s.final[id] || s.ended[id] || s.gone[id] || s.messages[id] == nil {
		return nil, fmt.Errorf("%s: %w", id, spool.ErrReleased)
	}
	return io.NopCloser(bytes.NewReader(s.bodies[id])), nil
}

func (s *fakeSpool) End(id record.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended[id] = true
}

func (s *fakeSpool) TryNext(context.Context) (*record.Item, error) {
	it, _, err := s.next()
	return it, err
}

func (s *fakeSpool) Next(ctx context.Context) (*record.Item, error) {
	for {
		it, changed, err := s.next()
		if it != nil || err != nil {
			return it, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *fakeSpool) next() (*record.Item, chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.given < len(s.order) {
		id := s.order[s.given]
		if err := s.check("next"); err != nil {
			return nil, nil, err
		}
		s.given++
		if !s.final[id] && !s.ended[id] && !s.gone[id] {
			it := *s.messages[id]
			return &it, nil, nil
		}
	}
	return nil, s.changed, nil
}

// Do is the audit log.
func (s *fakeSpool) Do(_ context.Context, kind string, by record.Actor, detail map[string]any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check("act"); err != nil {
		return err
	}
	s.acts = append(s.acts, fmt.Sprint(kind, " ", by.ID, " ", detail))
	return nil
}

// mail takes a message as a listener would.
func (s *fakeSpool) mail(from string, rcpts ...string) record.ID {
	s.t.Helper()
	return s.mailEnv(record.Envelope{MailFrom: &record.Path{Address: from}}, rcpts...)
}

func (s *fakeSpool) mailEnv(env record.Envelope, rcpts ...string) record.ID {
	s.t.Helper()
	env.Source, env.Mode, env.Listener, env.Completeness = record.SourceSMTP, record.ModeQueue, "out", record.Full
	for _, r := range rcpts {
		address, notify, _ := strings.Cut(r, " ")
		env.Rcpt = append(env.Rcpt, record.Path{Address: address, Notify: notify})
	}
	body := fmt.Sprintf("From: <%s>\r\nSubject: %d\r\n\r\nHello\r\n", env.MailFrom.Address, len(s.order))
	id, err := s.Accept(context.Background(), env, strings.NewReader(body), spool.AcceptOptions{})
	if err != nil && !errors.Is(err, errDead) { // the power may fail at this very moment: nothing is acknowledged
		s.t.Error(err)
	}
	return id
}

func (s *fakeSpool) isEnded(id record.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended[id]
}

func (s *fakeSpool) text(id record.ID) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.bodies[id])
}

// deliveries gives the supplements of a message in order.
func (s *fakeSpool) deliveries(id record.ID) (all []record.Supplement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range s.soon {
		s.write(it)
	}
	s.soon = nil
	for _, text := range s.supplements[id] {
		var sup record.Supplement
		if err := json.Unmarshal([]byte(text), &sup); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, sup)
	}
	slices.SortFunc(all, func(a, b record.Supplement) int {
		return len(a.Name)*1000 + strings.Compare(a.Name, b.Name) - len(b.Name)*1000
	})
	return all
}

// reports gives the reports to senders so far, as record ids by the record that they are about.
func (s *fakeSpool) reports() map[string][]record.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	about := map[string][]record.ID{}
	for _, id := range s.order {
		if env := s.messages[id].Envelope; env.Source == record.SourceBounce {
			about[env.Origin] = append(about[env.Origin], id)
		}
	}
	return about
}

// fakeCarrier asks a function for each attempt, and fails the test where the queue asks too much at once.
type fakeCarrier struct {
	t     testing.TB
	limit Config
	carry func(ctx context.Context, to string, j Job) Result

	mu    sync.Mutex
	now   map[string]int // under way, by destination
	peak  map[string]int
	all   int
	count map[string]int // attempts, by destination
}

func newFakeCarrier(t testing.TB, cfg Config, carry func(ctx context.Context, to string, j Job) Result) *fakeCarrier {
	return &fakeCarrier{t: t, limit: cfg.WithDefaults(), carry: carry, now: map[string]int{}, peak: map[string]int{}, count: map[string]int{}}
}

// attempts gives how many there were at a destination, most how many at once.
func (c *fakeCarrier) attempts(to string) int { c.mu.Lock(); defer c.mu.Unlock(); return c.count[to] }
func (c *fakeCarrier) most(to string) int     { c.mu.Lock(); defer c.mu.Unlock(); return c.peak[to] }

func (c *fakeCarrier) Destination(_, domain string) string { return "to " + domain }

func (c *fakeCarrier) Carry(ctx context.Context, j Job) Result {
	to := j.Domain
	c.mu.Lock()
	c.now[to]++
	c.all++
	c.count[to]++
	c.peak[to] = max(c.peak[to], c.now[to])
	if c.now[to] > c.limit.DestinationDeliveries || c.all > c.limit.Deliveries {
		c.t.Errorf("%d deliveries to %s, %d in all", c.now[to], to, c.all)
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.now[to]--
		c.all--
	}()
	for _, r := range j.Recipients {
		if domainOf(r.Address) != to {
			c.t.Errorf("recipient %s among those of %s", r.Address, to)
		}
	}
	return c.carry(ctx, to, j)
}

// readAll reads the message, as a delivery does before the final dot.
func readAll(j Job) error {
	r, err := j.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// answer is a Result in which all recipients have one reply.
func answer(j Job, code int, enhanced, text string) Result {
	d := record.Delivery{Outcome: record.Refused, NextHop: "mx." + j.Domain + ":25", Address: "192.0.2.1:25", Attempts: 1}
	for _, r := range j.Recipients {
		rd := record.RecipientDelivery{Address: r.Address, Outcome: record.Refused, Code: code, Enhanced: enhanced, Text: text, Time: record.Now()}
		switch {
		case code/100 == 2:
			rd.Outcome, d.Outcome = record.Delivered, record.Delivered
		case code == -1:
			rd.Outcome, d.Outcome, rd.Code = record.Unknown, record.Unknown, 0
		}
		d.Recipients = append(d.Recipients, rd)
	}
	return Result{Delivery: d}
}

func unreachable(j Job) Result {
	r := answer(j, 0, "", "connection refused")
	r.Unreachable = true
	return r
}
