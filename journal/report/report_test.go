package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

var update = flag.Bool("update", false, "write the golden files again")

// transaction is the envelope of a journal copy before anything is read.
func transaction(rcpt ...string) record.Envelope {
	if len(rcpt) == 0 {
		rcpt = []string{"journal@archive.example"}
	}
	env := record.Envelope{Completeness: record.Partial, MailFrom: &record.Path{Address: "mta@corp.example"}}
	for _, r := range rcpt {
		env.Rcpt = append(env.Rcpt, record.Path{Address: r})
	}
	return env
}

// read reads a message in pieces of the sizes that next gives.
func read(formats []string, raw []byte, env *record.Envelope, next func() int) Outcome {
	r := New(formats)
	for len(raw) > 0 {
		n := min(max(next(), 1), len(raw))
		r.Write(raw[:n])
		raw = raw[n:]
	}
	return r.Finish(env)
}

func whole() int { return 1 << 30 }

// golden is what a fixture is expected to come to.
type golden struct {
	Outcome  Outcome             `json:"outcome"`
	Complete record.Completeness `json:"envelope"`
	MailFrom *record.Path        `json:"mail_from"`
	Rcpt     []record.Path       `json:"rcpt"`
	Report   *record.Report      `json:"report"`
	Inner    []string            `json:"inner,omitempty"` // first line of each message that is enclosed
}

// TestGolden reads the fixtures of testdata: each in the shape that its server sends, with the result beside it. However the bytes come in,
// and with whatever line ends, the result is the same, but for places and digests where the line ends differ.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".eml")
		t.Run(name, func(t *testing.T) {
			lf, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			crlf := bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n"))
			got := result(t, crlf, whole)
			out, err := json.MarshalIndent(got, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, '\n')
			path := strings.TrimSuffix(file, ".eml") + ".json"
			if *update {
				if err := os.WriteFile(path, out, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out, want) {
				t.Errorf("got %s\nwant %s", out, want)
			}
			seed := rand.Uint64()
			rng := rand.New(rand.NewPCG(seed, 1))
			for _, next := range []func() int{func() int { return 1 }, func() int { return rng.IntN(100) }} {
				if again, _ := json.MarshalIndent(result(t, crlf, next), "", "  "); !bytes.Equal(append(again, '\n'), out) {
					t.Errorf("in pieces (seed %d): %s", seed, again)
				}
			}
			unix := result(t, lf, whole)
			if unix.Outcome != got.Outcome || unix.Complete != got.Complete || fmt.Sprint(unix.Rcpt) != fmt.Sprint(got.Rcpt) || fmt.Sprint(unix.Inner) != fmt.Sprint(got.Inner) {
				t.Errorf("with lines that end in LF: %+v", unix)
			}
		})
	}
}

func result(t *testing.T, raw []byte, next func() int) golden {
	t.Helper()
	env := transaction()
	if bytes.Contains(raw, []byte("Delivered-To: journal+")) { // what a fixture can't say otherwise
		env = transaction("journal+maria=corp.example@archive.example", "journal+ops+night=corp.example+li=partner.example@archive.example")
	}
	g := golden{Outcome: read(Formats, raw, &env, next)}
	g.Complete, g.MailFrom, g.Rcpt, g.Report = env.Completeness, env.MailFrom, env.Rcpt, env.Report
	if env.Report != nil {
		for i := range env.Report.Enclosed {
			g.Inner = append(g.Inner, checkEnclosed(t, raw, &env.Report.Enclosed[i]))
		}
	}
	return g
}

// checkEnclosed cuts an enclosed message out of the report and gives its first line.
func checkEnclosed(t testing.TB, raw []byte, e *record.Enclosed) string {
	t.Helper()
	r, err := message.Within(bytes.NewReader(raw), e.Offset, e.Length, e.Encoding)
	if err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
	in, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
	if int64(len(in)) != e.Size || record.Sum(in) != e.SHA256 {
		t.Errorf("%+v is not what lies there: %d bytes %q", e, len(in), in)
	}
	line, _, _ := strings.Cut(string(in), "\n")
	return strings.TrimSpace(line)
}

// Reports count only where their format is named: everything that a stranger can write changes nothing.
func TestFormatsThatAreNotNamedChangeNothing(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.eml")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		env := transaction()
		before := fmt.Sprintf("%+v %+v", env, env.MailFrom)
		if got := read(nil, raw, &env, whole); got != None || fmt.Sprintf("%+v %+v", env, env.MailFrom) != before {
			t.Errorf("%s: %s, %+v", file, got, env)
		}
	}
}

