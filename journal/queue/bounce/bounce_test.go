package bounce

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bufio"

	"github.com/holdfast-archive/holdfast/archive/record"
)

var update = flag.Bool("update", false, "write the golden files")

const original = "From: Ada <ada@acme.example>\r\nTo: Bob <bob@dest.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@acme.example>\r\n" +
	"Date: Sat, 14 Mar 2026 09:12:00 +0000\r\n\r\nHello Bob,\r\n.\r\nsee you.\r\n"

func report(action Action, message string, change ...func(*Report)) Report {
	id, _ := record.ParseID("01KKNG8HG0B7W3Q8X0Y6Z5T4V2")
	about, _ := record.ParseID("01KKNFZ0G0D4V0A1B2C3D4E5F6")
	at := time.Date(2026, 3, 14, 9, 12, 3, 0, time.UTC)
	r := Report{
		ID: id, Time: at.Add(5 * time.Minute), Host: "mx.acme.example",
		Original: &record.Envelope{
			V: 1, ID: about, Received: at, Listener: "out", Mode: record.ModeQueue, Source: record.SourceSMTP,
			Client: &record.Client{Address: "10.0.0.8", Helo: "mail.acme.example"}, EnvID: "QQ314159", Ret: "HDRS",
			MailFrom: &record.Path{Address: "ada@acme.example"}, Size: int64(len(message)),
		},
		Recipients: []Recipient{{
			Path: record.Path{Address: "bob@dest.example", ORCPT: "rfc822;bob+2Bx@dest.example"}, Action: action,
			Code: 550, Enhanced: "5.1.1", Text: "No such user here\nPlease look at https://dest.example/help", Remote: "mx.dest.example:25", Last: at.Add(time.Minute),
		}},
		Message: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(message)), nil },
	}
	switch action {
	case Delayed:
		r.Recipients[0].Code, r.Recipients[0].Enhanced, r.Recipients[0].Text = 451, "4.3.0", "Come back later"
		r.Recipients[0].Until = at.Add(5 * 24 * time.Hour)
	case Delivered, Relayed:
		r.Recipients[0].Code, r.Recipients[0].Enhanced, r.Recipients[0].Text = 250, "2.0.0", "Ok: queued as 4F1C"
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func full(r *Report) { r.Original.Ret = "FULL" }

var cases = map[string]func() Report{
	"failed-headers": func() Report { return report(Failed, original) },
	"failed-full":    func() Report { return report(Failed, original, full) },
	"failed-8bit": func() Report {
		return report(Failed, strings.Replace(original, "Hello Bob", "Grüße, Bob", 1), full)
	},
	"failed-two": func() Report {
		return report(Failed, original, func(r *Report) {
			r.Recipients = append(r.Recipients, Recipient{
				Path: record.Path{Address: `"b c"@elsewhere.example`}, Action: Failed, Enhanced: "4.4.7", Text: "not delivered within 5 days; last: connection refused", Last: r.Time,
			})
		})
	},
	"delayed": func() Report { return report(Delayed, original, full) },
	"relayed": func() Report { return report(Relayed, original) },
	"utf8": func() Report {
		return report(Failed, strings.Replace(original, "Ada <ada@", "Ädä <ädä@", 1), full, func(r *Report) {
			r.Original.SMTPUTF8, r.Original.MailFrom = true, &record.Path{Address: "ädä@acme.example"}
			r.Recipients[0].Path = record.Path{Address: "бob@dest.example", ORCPT: `utf-8;\x{431}ob@dest.example`}
			r.Recipients[0].Text = "Нет такого"
		})
	},
	"utf8-headers": func() Report {
		return report(Failed, original, func(r *Report) {
			r.Original.SMTPUTF8 = true
			r.Recipients[0].Path = record.Path{Address: "бob@dest.example"}
		})
	},
	"gone": func() Report { return report(Failed, original, func(r *Report) { r.Message = nil }) },
}

func TestGolden(t *testing.T) {
	for name, make := range cases {
		t.Run(name, func(t *testing.T) {
			env, got, err := Build(make())
			if err != nil {
				t.Fatal(err)
			}
			checkEnvelope(t, env, make())
			checkReport(t, got, make())
			path := filepath.Join("testdata", name+".eml")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("not as in %s:\n%s", path, got)
			}
		})
	}
}

func checkEnvelope(t *testing.T, env record.Envelope, r Report) {
	t.Helper()
	if env.MailFrom == nil || env.MailFrom.Address != "" {
		t.Errorf("a report from %v", env.MailFrom)
	}
	if len(env.Rcpt) != 1 || env.Rcpt[0].Address != r.Original.MailFrom.Address || env.Rcpt[0].Notify != "NEVER" {
		t.Errorf("a report to %+v", env.Rcpt)
	}
	if env.Source != record.SourceBounce || env.Mode != record.ModeQueue || env.Listener != "out" || env.Origin != r.Original.ID.String() {
		t.Errorf("envelope %+v", env)
	}
}

