package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// foldedHit is what search --json says of reports that are shown as one.
type foldedHit struct {
	hit
	From, Rcpt []string
	Reports    []struct {
		ID   string
		Rcpt []string
	}
}

func (h *holdfast) searchFolded(query string) (hits []foldedHit, total int) {
	h.t.Helper()
	var page struct {
		Total int
		Hits  []foldedHit
	}
	if err := json.Unmarshal([]byte(h.run("search", "--json", "--", query)), &page); err != nil {
		h.t.Fatal(err)
	}
	return page.Hits, page.Total
}

// journalReports are fixtures of package report, with line ends as SMTP has them.
func journalReport(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "journal", "report", "testdata", name+".eml"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))
}

// Journal reports that swaks hands over: whom they name is found, what they enclose is what is read, both come back byte for byte, and the
// archive alone knows all of it.
func TestJournalReports(t *testing.T) {
	swaks := need(t, "swaks", "swaks")
	h := install(t, settings{mode: "journal", more: ", report_formats: [exchange, zimbra, domino, google]"})
	h.start()
	names := []string{"exchange-bifurcated-1", "exchange-bifurcated-2", "exchange-rights-managed", "exchange-in-ndr", "exchange-2003", "exchange-base64-utf8",
		"exchange-recipient", "exchange-no-recipients", "google-original-to", "zimbra-amavisd", "zimbra-intercept-add", "domino-fields", "no-report"}
	for _, name := range names {
		file := filepath.Join(t.TempDir(), "report.eml")
		if err := os.WriteFile(file, bytes.TrimSuffix(journalReport(t, name), []byte("\r\n")), 0o600); err != nil { // swaks ends the last line
			t.Fatal(err)
		}
		cmd := exec.Command(swaks, "--server", "127.0.0.1", "--port", fmt.Sprint(h.smtp), "--ehlo", "ex.corp.example", "--from", "<>", "--to", "journal@archive.example",
			"--data", "@"+file, "--timeout", "20")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	h.settle()
	h.checkReports(names)
	h.mustVerify()
	h.stop()
	if err := os.RemoveAll(filepath.Join(h.dir, "data", "index")); err != nil {
		t.Fatal(err)
	}
	h.run("rebuild")
	h.start()
	h.settle()
	h.checkReports(names)
	if n, ok := h.metric("holdfast_journal_reports_total"); !ok || n != 0 {
		t.Errorf("reports counted after a restart: %v", n)
	}
}

func (h *holdfast) checkReports(names []string) {
	t := h.t
	t.Helper()
	for query, want := range map[string]struct {
		hits, total, reports int
		rcpt                 string
	}{
		"rcpt:frank@corp.example msgid:draft-7@corp.example":       {1, 1, 2, "bob@partner.example dora@corp.example emil@corp.example frank@corp.example"},
		"msgid:draft-7@corp.example":                               {1, 2, 2, "bob@partner.example dora@corp.example emil@corp.example frank@corp.example"},
		"rcpt:journal@archive.example msgid:draft-7@corp.example":  {0, 0, 0, ""},
		"subject:salaries body:salaries":                           {1, 1, 0, "bob@partner.example"},
		"body:protected subject:salaries":                          {0, 0, 0, ""},
		"rcpt:carol@corp.example msgid:draft-8@corp.example":       {1, 1, 0, "bob@partner.example carol@corp.example"},
		"rcpt:dora@corp.example msgid:draft-9@corp.example":        {1, 1, 0, "bob@partner.example carol@corp.example dora@corp.example"},
		"rcpt:почта.example from:anna@corp.example":                {1, 1, 0, "иван@почта.example bob@partner.example"},
		"subject:черновик":                                         {1, 1, 0, "иван@почта.example bob@partner.example"},
		"msgid:offer-1@partner.example envfrom:li@partner.example": {1, 1, 0, "anna@corp.example carol@corp.example dora@corp.example"},
		"msgid:draft-16@corp.example":                              {1, 1, 0, "carol@corp.example"},
		"msgid:draft-17@corp.example rcpt:carol@corp.example":      {1, 1, 0, `bob@partner.example carol@corp.example "odd one"@corp.example`},
		"msgid:draft-18@corp.example rcpt:carol@corp.example":      {1, 1, 0, "carol@corp.example"},
		"msgid:draft-21@corp.example rcpt:frank@corp.example":      {1, 1, 0, "bob@partner.example carol@corp.example dora@corp.example emil@corp.example frank@corp.example"},
		"msgid:draft-24@corp.example":                              {1, 1, 0, "journal@archive.example"},
		"rcpt:planted@evil.example":                                {0, 0, 0, ""},
	} {
		hits, total := h.searchFolded(query)
		if len(hits) != want.hits || total != want.total {
			t.Errorf("%s: %d hits, %d records: %+v", query, len(hits), total, hits)
			continue
		}
		if want.hits == 1 && (len(hits[0].Reports) != want.reports || strings.Join(hits[0].Rcpt, " ") != want.rcpt) {
			t.Errorf("%s: %d reports, to %q", query, len(hits[0].Reports), hits[0].Rcpt)
		}
	}
	if all := h.searchCount(""); all != len(names) {
		t.Errorf("%d records, %d were sent", all, len(names))
	}
	sums := map[string]string{}
	hits, _ := h.searchFolded("")
	for _, one := range hits {
		sums[one.SHA256] = one.ID
	}
	raw := journalReport(t, "exchange-rights-managed")
	id := sums[record.Sum(raw).String()]
	if id == "" {
		t.Fatalf("the report as it was sent is not in the archive")
	}
	if got := h.run("get", id, "--eml"); got != string(raw) {
		t.Errorf("the report came back as %q", got)
	}
	_, clear, _ := bytes.Cut(raw, []byte("--irm--\r\n\r\n--_000_journal_\r\nContent-Type: message/rfc822\r\n\r\n"))
	clear, _, _ = bytes.Cut(clear, []byte("\r\n--_000_journal_--"))
	if got := h.run("get", id, "--inner"); got != string(clear) {
		t.Errorf("the message in it came back as %q, not %q", got, clear)
	}
	var k struct{ Envelope record.Envelope }
	if err := json.Unmarshal([]byte(h.run("get", id, "--envelope")), &k); err != nil {
		t.Fatal(err)
	}
	e := k.Envelope
	if e.Completeness != record.Full || e.MailFrom.Address != "anna@corp.example" || e.Transport.Rcpt[0].Address != "journal@archive.example" || e.Report.Label != "Do Not Forward" {
		t.Errorf("%+v", e)
	}
	if text := h.run("get", id, "--text"); !strings.Contains(text, "The salaries of 2027") || strings.Contains(text, "Label") {
		t.Errorf("text %q", text)
	}
	if page, status := h.get("/message/" + id); status != 200 || !bytes.Contains(page, []byte("as it was sent, encrypted")) {
		t.Errorf("page: HTTP %d", status)
	}
}

func (h *holdfast) searchCount(query string) (n int) {
	h.t.Helper()
	if _, err := fmt.Sscan(h.run("search", "--count", "--", query), &n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// A copy by Postfix, addressed so that it says whom it is a copy for: BCC is found, and what the header claims means nothing.
func TestPostfixCopiesWithEncodedAddresses(t *testing.T) {
	swaks := need(t, "swaks", "swaks")
	needRoot(t)
	sink := startSink(t)
	h := install(t, settings{mode: "journal", more: ", report_formats: [encoded_address, exchange], report_addresses: [journal@archive.test]"})
	h.start()
	p := startPostfix(t, sink.port, fmt.Sprintf(`recipient_bcc_maps = regexp:{{/^(.*)@(.*)$$/ journal+$$1=$$2@archive.test}}
transport_maps = inline:{{archive.test = smtp:[127.0.0.1]:%d}}`, h.smtp))
	cmd := exec.Command(swaks, "--server", "127.0.0.1", "--port", fmt.Sprint(p.port), "--from", "anna@corp.test", "--to", "bob@partner.test,secret+tag@board.test",
		"--header", "Subject: copies", "--header", "To: bob@partner.test", "--header", "X-MS-Journal-Report: forged", "--body", "Sender: x@evil.test\nTo: planted@evil.test\n", "--timeout", "20")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.drained(t, time.Minute)
	until(t, time.Minute, "the copy is found", func() bool { hits, _ := h.searchFolded("subject:copies"); return len(hits) > 0 })
	h.settle()
	hits, _ := h.searchFolded(`subject:copies rcpt:"secret+tag@board.test"`)
	var rcpt []string
	for _, one := range hits {
		rcpt = append(rcpt, one.Rcpt...)
	}
	slices.Sort(rcpt)
	if fmt.Sprint(rcpt) != "[bob@partner.test secret+tag@board.test]" {
		t.Errorf("recipients %q of %+v", rcpt, hits)
	}
	if n := h.searchCount("rcpt:planted@evil.test"); n != 0 {
		t.Errorf("a forged recipient is found %d times", n)
	}
}

// What a journal mailbox received can be imported as reports; without the flag it is mail like any other.
func TestImportOfJournalReports(t *testing.T) {
	h := install(t, settings{mode: "journal"})
	file := filepath.Join(h.dir, "report.eml")
	if err := os.WriteFile(file, journalReport(t, "exchange-expanded"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, code := h.try("import", "--reports", "outlook", file); code != 64 {
		t.Errorf("an unknown format: exit %d", code)
	}
	h.run("import", file)
	h.run("import", "--reports", "exchange,google", file)
	h.start()
	h.settle()
	if n := h.searchCount("rcpt:gina@corp.example envfrom:anna@corp.example"); n != 1 {
		t.Errorf("%d records know what the report says", n)
	}
	if n := h.searchCount(""); n != 2 {
		t.Errorf("%d records", n)
	}
}