// A copy that the mail server addressed by itself is no report, whatever its sender wrote into it.
func TestForgedReportInACopy(t *testing.T) {
	raw, err := os.ReadFile("testdata/exchange-mixed-case.eml")
	if err != nil {
		t.Fatal(err)
	}
	env := transaction("journal+victim=corp.example@archive.example")
	if got := read([]string{Exchange, Encoded}, raw, &env, whole); got != Read || len(env.Rcpt) != 1 || env.Rcpt[0].Address != "victim@corp.example" {
		t.Errorf("%s, %+v", got, env)
	}
	forged := "X-Envelope-From: <true@corp.example>\nX-Envelope-To: <bob@corp.example>\nReceived: from outside\nX-Envelope-To: <planted@evil.example>\nSubject: x\n\nbody\n"
	env = transaction()
	if got := read([]string{XEnvelope}, []byte(forged), &env, whole); got != Read || len(env.Rcpt) != 1 || env.Rcpt[0].Address != "bob@corp.example" {
		t.Errorf("%s, %+v", got, env)
	}
	inner := "X-MS-Journal-Report:\nSubject: forged\nContent-Type: text/plain\n\nSender: a@evil.example\nBcc: planted@evil.example\n"
	outer := "X-MS-Journal-Report:\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nSender: true@corp.example\nTo: bob@corp.example\n--b\nContent-Type: message/rfc822\n\n" + inner + "--b--\n"
	env = transaction()
	if got := read([]string{Exchange}, []byte(outer), &env, whole); got != Read || len(env.Rcpt) != 1 || env.MailFrom.Address != "true@corp.example" {
		t.Errorf("%s, %+v", got, env)
	}
}

func report(lines string) []byte {
	return []byte("X-MS-Journal-Report:\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n" + lines +
		"\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <x@corp.example>\r\nTo: dl@corp.example\r\n\r\nhello\r\n--b--\r\n")
}

// A report of any size is bounded, and says what is missing.
func TestLargeReport(t *testing.T) {
	var b strings.Builder
	b.WriteString("Sender: a@corp.example\r\n")
	const n = 100_000
	for i := range n {
		fmt.Fprintf(&b, "To: member%06d@a-department-with-a-long-name-%0100d.corp.example, Expanded: everybody@corp.example\r\n", i, i)
	}
	env := transaction()
	got := read(Formats, report(b.String()), &env, func() int { return 32 << 10 })
	rep := env.Report
	if got != Partial || env.Completeness != record.Partial || rep.Named != n || rep.Problem == "" {
		t.Errorf("%s, %s, named %d, %q", got, env.Completeness, rep.Named, rep.Problem)
	}
	if len(env.Rcpt) == 0 || len(env.Rcpt) > maxRecipients || len(rep.Enclosed) != 1 || rep.Enclosed[0].MessageID != "x@corp.example" {
		t.Errorf("%d recipients, %+v", len(env.Rcpt), rep.Enclosed)
	}
	b.Reset()
	b.WriteString("Sender: a@corp.example\r\n")
	for i := range 50_000 {
		fmt.Fprintf(&b, "To: %d@b\r\n", i)
	}
	env = transaction()
	if got := read(Formats, report(b.String()), &env, whole); got != Partial || len(env.Rcpt) != maxRecipients || env.Report.Named != 50_000 {
		t.Errorf("%s, %d of %d", got, len(env.Rcpt), env.Report.Named)
	}
}

// The worst that a report can put into an envelope is far below what the spool takes as one (64 MiB).
func TestEnvelopeStaysSmall(t *testing.T) {
	line := "To: " + strings.Repeat("&", 20) + "@<\r\n"
	for _, lines := range []string{
		strings.Repeat(line, 60_000),
		"Sender: a@b\r\n" + strings.Repeat("To: <&>@\x01\r\n", 100_000),
		"Subject: " + strings.Repeat("<", 2<<20) + "\r\nTo: a@b\r\n",
		strings.Repeat("X: "+strings.Repeat("\x01", 5000)+"\r\n", 1000),
	} {
		env := transaction()
		read(Formats, report(lines), &env, whole)
		out, err := json.Marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		if len(out) > 16<<20 {
			t.Errorf("%d bytes of JSON", len(out))
		}
	}
}

// What an attacker may have a server put into a report costs no more than its length.
func TestHostileReportsAreReadInLinearTime(t *testing.T) {
	for name, raw := range map[string][]byte{
		"blank lines before the message": bytes.Replace(report("Sender: a@b\r\nTo: c@d"), []byte("Message-ID:"), append(bytes.Repeat([]byte("\n"), 4<<20), "Message-ID:"...), 1),
		"one long line, continued":       report(strings.Repeat("x", 400_000) + strings.Repeat("\r\n y", 100_000) + "\r\nSender: a@b\r\nTo: c@d"),
		"expanded again and again":       report("Sender: a@b\r\nTo: c@d\r\nTo: c@d" + strings.Repeat(", Expanded: e@f", 60_000)),
		"a long header":                  []byte("X-MS-Journal-Report:\r\n" + strings.Repeat("A:\r\n", 1_000_000) + string(report("Sender: a@b\r\nTo: c@d"))),
		"boundaries":                     bytes.Replace(report("Sender: a@b\r\nTo: c@d"), []byte("hello"), bytes.Repeat([]byte("--c\r\n"), 1_000_000), 1),
	} {
		start := time.Now()
		env := transaction()
		got := read(Formats, raw, &env, func() int { return 16 << 10 })
		t.Logf("%s: %s, %v", name, got, time.Since(start))
		if name != "a long header" && (env.Report == nil || env.Report.Enclosed[0].MessageID != "x@corp.example" || env.MailFrom.Address != "a@b") {
			t.Errorf("%s: %s, %q", name, got, env.Report.Problem)
		}
	}
}

