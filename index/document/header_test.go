package document

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

func documentOf(t *testing.T, env *record.Envelope, text string) *Document {
	t.Helper()
	m, err := message.Parse(strings.NewReader(text), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return FromMessage(env, m)
}

func TestHeaders(t *testing.T) {
	d := documentOf(t, &record.Envelope{}, "X-Trace: from a\n by b\nX-Mailer: =?utf-8?q?P=C3=A9gase?=\nSubject: s\nX-Trace: from c\nReceived: from d\n"+
		"DKIM-Signature: b=x\nSender: Desk <d@x.test>\nReply-To: r@x.test, s@x.test\nResent-To: t@x.test\n\nx")
	want := []Header{{"x-trace", []string{"from a by b", "from c"}}, {"x-mailer", []string{"Pégase"}}, {"resent-to", []string{"t@x.test"}}}
	if !reflect.DeepEqual(d.Headers, want) || d.Partial {
		t.Errorf("%+v", d)
	}
	if fmt.Sprint(d.Others) != "[{Desk d@x.test} { r@x.test} { s@x.test} { t@x.test}]" {
		t.Errorf("%v", d.Others)
	}
	d = documentOf(t, &record.Envelope{}, "X-A: "+strings.Repeat("a ", maxHeaders/4)+"\nX-B: "+strings.Repeat("b ", maxHeaders/2-4)+"\n\nx")
	if !d.Partial || !d.HeaderPartial {
		t.Errorf("a header past the limit: %v, %d names", d.Partial, len(d.Headers))
	}
}

func TestDirect(t *testing.T) {
	own := []string{"acme.com", "münchen.de"}
	smtp := func(from string, rcpt ...string) *record.Envelope {
		env := &record.Envelope{Source: record.SourceSMTP, Completeness: record.Full, MailFrom: &record.Path{Address: from}}
		for _, r := range rcpt {
			env.Rcpt = append(env.Rcpt, record.Path{Address: r})
		}
		return env
	}
	copied := smtp("x@acme.com", "journal@archive.test")
	copied.Completeness = record.Partial
	imported := &record.Envelope{Source: record.SourceImport, Completeness: record.HeaderOnly}
	for _, c := range []struct {
		name string
		env  *record.Envelope
		text string
		want string
	}{
		{"from elsewhere", smtp("x@y.test", "a@ACME.com", "b@acme.com"), "From: a@acme.com\n", `direction="inbound"`},
		{"to elsewhere", smtp("x@mail.acme.com", "a@y.test"), "", `direction="outbound"`},
		{"within", smtp("x@acme.com", "a@xn--mnchen-3ya.de"), "", `direction="internal"`},
		{"both", smtp("x@acme.com", "a@acme.com", "b@y.test"), "", `direction="internal" direction="outbound"`},
		{"past us", smtp("x@y.test", "a@z.test"), "From: a@acme.com\nTo: a@acme.com\n", ""},
		{"not below, but behind", smtp("x@y.test", "a@notacme.com"), "", ""},
		{"a bounce of our own", smtp("", "a@acme.com"), "From: daemon@acme.com\n", `direction="internal"`},
		{"a copy to a journal", copied, "From: a@acme.com\nTo: b@acme.com\nCc: c@y.test\n", `direction="internal" direction="outbound"`},
		{"an import", imported, "From: x@y.test\nBcc: b@acme.com\n", `direction="inbound"`},
		{"nobody", imported, "From: a@acme.com\n", ""},
	} {
		d := documentOf(t, c.env, c.text+"\nx")
		d.Facts = nil
		d.Direct(c.env, own)
		if got := factsOf(d); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		d.Facts = nil
		if d.Direct(c.env, nil); len(d.Facts) > 0 {
			t.Errorf("%s: a direction without own domains", c.name)
		}
	}
}
