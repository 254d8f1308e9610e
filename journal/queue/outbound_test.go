package queue

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
	"github.com/holdfast-archive/holdfast/journal/nexthop/route"
)

// newOutbound has two routes: one.test to a host, and null.test to a network without names.
func newOutbound(t *testing.T, hop string) *Outbound {
	t.Helper()
	pool := nexthop.New(nexthop.Options{})
	t.Cleanup(pool.Close)
	routes := route.Routes{
		{Domain: []string{"one.test", "uno.test"}, Config: nexthop.Config{NextHop: []string{hop}}},
		{Domain: []string{"dns.test"}, Config: nexthop.Config{NextHop: []string{"mx"}}},
	}
	if err := routes.Validate(); err != nil {
		t.Fatal(err)
	}
	return NewOutbound(pool, map[string]Way{"out": {Hostname: "relay.test", Router: route.New(routes, route.Options{Hello: "relay.test", Resolver: noNames{}})}})
}

// noNames is a DNS in which dns.test has a null MX.
type noNames struct{ route.Resolver }

func (noNames) LookupMX(context.Context, string) ([]*net.MX, error) {
	return []*net.MX{{Host: "."}}, nil
}

func someJob(body string, to ...string) Job {
	env := &record.Envelope{ID: record.NewID(time.Now()), Listener: "out", MailFrom: &record.Path{Address: "ada@home.test"}, Size: int64(len(body)), SHA256: record.Sum([]byte(body))}
	for _, a := range to {
		env.Rcpt = append(env.Rcpt, record.Path{Address: a})
	}
	return Job{Envelope: env, Domain: domainOf(to[0]), Recipients: env.Rcpt, Open: func() (io.ReadCloser, error) {
		return newChecked(io.NopCloser(strings.NewReader(body)), env), nil
	}}
}

const hello = "Subject: hello\r\n\r\nHello\r\n"

func TestOutboundTellsEachRecipientsFate(t *testing.T) {
	hop := hoptest.New(t)
	hop.Answer = func(_ int, verb, line string) string {
		switch {
		case strings.Contains(line, "<bad@"):
			return "550 5.1.1 nobody"
		case strings.Contains(line, "<later@"):
			return "450 4.2.0 greylisted"
		}
		return ""
	}
	o := newOutbound(t, hop.Addr())
	res := o.Carry(t.Context(), someJob(hello, "good@one.test", "bad@one.test", "later@uno.test"))
	if res.Fault != nil || res.Unreachable || !res.Notifies || res.Delivery.Outcome != record.Delivered || res.Delivery.SentSize == 0 {
		t.Errorf("%+v", res)
	}
	r := res.Delivery.Recipients
	if r[0].Outcome != record.Delivered || !permanent(r[1]) || r[1].Code != 550 || permanent(r[2]) || r[2].Code != 450 {
		t.Errorf("%+v", r)
	}
	got := hop.Messages()
	if len(got) != 1 || len(got[0].Rcpt) != 1 || !strings.HasSuffix(string(got[0].Data), hello) || strings.Contains(string(got[0].Data), "good@one.test") {
		t.Errorf("%+v", got)
	}
	if o.Destination("out", "one.test") != o.Destination("out", "UNO.test") || o.Destination("out", "dns.test") != "dns.test" {
		t.Error("what shares a way has two names")
	}
}

func TestOutboundSaysWhatIsForGood(t *testing.T) {
	hop := hoptest.New(t)
	hop.Caps = []string{"SIZE 100", "PIPELINING"}
	o := newOutbound(t, hop.Addr())
	utf8 := someJob(hello, "bob@one.test")
	utf8.Envelope.SMTPUTF8, utf8.Envelope.MailFrom = true, &record.Path{Address: "ädä@home.test"}
	gone := someJob(hello, "bob@one.test")
	gone.Envelope.Listener = "other"
	for _, c := range []struct {
		name     string
		job      Job
		enhanced string
	}{
		{"utf8", utf8, "5.6.7"},
		{"too big", someJob(hello+strings.Repeat("x\r\n", 100), "bob@one.test"), "5.3.4"},
		{"bare newline", someJob("Subject: x\n\nbare\n", "bob@one.test"), "5.6.0"},
		{"null MX", someJob(hello, "bob@dns.test"), "5.1.10"},
		{"no route", someJob(hello, "bob@elsewhere.test"), "5.4.4"},
		{"listener is gone", gone, ""},
	} {
		res := o.Carry(t.Context(), c.job)
		if res.Fault != nil {
			t.Errorf("%s: %v", c.name, res.Fault)
			continue
		}
		r := res.Delivery.Recipients[0]
		if r.Outcome != record.Refused || r.Enhanced != c.enhanced || permanent(r) != (c.enhanced != "") || r.Text == "" {
			t.Errorf("%s: %+v", c.name, r)
		}
		if res.Unreachable != (c.enhanced == "") {
			t.Errorf("%s: unreachable: %v", c.name, res.Unreachable)
		}
	}
	if n := len(hop.Messages()); n != 0 {
		t.Errorf("%d messages arrived", n)
	}
}

// Where the next hop offers CHUNKING any bytes arrive as they were received.
func TestOutboundSendsAnyBytes(t *testing.T) {
	hop := hoptest.New(t)
	hop.Caps = append(hop.Caps, "CHUNKING")
	o := newOutbound(t, hop.Addr())
	for i, body := range []string{hello, "Subject: x\n\nbare\n.\n", "a\rb\r\n", "no end"} {
		res := o.Carry(t.Context(), someJob(body, "bob@one.test"))
		if res.Delivery.Outcome != record.Delivered {
			t.Fatalf("%q: %+v", body, res)
		}
		if _, got, _ := strings.Cut(string(hop.Messages()[i].Data), "+0000\r\n"); got != body {
			t.Errorf("%q arrived as %q", body, got)
		}
	}
}

func TestOutboundToNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	res := newOutbound(t, l.Addr().String()).Carry(t.Context(), someJob(hello, "bob@one.test", "eve@one.test"))
	if !res.Unreachable || len(res.Delivery.Recipients) != 2 || permanent(res.Delivery.Recipients[1]) {
		t.Errorf("%+v", res)
	}
}

// A message that turns out to be damaged while it is sent is not delivered.
func TestOutboundNeverEndsADamagedMessage(t *testing.T) {
	hop := hoptest.New(t)
	o := newOutbound(t, hop.Addr())
	j := someJob(hello, "bob@one.test")
	j.Envelope.SHA256 = record.Sum([]byte("another"))
	if res := o.Carry(t.Context(), j); !errors.Is(res.Fault, ErrDamaged) {
		t.Errorf("%+v", res)
	}
	if hop.Dots() != 0 {
		t.Error("the final dot was sent")
	}
}

func TestOutboundLostReplyIsUnknown(t *testing.T) {
	hop := hoptest.New(t)
	hop.Answer = func(_ int, verb, _ string) string {
		if verb == "." {
			return hoptest.Drop
		}
		return ""
	}
	res := newOutbound(t, hop.Addr()).Carry(t.Context(), someJob(hello, "bob@one.test"))
	if res.Unreachable || res.Delivery.Recipients[0].Outcome != record.Unknown {
		t.Errorf("%+v", res)
	}
}
