package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/authres/dnstest"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

const authMail = "From: Ada <ada@signer.test>\r\nSubject: x\r\n\r\nbody\r\n"

func authEnvelope(mode string) record.Envelope {
	return record.Envelope{
		Source: record.SourceSMTP, Mode: mode, Client: &record.Client{Address: "192.0.2.1", Helo: "mail.signer.test"},
		MailFrom: &record.Path{Address: "ada@signer.test"}, Rcpt: []record.Path{{Address: "bob@dest.test"}},
	}
}

func openSpool(t testing.TB) *spool.Spool {
	t.Helper()
	s, err := spool.Open(spool.Config{Dir: t.TempDir() + "/spool"}, spool.Options{Node: "main"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func delivered(t testing.TB, c Custody, id record.ID) {
	t.Helper()
	err := c.AppendSoon(&record.Item{Kind: record.KindSupplement, ID: id, Supplement: &record.SupplementDoc{Supplement: record.Supplement{
		ID: id, Name: "delivery-1", Delivery: &record.Delivery{Outcome: record.Delivered},
	}}})
	if err != nil {
		t.Fatal(err)
	}
}

// settled waits for the next record that the archive may have.
func settled(t testing.TB, tail *spool.Tail) *record.Item {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	it, err := tail.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

func namesOf(it *record.Item) string {
	var list []string
	for _, s := range it.Supplements {
		list = append(list, s.Name)
	}
	return strings.Join(list, " ")
}

// A message comes to the archive with its verdicts, large or small, in the modes that are asked for.
func TestVerdictsComeWithTheRecord(t *testing.T) {
	dns := dnstest.New(t)
	dns.Set("signer.test", "TXT", "v=spf1 ip4:192.0.2.1 -all")
	dns.Set("_dmarc.signer.test", "TXT", "v=DMARC1; p=reject")
	reg := prometheus.NewRegistry()
	s := openSpool(t)
	v := NewVerdicts(VerdictConfig{Resolver: []string{dns.Addr}}, spoolAlone{s}, nil, reg)
	defer v.Close(t.Context())
	tail := s.Tail()
	for _, size := range []int{0, 2 << 20} {
		finished := false
		id, err := v.Accept(t.Context(), authEnvelope(record.ModeRelay), strings.NewReader(authMail+strings.Repeat("line\r\n", size/6)), spool.AcceptOptions{
			Finish: func(*record.Envelope) error { finished = true; return nil },
		})
		if err != nil || !finished {
			t.Fatalf("%v, finished: %v", err, finished)
		}
		delivered(t, v, id)
		it := settled(t, tail)
		if it.ID != id || len(it.Supplements) != 2 {
			t.Fatalf("%s has %s", it.ID, namesOf(it))
		}
		for _, sup := range it.Supplements {
			if sup.Auth == nil {
				continue
			}
			if got := fmt.Sprint(sup.Auth.Results()); sup.Name != record.SupplementAuth || got != "[{spf pass} {dkim none} {dmarc pass} {arc none}]" || len(sup.Auth.DNS) == 0 {
				t.Errorf("%s: %s, %+v", sup.Name, got, sup.Auth)
			}
		}
	}
	id, err := v.Accept(t.Context(), authEnvelope(record.ModeQueue), strings.NewReader(authMail), spool.AcceptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if it := settled(t, tail); it.ID != id || namesOf(it) != record.SupplementAuth {
		t.Errorf("a message in mode queue has %s", namesOf(it))
	}
	id, err = v.Accept(t.Context(), authEnvelope(record.ModeJournal), strings.NewReader(authMail), spool.AcceptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if it := settled(t, tail); it.ID != id || len(it.Supplements) != 0 {
		t.Errorf("a journal report has %s", namesOf(it))
	}
	if n := testutil.ToFloat64(v.results.WithLabelValues("dmarc", "pass")); n != 3 {
		t.Errorf("%v passes are counted", n)
	}
	if n, err := testutil.GatherAndCount(reg, "holdfast_auth_queue_length", "holdfast_auth_dns_asked_total", "holdfast_auth_dropped_total"); err != nil || n != 6 {
		t.Errorf("%d metrics, %v", n, err)
	}
}

// Where the archive has the record early (ack: archive) nothing waits for the verdicts: they follow as an item of their own.
func TestVerdictsAfterAnEarlyRecord(t *testing.T) {
	dns := dnstest.New(t)
	dns.Set("signer.test", "TXT", "v=spf1 ip4:192.0.2.1 -all")
	dns.Delay(200 * time.Millisecond)
	s := openSpool(t)
	v := NewVerdicts(VerdictConfig{Resolver: []string{dns.Addr}}, spoolAlone{s}, nil, nil)
	defer v.Close(t.Context())
	tail := s.Tail()
	id, err := v.Accept(t.Context(), authEnvelope(record.ModeRelay), strings.NewReader(authMail), spool.AcceptOptions{Early: true})
	if err != nil {
		t.Fatal(err)
	}
	if it := settled(t, tail); it.Kind != record.KindMessage || it.ID != id || len(it.Supplements) != 0 {
		t.Errorf("%s %s has %s", it.Kind, it.ID, namesOf(it))
	}
	if it := settled(t, tail); it.Kind != record.KindSupplement || it.ID != id || it.Supplement.Auth == nil || it.Supplement.Auth.SPF[0].Result != "pass" {
		t.Errorf("%s %s: %+v", it.Kind, it.ID, it.Supplement)
	}
	delivered(t, v, id)
	if it := settled(t, tail); it.Kind != record.KindSupplement || it.Supplement.Delivery == nil {
		t.Errorf("%s %s: %+v", it.Kind, it.ID, it.Supplement)
	}
}

// A resolver that is silent keeps nobody waiting: custody is as quick as without, and the record says that there was no answer.
func TestSilentResolverSlowsNoMail(t *testing.T) {
	dns := dnstest.New(t)
	dns.Silence(".")
	s := openSpool(t)
	v := NewVerdicts(VerdictConfig{Resolver: []string{dns.Addr}, Timeout: 700 * time.Millisecond}, spoolAlone{s}, nil, nil)
	defer v.Close(t.Context())
	tail := s.Tail()
	start := time.Now()
	const n = 20
	for range n {
		id, err := v.Accept(t.Context(), authEnvelope(record.ModeRelay), strings.NewReader(authMail), spool.AcceptOptions{})
		if err != nil {
			t.Fatal(err)
		}
		delivered(t, v, id)
	}
	if d := time.Since(start); d > 10*time.Second || dns.Asked(".") == 0 && d > 700*time.Millisecond {
		t.Errorf("%d messages took %v", n, d)
	}
	for range n {
		it := settled(t, tail)
		for _, sup := range it.Supplements {
			if a := sup.Auth; a != nil && (a.SPF[0].Result != "temperror" || a.DMARC.Result != "temperror" || a.DNS[0].Error != "no answer in time") {
				t.Errorf("%+v", a)
			}
		}
		if namesOf(it) != "delivery-1 auth" {
			t.Errorf("a record has %s", namesOf(it))
		}
	}
}

// slowCustody holds bodies back, or breaks.
type slowCustody struct {
	fakeCustody
	gate   chan struct{}
	open   func(record.ID) (io.ReadCloser, error)
	mu     sync.Mutex
	waived []record.ID
}

func (c *slowCustody) Open(id record.ID) (io.ReadCloser, error) {
	<-c.gate
	return c.open(id)
}

func (c *slowCustody) Waive(id record.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waived = append(c.waived, id)
}

// When too many wait, messages go without verdicts: waived, so that nobody waits for them, and counted. So do those that the archive had
// already, that can't be read, or that a fault of ours meets.
func TestVerdictsThatDoNotCome(t *testing.T) {
	c := &slowCustody{fakeCustody: fakeCustody{t: t}, gate: make(chan struct{})}
	c.open = func(record.ID) (io.ReadCloser, error) { return nil, fmt.Errorf("x: %w", spool.ErrReleased) }
	v := NewVerdicts(VerdictConfig{Resolver: []string{"127.0.0.1:1"}}, c, nil, nil)
	full := func() float64 { return testutil.ToFloat64(v.dropped.WithLabelValues(droppedFull)) }
	taken := 0
	for ; full() == 0; taken++ {
		if taken > verdictQueue+verdictWorkers {
			t.Fatal("the queue has no end")
		}
		v.take(&record.Envelope{ID: record.NewID(time.Now())})
	}
	if taken < verdictQueue {
		t.Errorf("full after %d", taken)
	}
	close(c.gate)
	v.Close(t.Context())
	if gone := testutil.ToFloat64(v.dropped.WithLabelValues(droppedGone)); int(full()+gone) != taken || len(c.waived) != taken {
		t.Errorf("of %d, %v and %v are dropped and %d waived", taken, full(), gone, len(c.waived))
	}
	v.take(&record.Envelope{ID: record.NewID(time.Now())})
	if testutil.ToFloat64(v.dropped.WithLabelValues(droppedStop)) != 1 {
		t.Error("one that came after the end is not counted")
	}

	for reason, open := range map[string]func(record.ID) (io.ReadCloser, error){
		"an error": func(record.ID) (io.ReadCloser, error) { return nil, errors.New("broken") },
		"a panic":  func(record.ID) (io.ReadCloser, error) { panic("broken") },
	} {
		c := &slowCustody{fakeCustody: fakeCustody{t: t}, gate: make(chan struct{}), open: open}
		close(c.gate)
		v := NewVerdicts(VerdictConfig{Resolver: []string{"127.0.0.1:1"}}, c, nil, nil)
		v.take(&record.Envelope{ID: record.NewID(time.Now())})
		v.Close(t.Context())
		if len(c.waived) != 1 || testutil.ToFloat64(v.dropped.WithLabelValues(droppedFault)) != 1 {
			t.Errorf("%s: %d waived", reason, len(c.waived))
		}
	}
}

// A stop does not wait for the DNS longer than it is given.
func TestVerdictsStop(t *testing.T) {
	dns := dnstest.New(t)
	dns.Silence(".")
	s := openSpool(t)
	v := NewVerdicts(VerdictConfig{Resolver: []string{dns.Addr}, Timeout: 20 * time.Second}, spoolAlone{s}, nil, nil)
	for range verdictWorkers + 10 {
		id, err := v.Accept(t.Context(), authEnvelope(record.ModeRelay), strings.NewReader(authMail), spool.AcceptOptions{})
		if err != nil {
			t.Fatal(err)
		}
		delivered(t, v, id)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	v.Close(ctx)
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("the stop took %v", d)
	}
	tail := s.Tail()
	for range verdictWorkers + 10 {
		if it := settled(t, tail); namesOf(it) != "delivery-1" {
			t.Errorf("a record has %s", namesOf(it))
		}
	}
}

func TestVerdictConfig(t *testing.T) {
	bad := VerdictConfig{Resolver: []string{"127.0.0.1", "dns.test"}, Modes: []string{"relay", "what"}, Timeout: time.Minute}
	err := bad.Validate()
	for _, want := range []string{`verdicts.resolver[1]: "dns.test"`, `verdicts.modes[1]: "what"`, "verdicts.timeout: 1m0s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
	if err := (VerdictConfig{}).Validate(); err != nil {
		t.Error(err)
	}
}
