package authres

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/authres/dnstest"
)

// shared gives a file in the folder of test data beside the repository, or skips where it is absent; in CI it must be there.
func shared(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("HOLDFAST_SHARED")
	if dir == "" {
		_, file, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(file), "../../../shared")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("test data is missing: %v", err)
		}
		t.Skipf("test data is missing: %v", err)
	}
	return path
}

// documents reads a file of YAML documents.
func documents[T any](t testing.TB, path string) (list []T) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for dec := yaml.NewDecoder(f); ; {
		var doc T
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		list = append(list, doc)
	}
}

// oneOrMore is a string, or a list of strings.
type oneOrMore []string

func (l *oneOrMore) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*l = oneOrMore{n.Value}
		return nil
	}
	for _, item := range n.Content {
		*l = append(*l, item.Value)
	}
	return nil
}

type spfSuite struct {
	Description string
	Tests       map[string]struct {
		Helo, Host, MailFrom string
		Result               oneOrMore
		Skip                 string
	}
	Zone map[string][]yaml.Node `yaml:"zonedata"`
}

// zone puts a suite's zone on a server. Each entry is {TYPE: value}, or a word that says how asking fails. Records of the retired type SPF
// stand for TXT records where a name has none of its own; "NONE" says that it shall have none.
func (s *spfSuite) zone(t *testing.T, dns *dnstest.Server) {
	dns.Clear()
	for name, entries := range s.Zone {
		records, old := map[string][]string{}, []string(nil)
		for _, e := range entries {
			if e.Kind == yaml.ScalarNode {
				switch e.Value {
				case "TIMEOUT":
					dns.Fail(name) // the same to us as an answer that does not come, and sooner
				default:
					t.Fatalf("%s: %s", name, e.Value)
				}
				continue
			}
			var fields map[string]oneOrMore
			if err := e.Decode(&fields); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for typ, values := range fields {
				switch typ {
				case "SPF":
					old = append(old, strings.Join(values, ""))
				case "TXT":
					records[typ] = append(records[typ], strings.Join(values, ""))
				case "MX":
					records[typ] = append(records[typ], values[0]+" "+values[1])
				case "TIMEOUT", "SERVFAIL", "CNAMELOOP":
					dns.Fail(name)
				default:
					records[typ] = append(records[typ], values...)
				}
			}
		}
		if records["TXT"] == nil && old != nil {
			records["TXT"] = old
		}
		if slices.Equal(records["TXT"], []string{"NONE"}) {
			delete(records, "TXT")
		}
		for typ, values := range records {
			dns.Set(name, typ, values...)
		}
	}
}

// The suites of RFC 4408, RFC 7208, of pyspf and of the library, each verdict asked for over the wire and then again from what was recorded.
func TestSPFSuites(t *testing.T) {
	dns := dnstest.New(t)
	count := 0
	for _, file := range []string{"rfc7208-tests.yml", "rfc4408-tests.yml", "pyspf-tests.yml", "blitirispf-tests.yml"} {
		for _, suite := range documents[spfSuite](t, shared(t, "corpus/authres/"+file)) {
			suite.zone(t, dns)
			c := NewChecker(NewResolver([]string{dns.Addr}))
			for name, test := range suite.Tests {
				if test.Skip != "" || !strings.Contains(domainOf(cmp.Or(test.MailFrom, test.Helo)), ".") { // of one label: none, by RFC 7208, section 4.3
					continue
				}
				count++
				env := &record.Envelope{Client: &record.Client{Address: test.Host, Helo: test.Helo}, MailFrom: &record.Path{Address: test.MailFrom}, Received: time.Now()}
				v := mustCheck(t, c, env, "")
				if len(v.SPF) == 0 || !slices.Contains(test.Result, v.SPF[0].Result) {
					t.Errorf("%s: %s: %s: %+v, expected %v", file, suite.Description, name, v.SPF, test.Result)
				}
			}
		}
	}
	if count < 300 {
		t.Errorf("%d tests are too few", count)
	}
	t.Logf("%d tests", count)
}

// mustCheck makes verdicts and demands that a recheck without DNS makes the same.
func mustCheck(t testing.TB, c *Checker, env *record.Envelope, message string) *record.Verdicts {
	t.Helper()
	v, err := c.Check(t.Context(), env, strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Recheck(t.Context(), v, env, strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	if d := Differences(v, again); d != nil {
		t.Errorf("checked again: %v", d)
	}
	if a, b := fmt.Sprint(v.DNS), fmt.Sprint(again.DNS); a != b {
		t.Errorf("checking again rests on other answers:\n%s\n%s", a, b)
	}
	return v
}

type arcSuite struct {
	Description string
	Tests       yaml.Node         // some names come twice
	Keys        map[string]string `yaml:"txt-records"`
}

func TestARCSuite(t *testing.T) {
	dns := dnstest.New(t)
	count := 0
	for _, suite := range documents[arcSuite](t, shared(t, "corpus/authres/arc-draft-validation-tests.yml")) {
		dns.Clear()
		for name, text := range suite.Keys {
			dns.Set(name, "TXT", strings.ReplaceAll(text, " ", ""))
		}
		c := NewChecker(NewResolver([]string{dns.Addr}))
		for i := 0; i+1 < len(suite.Tests.Content); i += 2 {
			var test struct{ Message, CV string }
			name := suite.Tests.Content[i].Value
			if err := suite.Tests.Content[i+1].Decode(&test); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			count++
			want := strings.ToLower(strings.TrimSpace(test.CV))
			message := strings.ReplaceAll(test.Message, "\n", "\r\n")
			v := mustCheck(t, c, &record.Envelope{Received: time.Now()}, message)
			got, why := "none", ""
			if v.ARC != nil {
				got, why = v.ARC.Result, v.ARC.Reason
			}
			if want == "" { // the chain says of itself that it has failed
				want = "fail"
			}
			if got != want {
				t.Errorf("%s: %s: %s (%s), expected %s", suite.Description, name, got, why, want)
			}
			if testing.Verbose() {
				t.Logf("%s: %s %s", name, got, why)
			}
		}
	}
	if count < 150 {
		t.Errorf("%d tests are too few", count)
	}
	t.Logf("%d tests", count)
}
