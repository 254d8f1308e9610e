package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/search"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

// mailbox is a web.Searcher over a few messages in memory. It searches for words only.
type mailbox struct {
	mu   sync.Mutex
	acts []string
	mail []*letter // the newest first
}

type letter struct {
	hit    search.Hit
	text   string
	stored *archive.Stored
}

var noon = time.Date(2026, 3, 20, 11, 58, 3, 417e6, time.UTC)

// newMailbox has the sample mail of the demo.
func newMailbox(t *testing.T) *mailbox {
	t.Helper()
	paths, err := filepath.Glob("../../cmd/holdfast/samples/*.eml")
	if err != nil || len(paths) < 10 {
		t.Fatalf("sample mail: %d files, %v", len(paths), err)
	}
	m := &mailbox{}
	for i, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for copies := range 3 {
			m.add(t, noon.Add(-time.Duration(i*53+copies*1700)*time.Minute), raw)
		}
	}
	m.mail[0].stored.Entry, m.mail[0].hit.Pending = nil, true
	refused := m.mail[4].stored.Item
	refused.Supplements[0].Delivery.Outcome = record.Refused
	refused.Supplements[0].Delivery.Recipients[0].Outcome = record.Refused
	refused.Supplements[0].Delivery.Recipients[0].Code, refused.Supplements[0].Delivery.Recipients[0].Enhanced = 550, "5.7.1"
	refused.Supplements[0].Delivery.Recipients[0].Text = "message content rejected, see https://postmaster.example/why"
	return m
}

// add puts a message into the box, as relayed.
func (m *mailbox) add(t *testing.T, at time.Time, raw []byte) record.ID {
	t.Helper()
	msg, err := message.Parse(bytes.NewReader(raw), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	id := record.NewID(at)
	hit := search.Hit{ID: id, Received: at, Sent: msg.Header.Date(), Subject: msg.Header.Subject(), Size: int64(len(raw)), SHA256: record.Sum(raw)}
	for field, list := range map[string]*[]string{"From": &hit.From, "To": &hit.To} {
		for _, a := range msg.Header.AddressList(field) {
			*list = append(*list, strings.TrimPrefix(a.Name+" <"+a.Address+">", " "))
		}
	}
	for _, p := range msg.Attachments() {
		if p.Name != "" {
			hit.Attachments = append(hit.Attachments, p.Name)
		}
	}
	env := &record.Envelope{V: 1, ID: id, Received: at, Node: "main", Source: record.SourceSMTP, Listener: "relay", Mode: record.ModeRelay, Session: "8f2a61c0",
		Client: &record.Client{Address: "10.0.0.8", Port: 40122, Helo: "mail.acme.example", ESMTP: true}, TLS: &record.TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256"},
		Completeness: record.Full, MailFrom: &record.Path{Address: "claire.dubois@acme.example"}, Size: hit.Size, SHA256: hit.SHA256}
	d := &record.Delivery{Outcome: record.Delivered, NextHop: "mx.kanzlei.example:25", Address: "192.0.2.7:25", TLS: &record.TLS{Version: "1.3"}, Attempts: 1,
		SentSize: hit.Size + 214, SentSHA256: record.Sum(append([]byte("Received: …\r\n"), raw...))}
	for _, a := range append(msg.Header.AddressList("To"), message.Address{Address: "j.weiss@kanzlei.example"}) {
		hit.Rcpt = append(hit.Rcpt, a.Address)
		env.Rcpt = append(env.Rcpt, record.Path{Address: a.Address})
		d.Recipients = append(d.Recipients, record.RecipientDelivery{Address: a.Address, Outcome: record.Delivered, Code: 250, Enhanced: "2.0.0", Text: "Ok: queued as 4TxQ1m2Zz", Time: at.Add(41 * time.Millisecond)})
	}
	s := &archive.Stored{Log: "node-main", Number: 48_201_377 - uint64(len(m.mail)),
		Entry: &record.Entry{V: 1, Kind: record.KindMessage, Time: at, ID: id, Seq: 2_114_090 - uint64(len(m.mail)), Seal: record.SealOf(hit.SHA256), Pack: "packs/2033-04/2026/03/20/main-2113800-5f0c9a417be2.tar.zst"},
		Item: &record.Item{Kind: record.KindMessage, ID: id, Envelope: env, EnvelopeJSON: []byte(`{"v":1}`), Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
			Supplements: []record.SupplementDoc{{JSON: []byte(`{"v":1}`), Supplement: record.Supplement{V: 1, ID: id, Name: "delivery-1", Time: at.Add(41 * time.Millisecond), Delivery: d}}}}}
	m.mail = append(m.mail, &letter{hit, strings.ToLower(hit.Subject + " " + msg.Text), s})
	slices.SortStableFunc(m.mail, func(a, b *letter) int { return b.hit.Received.Compare(a.hit.Received) })
	return id
}

func (m *mailbox) act(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acts = append(m.acts, what)
}

// did says whether an act was written.
func (m *mailbox) did(what string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.acts, what)
}

func (m *mailbox) Search(_ context.Context, _ record.Actor, r search.Request) (*search.Result, error) {
	if _, err := syntax.Parse(r.Query, syntax.Env{Now: noon}); err != nil {
		return nil, err
	}
	m.act("search " + r.Query)
	res := &search.Result{Query: r.Query, Hints: []string{}, Hits: []search.Hit{}, CompleteThrough: []search.Through{{Log: "node-main", Seq: 48_201_377, Time: noon}}}
	words := strings.Fields(strings.ToLower(r.Query))
	for _, l := range m.mail {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(l.text, w) }) {
			res.Hits = append(res.Hits, l.hit)
		}
	}
	res.Total = uint64(len(res.Hits))
	if res.Total > 30 {
		res.Hits, res.Next = res.Hits[:30], "NEXT"
	}
	return res, nil
}

func (m *mailbox) Facets(context.Context, record.Actor, search.FacetRequest) (*search.Facets, error) {
	return nil, errors.ErrUnsupported
}

func (*mailbox) Parse(text string, loc *time.Location) (query.Query, error) {
	parsed, err := syntax.Parse(text, syntax.Env{Now: noon, Location: loc})
	return parsed.Query, err
}

func (m *mailbox) Highlight(context.Context, record.Actor, record.ID, string, *time.Location) (*search.Highlight, error) {
	return nil, errors.ErrUnsupported
}

func (m *mailbox) View(_ context.Context, _ record.Actor, id record.ID, what string) (*archive.Stored, error) {
	m.act("view " + what)
	for _, l := range m.mail {
		if l.hit.ID == id {
			return l.stored, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", id, archive.ErrNotFound)
}

func (m *mailbox) Proof(_ context.Context, _ record.Actor, id record.ID) ([]byte, error) {
	m.act("proof")
	return []byte("c2sp.org/tlog-proof@v1\n" + id.String() + "\n"), nil
}
