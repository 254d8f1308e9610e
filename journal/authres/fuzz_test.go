package authres

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// fuzzAnswers answers any question with what the fuzzer made.
type fuzzAnswers struct{ texts []string }

func (f fuzzAnswers) expect(question) {}

func (f fuzzAnswers) ask(_ context.Context, q question) *answer {
	a := unanswered(q, "")
	a.Rcode = "NOERROR"
	for i, text := range f.texts {
		rr := resource{name: q.name, typ: q.typ, text: []string{text}, host: text + ".", pref: uint16(i), ip: netip.AddrFrom4([4]byte{192, 0, 2, byte(len(text))})}
		if q.typ == typeAAAA {
			rr.ip = netip.AddrFrom16([16]byte{0x20, 1, 15: byte(len(text))})
		}
		a.rrs = append(a.rrs, rr)
		a.Answer = append(a.Answer, rr.line())
	}
	return a
}

// FuzzCheck gives any message any answers: nothing crashes or hangs, what was recorded gives the same verdicts again, and no more is
// looked at than the limits say.
func FuzzCheck(f *testing.F) {
	f.Add(plainMail, "v=DKIM1; p=MIGf", "v=spf1 a mx ptr include:x.test exists:%{i}.%{d} redirect=%{l}.y.test", "192.0.2.1", "a@b.test")
	f.Add("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=b.test; s=s; h=from:from:subject; l=3; bh="+strings.Repeat("A", 43)+"=; b=eHh4\r\n"+plainMail,
		"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "v=DMARC1; p=reject; rua=mailto:x@y", "2001:db8::1", "")
	f.Add("ARC-Seal: i=1; a=rsa-sha256; t=1; cv=none; d=x.test; s=s; b=eA==\r\nARC-Message-Signature: i=1; a=rsa-sha256; d=x.test; s=s; h=from; bh="+
		strings.Repeat("A", 43)+"=; b=eA==\r\nARC-Authentication-Results: i=1; x.test; spf=pass\r\nFrom: a@b.test\r\n\r\n \r\r\n\r\n", "v=spf1", "v=spf1 -all", "::", "x")
	f.Fuzz(func(t *testing.T, message, one, two, client, sender string) {
		env := &record.Envelope{Received: time.Unix(1e9, 0), Client: &record.Client{Address: client, Helo: domainOf(sender)}, MailFrom: &record.Path{Address: sender}}
		v, err := check(t.Context(), fuzzAnswers{[]string{one, two}}, newKeyring(), env, strings.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		if len(v.DNS) > maxQuestions || len(v.DKIM) > maxSignatures {
			t.Errorf("%d questions, %d signatures", len(v.DNS), len(v.DKIM))
		}
		again, err := Recheck(t.Context(), v, env, strings.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		if d := Differences(v, again); d != nil {
			t.Errorf("%v", d)
		}
		if fmt.Sprint(v.DNS) != fmt.Sprint(again.DNS) {
			t.Error("checking again rests on other answers")
		}
	})
}

func FuzzTags(f *testing.F) {
	for _, s := range []string{"v=1; a=rsa-sha256; b=x y\r\n z; ", "a=1;;b=2", "a=1; a=2", "=", ";", "a", "v = DMARC1 ; p = none", strings.Repeat("a=", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseTags([]byte(s))
		if err != nil {
			return
		}
		for _, tag := range list {
			if string(trimSpace([]byte(s[tag.start:tag.end]))) != string(tag.value) {
				t.Errorf("%q: the value of %s is not where it is said to be", s, tag.name)
			}
		}
	})
}

// FuzzLine: what is read from a line is written as a line that reads the same.
func FuzzLine(f *testing.F) {
	for _, s := range []string{
		"a.test. 300 IN A 192.0.2.1", "a.test. 0 IN AAAA ::1", `a.test. 1 IN TXT "x\034 \\ \;" y ""`, "a. 1 IN MX 10 b.", "a. 1 IN CNAME b.", "a. 1 IN TYPE46 \\# 2 00ff", "a. 1 IN TYPE1 x", `\`, `"`, "a 1 IN TXT", `a 0 IN MX 0 ""`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseLine(s)
		if err != nil {
			return
		}
		again, err := parseLine(r.line())
		if err != nil {
			t.Fatalf("%q writes %q: %v", s, r.line(), err)
		}
		if r.line() != again.line() || len(r.text) != len(again.text) || !reflect.DeepEqual(append([]string{}, r.text...), append([]string{}, again.text...)) || r.name != again.name || r.host != again.host {
			t.Errorf("%q: %+v, %+v", s, r, again)
		}
	})
}

// FuzzUnpack: an answer off the wire is refused or can be recorded.
func FuzzUnpack(f *testing.F) {
	q := question{"acme.test.", typeTXT}
	msg, err := q.pack(7)
	if err != nil {
		f.Fatal(err)
	}
	msg[2] |= 0x80
	f.Add(msg)
	f.Add(append(msg[:7:7], append([]byte{1}, append(msg[8:], 0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, 3, 2, 'h', 'i')...)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		rep, err := q.unpack(7, b)
		if err != nil {
			return
		}
		for i := range rep.rrs {
			line := rep.rrs[i].line()
			back, err := parseLine(line)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if back.line() != line {
				t.Errorf("%q, %q", line, back.line())
			}
		}
	})
}
