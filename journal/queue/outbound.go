package queue

import (
	"cmp"
	"context"
	"errors"
	"io"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/nexthop/route"
)

// Way is how the mail of one listener goes out.
type Way struct {
	Router   *route.Router
	Hostname string // our name in Received lines
}

// Outbound is the Carrier of a node: SMTP and LMTP over one pool of connections.
type Outbound struct {
	pool *nexthop.Pool
	ways map[string]Way
}

// NewOutbound makes one. ways has each listener in mode queue by its name.
func NewOutbound(pool *nexthop.Pool, ways map[string]Way) *Outbound {
	return &Outbound{pool: pool, ways: ways}
}

// Destination implements Carrier. Mail of a listener that is not configured any more waits until it is.
func (o *Outbound) Destination(listener, domain string) string {
	w, ok := o.ways[listener]
	if !ok {
		return "listener " + listener
	}
	return w.Router.Destination(domain)
}

// refusals are what is refused without a server's word, with the code (RFC 3463, 7505, 5321) that tells the sender why.
var refusals = []struct {
	err      error
	enhanced string
}{
	{route.ErrNullMX, "5.1.10"},
	{route.ErrNoDomain, "5.1.2"},
	{route.ErrNoRoute, "5.4.4"},
	{route.ErrLoop, "5.4.6"},
	{nexthop.ErrNoSMTPUTF8, "5.6.7"},
	{nexthop.ErrTooBig, "5.3.4"},
	{nexthop.ErrPath, "5.1.3"},
	{nexthop.ErrBareNewline, "5.6.0"},
}

// Carry implements Carrier.
func (o *Outbound) Carry(ctx context.Context, j Job) Result {
	w, ok := o.ways[j.Envelope.Listener]
	if !ok {
		return apart(j, errors.New("the listener "+j.Envelope.Listener+" is not configured: its routes are not known"), true)
	}
	hosts, err := w.Router.Route(ctx, j.Domain)
	if err != nil {
		return apart(j, err, enhanced(err) == "")
	}
	body, err := j.Open()
	if err != nil {
		return Result{Fault: err}
	}
	defer body.Close()
	return o.send(ctx, hosts, w, j, body)
}

// apart is a Result without a server.
func apart(j Job, err error, unreachable bool) Result {
	res := Result{Unreachable: unreachable, Delivery: record.Delivery{Outcome: record.Refused, NextHop: j.Domain, Reason: err.Error()}}
	for _, to := range j.Recipients {
		res.Delivery.Recipients = append(res.Delivery.Recipients, record.RecipientDelivery{
			Address: to.Address, Outcome: record.Refused, Enhanced: enhanced(err), Text: err.Error(), Time: record.Now(),
		})
	}
	return res
}

// enhanced gives the code of what is refused for good; empty where it may pass.
func enhanced(err error) string {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.enhanced
		}
	}
	return ""
}

// send is one transaction.
func (o *Outbound) send(ctx context.Context, hosts nexthop.Route, w Way, j Job, body io.Reader) Result {
	env := j.Envelope
	tx := o.pool.Begin(hosts, nexthop.Mail{
		From: *cmp.Or(env.MailFrom, &record.Path{}), Size: env.Size, Body: env.Body, SMTPUTF8: env.SMTPUTF8, Ret: env.Ret, EnvID: env.EnvID,
		BareNewlines: true, // what the envelope counts of them does not say whether the body ends in CRLF: by BDAT that need not be asked
	})
	defer tx.Close()
	refused := make([]error, len(j.Recipients))
	var away error
	for i, to := range j.Recipients {
		refused[i] = tx.Rcpt(ctx, to)
		if errors.Is(refused[i], nexthop.ErrUnavailable) {
			away = refused[i]
		}
	}
	taken := len(tx.Accepted()) > 0
	var end error
	if taken && away == nil {
		tx.Data(ctx, trace(w, env, tx.Accepted()))
		if _, err := io.Copy(tx, body); err != nil {
			return Result{Fault: err} // Close hangs up inside the message, and nobody delivers it
		}
		_, end = tx.Finish(ctx)
	}
	res := Result{Delivery: *tx.Delivery(), Notifies: tx.TellsSender(), Unreachable: away != nil && !taken, Final: len(hosts.Hosts) > 0 && hosts.Hosts[0].LMTP}
	for i := range res.Delivery.Recipients {
		r := &res.Delivery.Recipients[i]
		if r.Code != 0 || r.Outcome != record.Refused {
			continue
		}
		cause := cmp.Or(refused[i], end)
		if cause != nil {
			r.Enhanced = enhanced(cause)
			r.Text = cmp.Or(r.Text, cause.Error())
		}
	}
	return res
}

// trace is the Received line; of a report of ours, which no client brought, we are the beginning.
func trace(w Way, env *record.Envelope, to []record.Path) nexthop.Trace {
	t := nexthop.Trace{
		TLS: env.TLS != nil, Auth: env.Auth != nil, SMTPUTF8: env.SMTPUTF8, By: w.Hostname, ID: env.ID, Time: env.ID.Time(),
		Client: record.Client{Helo: w.Hostname},
	}
	switch {
	case env.Proxy != nil && env.Proxy.By == "xforward": // whoever told of the client has traced it already
		t.Client = record.Client{Address: env.Proxy.Address, Port: env.Proxy.Port}
	case env.Client != nil:
		t.Client = *env.Client
	}
	if len(env.Rcpt) == 1 {
		t.For = &to[0]
	}
	return t
}
