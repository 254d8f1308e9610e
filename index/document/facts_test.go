package document

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

func factsOf(d *Document) string {
	var list []string
	for _, f := range d.Facts {
		list = append(list, fmt.Sprintf("%s=%q", f.Field, f.Value))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestFacts(t *testing.T) {
	parse := func(s string) *message.Message {
		m, err := message.Parse(strings.NewReader(s), message.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	smtp := record.Envelope{Source: record.SourceSMTP, Mode: record.ModeRelay}
	secure := smtp
	secure.Client, secure.TLS, secure.Auth = &record.Client{Address: "::ffff:10.0.0.8"}, &record.TLS{Version: "1.3"}, &record.Auth{Identity: "Tom@ACME.com"}
	delivered := record.Delivery{Outcome: record.Delivered, Recipients: []record.RecipientDelivery{{Address: "a", Outcome: record.Delivered, Code: 250}}}
	deferred := record.Delivery{Outcome: record.Refused, Next: time.Unix(1, 0), Recipients: []record.RecipientDelivery{
		{Address: "a", Outcome: record.Delivered, Code: 250}, {Address: "b", Outcome: record.Refused, Code: 451}}}
	bounced := record.Delivery{Outcome: record.Refused, Recipients: []record.RecipientDelivery{{Address: "b", Outcome: record.Refused, Code: 550, Enhanced: "5.1.1"}}}
	for _, c := range []struct {
		name   string
		env    record.Envelope
		text   string
		learnt []record.Supplement
		want   string
		open   bool
	}{
		{"an import", record.Envelope{Source: record.SourceImport}, "", nil, "", false},
		{"clear text", smtp, "", nil, `auth="" tls="0"`, true},
		{"everything of a session", secure, "", []record.Supplement{{Delivery: &delivered}},
			`auth="tom@acme.com" client="4\n\x00\x00\b" outcome="250" outcome="delivered" tls="1.3"`, false},
		{"deferred", smtp, "", []record.Supplement{{Delivery: &deferred}}, `auth="" outcome="250" outcome="delivered" tls="0"`, true},
		{"deferred, then bounced", smtp, "", []record.Supplement{{Delivery: &deferred}, {Delivery: &bounced}},
			`auth="" outcome="250" outcome="5.1.1" outcome="550" outcome="delivered" outcome="refused" tls="0"`, false},
		{"verdicts", record.Envelope{}, "", []record.Supplement{{Auth: &record.Verdicts{
			SPF:   []record.SPFVerdict{{Identity: record.SPFHelo, Result: "none"}, {Identity: record.SPFMailFrom, Result: "pass"}},
			DMARC: &record.DMARCVerdict{Result: "fail"}}}}, `dkim="none" dmarc="fail" spf="pass"`, false},
		{"a list", record.Envelope{}, "List-Id: News <news.Lists.acme.com>\n", nil, `list="acme.com" list="com" list="lists.acme.com" list="news.lists.acme.com"`, false},
		{"a bare list id", record.Envelope{}, "List-Id: news\n", nil, `list="news"`, false},
		{"importance", record.Envelope{}, "X-Priority: 1 (Highest)\n", nil, `importance="high"`, false},
		{"no importance", record.Envelope{}, "Importance: Normal\nX-Priority: 3\n", nil, "", false},
		{"a thread", record.Envelope{}, "References: <a@x> <b@x>\nIn-Reply-To: <b@x>\n", nil, `thread="a@x" thread="b@x"`, false},
		{"types of files", record.Envelope{}, "Content-Type: image/jpeg; name=\"a.JPEG\"\nContent-Disposition: attachment\n", nil, `filetype="jpg"`, false},
		{"two types of one file", record.Envelope{}, "Content-Type: text/plain; name=\"a.log\"\nContent-Disposition: attachment\n", nil, `filetype="log" filetype="txt"`, false},
		{"no type", record.Envelope{}, "Content-Type: application/octet-stream; name=\"a.b c\"\nContent-Disposition: attachment\n", nil, "", false},
	} {
		d := FromMessage(&c.env, parse("From: a@x.test\n"+c.text+"\nx\n"))
		var learnt []record.SupplementDoc
		for _, s := range c.learnt {
			learnt = append(learnt, record.SupplementDoc{Supplement: s})
		}
		d.Learn(learnt)
		if got := factsOf(d); got != c.want || d.OutcomeOpen != c.open {
			t.Errorf("%s: %s, open: %v; want %s", c.name, got, d.OutcomeOpen, c.want)
		}
	}
}

// Hostile mail makes no more facts than a record may have.
func TestFactsAreBounded(t *testing.T) {
	var refs strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&refs, "\n <%d@x>", i)
	}
	m, err := message.Parse(strings.NewReader("From: a@x\nReferences:"+refs.String()+"\n\nx\n"), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	d := FromMessage(&record.Envelope{}, m)
	if len(d.Facts) != maxFacts || !d.HeaderPartial {
		t.Errorf("%d facts, partial: %v, in %v", len(d.Facts), d.HeaderPartial, time.Since(begun))
	}
}

func TestClientValueKeepsOrder(t *testing.T) {
	a, b := netip.MustParseAddr("10.255.0.1"), netip.MustParseAddr("11.0.0.0")
	if ClientValue(a) >= ClientValue(b) || ClientValue(netip.MustParseAddr("::ffff:10.255.0.1")) != ClientValue(a) {
		t.Errorf("%q %q", ClientValue(a), ClientValue(b))
	}
}