// checkReport reads a report back as a mail program would, and by the letter of the RFCs.
func checkReport(t *testing.T, text []byte, r Report) {
	t.Helper()
	for line := range strings.SplitSeq(string(text), "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("a line that can't be: %.80q", line)
		}
	}
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if to, err := m.Header.AddressList("To"); err != nil || len(to) != 1 || to[0].Address != r.Original.MailFrom.Address {
		t.Errorf("To: %v, %v", to, err)
	}
	if _, err := m.Header.Date(); err != nil {
		t.Error(err)
	}
	if m.Header.Get("Auto-Submitted") != "auto-replied" {
		t.Error("Auto-Submitted is missing: RFC 3834")
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("Content-Type %q: %v", m.Header.Get("Content-Type"), err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	var kinds []string
	for n := 0; ; n++ {
		p, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil {
			t.Error(err)
		}
		kinds = append(kinds, kind)
		body, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		if !isASCII(body) && p.Header.Get("Content-Transfer-Encoding") != "8bit" {
			t.Errorf("%s: 8-bit text without a word", kind)
		}
		if n == 1 {
			checkStatus(t, body, r)
		}
	}
	if len(kinds) < 2 || len(kinds) > 3 || kinds[0] != "text/plain" {
		t.Errorf("parts %q", kinds)
	}
}

func checkStatus(t *testing.T, body []byte, r Report) {
	t.Helper()
	tp := textproto.NewReader(bufio.NewReader(bytes.NewReader(body)))
	head, err := tp.ReadMIMEHeader()
	if err != nil || head.Get("Reporting-MTA") == "" {
		t.Errorf("no fields of the message: %v, %v", head, err)
	}
	for i := range r.Recipients {
		f, err := tp.ReadMIMEHeader()
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		for _, name := range []string{"Final-Recipient", "Action", "Status"} {
			if f.Get(name) == "" {
				t.Errorf("recipient %d has no %s", i, name)
			}
		}
		if len(f["Action"]) != 1 || f.Get("Action") != string(r.Recipients[i].Action) {
			t.Errorf("actions %q", f["Action"])
		}
	}
	if rest, _ := io.ReadAll(tp.R); len(bytes.TrimSpace(rest)) > 0 {
		t.Errorf("more fields than recipients: %q", rest)
	}
}

// What servers and senders wrote is repeated, and never more than text.
func TestHostileWordsStayWords(t *testing.T) {
	evil := "x\r\n\r\n--=_01KKNG8HG0B7W3Q8X0Y6Z5T4V2.0\r\nAction: delivered\r\n\x00\x85\u2028 " + strings.Repeat("y", 5000)
	r := report(Failed, "Subject: a\r\nX: "+strings.Repeat("z", 4000)+"\r\nY: \x00\r\r\n--=_01KKNG8HG0B7W3Q8X0Y6Z5T4V2.0\r\nMessage-ID: <a\tb>\r\n\r\nbody\nbare\r\n", full, func(r *Report) {
		r.Original.EnvID, r.Original.Client.Helo = evil, evil
		p := &r.Recipients[0]
		p.Text, p.Remote, p.Path.ORCPT, p.Path.Address = evil, evil, "rfc822;"+evil, `"a\"b"@dest.example`
	})
	env, text, err := Build(r)
	if err != nil {
		t.Fatal(err)
	}
	checkEnvelope(t, env, r)
	checkReport(t, text, r)
	if bytes.Contains(text, []byte("\r\nAction: delivered")) {
		t.Error("a server's words became a field")
	}
}

func TestNobodyIsToldOfTheNullSender(t *testing.T) {
	for _, from := range []*record.Path{nil, {}} {
		if _, _, err := Build(report(Failed, original, func(r *Report) { r.Original.MailFrom = from })); !errors.Is(err, ErrNobody) {
			t.Errorf("sender %v: %v", from, err)
		}
	}
}

func TestSizeIsBounded(t *testing.T) {
	huge := original + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 100_000)
	_, text, err := Build(report(Failed, huge, full))
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 8<<10 || !bytes.Contains(text, []byte("Only the header of the message is returned")) {
		t.Errorf("%d bytes", len(text))
	}
	_, text, err = Build(report(Failed, strings.Repeat("X-A: "+strings.Repeat("b", 100)+"\r\n", 100_000), full))
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > maxHeader+8<<10 {
		t.Errorf("a header of %d bytes", len(text))
	}
	broken := errors.New("disk")
	if _, _, err := Build(report(Failed, original, func(r *Report) { r.Message = func() (io.ReadCloser, error) { return nil, broken } })); !errors.Is(err, broken) {
		t.Errorf("a message that can't be read: %v", err)
	}
}

func TestWants(t *testing.T) {
	for _, c := range []struct {
		notify string
		want   string
	}{{"", "failed"}, {"NEVER", ""}, {"FAILURE", "failed"}, {"SUCCESS,DELAY", "delayed delivered relayed"}, {"success, failure", "failed delivered relayed"}} {
		var got []string
		for _, a := range []Action{Failed, Delayed, Delivered, Relayed} {
			if Wants(record.Path{Notify: c.notify}, a) {
				got = append(got, string(a))
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("NOTIFY=%s: %q, not %q", c.notify, got, c.want)
		}
	}
}

// Python's email package reads them as we mean them.
func TestAnotherReaderAgrees(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("python3 is missing: apt-get install python3")
	}
	script := `
import sys, email, email.policy
for path in sys.argv[1:]:
    m = email.message_from_binary_file(open(path, "rb"), policy=email.policy.default)
    assert m.get_content_type() == "multipart/report" and not m.defects, (path, m.defects)
    assert m["from"].addresses and m["to"].addresses and m["date"].datetime, path
    parts = list(m.iter_parts())
    assert 2 <= len(parts) <= 3, path
    for p in parts:
        assert not p.defects, (path, p.defects)
    print(path.split("/")[-1], [p.get_content_type() for p in parts])
`
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) != len(cases) {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	out, err := exec.Command(python, append([]string{"-c", script}, files...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