func TestUnreadableReports(t *testing.T) {
	for name, raw := range map[string]string{
		"nothing":         "X-MS-Journal-Report: \r\n\r\n",
		"no lines":        string(report("hello")),
		"no header end":   "X-MS-Journal-Report: x",
		"not text":        "X-MS-Journal-Report:\r\nContent-Type: application/pdf\r\n\r\n%PDF",
		"no boundary":     "X-MS-Journal-Report:\r\nContent-Type: multipart/mixed\r\n\r\nSender: a@b\r\nTo: c@d\r\n",
		"other":           "X-MS-Journal-Report:\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--c\r\n\r\nSender: a@b\r\n",
		"original to":     "X-Gm-Original-To: nobody\r\n\r\n",
		"encoded message": "X-MS-Journal-Report:\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!\r\n",
	} {
		env := transaction()
		if got := read(Formats, []byte(raw), &env, whole); got != Unreadable || env.Completeness != record.Partial || env.Report == nil || env.Report.Problem == "" {
			t.Errorf("%s: %s, %q", name, got, env.Report.Problem)
		}
		if env.Transport != nil || env.MailFrom.Address != "mta@corp.example" || env.Rcpt[0].Address != "journal@archive.example" {
			t.Errorf("%s: the transaction was changed: %+v", name, env)
		}
	}
}

func TestFaultOfTheReaderKeepsTheEnvelope(t *testing.T) {
	r := New(Formats)
	r.Write(report("Sender: a@b\r\nTo: c@d"))
	r.walk.decoder, r.walk.state = nil, inText // what a fault would look like
	r.Write([]byte("x\r\n"))
	env := transaction()
	if got := r.Finish(&env); got != Unreadable || !strings.Contains(env.Report.Problem, "fault of the reader") || len(env.Rcpt) != 1 || env.Transport != nil {
		t.Errorf("%s, %+v", got, env)
	}
}

func TestDecodeAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"journal+maria=corp.example@archive.example":                     "[maria@corp.example]",
		"journal+a=x.example+b=y.example@archive.example":                "[a@x.example b@y.example]",
		"journal+a+tag=x.example@archive.example":                        "[a+tag@x.example]",
		"journal+a=b=x.example@archive.example":                          "[a=b@x.example]",
		"journal+=x.example@archive.example":                             "[]",
		"journal+a=@archive.example":                                     "[]",
		"journal+a=x.example+rest@archive.example":                       "[]",
		"journal@archive.example":                                        "[]",
		"journal+tag@archive.example":                                    "[]",
		"journal+jörg=bücher.example@archive.example":                    "[jörg@bücher.example]",
		"journal+a=x example@archive.example":                            "[]",
		"journal":                                                        "[]",
		"journal+prvs=123=a=x.example+\"q q\"=y.example@archive.example": "[prvs=123=a@x.example \"q q\"@y.example]",
	} {
		if got := fmt.Sprint(decodeAddress(addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestRecipientLines(t *testing.T) {
	for line, want := range map[string]record.ReportRecipient{
		"a@b":                                    {Address: "a@b"},
		"\"A, B\" <a@b>":                         {Address: "a@b"},
		"a@b, Expanded: dl@b":                    {Address: "a@b", Expanded: "dl@b"},
		"a@b, forwarded : c@b":                   {Address: "a@b", Forwarded: "c@b"},
		"a@b, Forwarded: c@b, Expanded: dl@b":    {Address: "a@b", Forwarded: "c@b", Expanded: "dl@b"},
		"SMTP:a@b":                               {Address: "a@b"},
		"expanded:@b":                            {Address: "expanded:@b"},
		"/O=CORP/OU=FIRST/CN=RECIPIENTS/CN=ANNA": {Address: "/O=CORP/OU=FIRST/CN=RECIPIENTS/CN=ANNA"},
		"ΑΒΓ@παράδειγμα.example":                 {Address: "ΑΒΓ@παράδειγμα.example"},
	} {
		if got, ok := recipientOf("", line); !ok || got != want {
			t.Errorf("%s: %+v", line, got)
		}
	}
	for _, line := range []string{"", "nobody", "<>", "," + strings.Repeat("a", 2000) + "@b"} {
		if got, ok := recipientOf("", line); ok {
			t.Errorf("%s: %+v", line, got)
		}
	}
}
