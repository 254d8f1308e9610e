package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/mail"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
)

// api asks the running server and gives the ids of up to a thousand hits, and the total.
func (h *holdfast) api(query string) (ids []string, total uint64) {
	h.t.Helper()
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/api/v1/search?limit=1000&q=%s", h.web, url.QueryEscape(query)))
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	var page struct {
		Total uint64
		Hits  []hit
		Error string
	}
	if err := json.NewDecoder(res.Body).Decode(&page); err != nil || page.Error != "" {
		h.t.Fatalf("search %q: %v %s", query, err, page.Error)
	}
	for _, hit := range page.Hits {
		ids = append(ids, hit.ID)
	}
	return ids, page.Total
}

// loader builds the load generator that stands beside the test data.
func loader(t testing.TB) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "load")
	build := exec.CommandContext(withTimeout(t, 3*time.Minute), "go", "build", "-o", program, ".")
	build.Dir = shared(t, "bench/load")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the load generator: %v: %s", err, out)
	}
	return program
}

// sinkHeader is what smtp-sink puts before a message: its own lines, the first of which ends the previous one.
var sinkHeader = regexp.MustCompile(`^(X-(Client-Proto|Client-Addr|Helo-Args|Mail-Args|Rcpt-Args): [^\n]*\n)+(Received: [^\n]*\n(\s[^\n]*\n)*)?`)

// asReceived takes what smtp-sink wrote back to what Holdfast received: without the lines of the sink and of Holdfast.
func asReceived(t *testing.T, dump []byte) []byte {
	t.Helper()
	own := sinkHeader.Find(dump)
	if own == nil {
		t.Fatalf("smtp-sink wrote %.300q", dump)
	}
	rest := dump[len(own):]
	line := regexp.MustCompile(`^Received: from [^\n]*\n(\s[^\n]*\n)*`).Find(rest)
	if !bytes.Contains(line, []byte("(Holdfast)")) {
		t.Fatalf("no Received line of Holdfast: %.600q", dump)
	}
	m := bytes.TrimSuffix(rest[len(line):], []byte("\n")) // the sink ends each message with an empty line
	return bytes.ReplaceAll(m, []byte("\n"), []byte("\r\n"))
}

func TestPostfixSendsRealMailThroughToASink(t *testing.T) {
	corpusThroughPostfix(t, settings{mode: "relay"}, false)
}

func TestRealMailIntoEncryptedS3AndBackAfterALostNode(t *testing.T) {
	bucket := objecttest.StartS3(t)
	corpusThroughPostfix(t, settings{mode: "relay", store: bucket.URL, env: bucket.Env, init: []string{"--encrypt", "--no-escrow"}}, true)
}

func corpusThroughPostfix(t *testing.T, s settings, loseTheNode bool) {
	mails, load := corpus(t, "mail"), loader(t)
	sink := startSink(t)
	s.nextHop = sink.port
	h := install(t, s)
	h.withoutRaceDetector() // races are looked for where less mail does more: TestKillHundredTimesUnderLoad, TestSiege
	h.start()
	p := startPostfix(t, h.smtp, "")
	n := len(files(t, mails))
	out, err := exec.CommandContext(withTimeout(t, 10*time.Minute), load, "-addr", fmt.Sprintf("127.0.0.1:%d", p.port), "-dir", mails, "-c", "20", "-tag", "e2e", "-per-conn", "0").CombinedOutput()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("acked %d ", n)) {
		t.Fatalf("load: %v: %s", err, out)
	}
	p.drained(t, 10*time.Minute)
	h.settle()

	sent := map[string][]byte{} // by SHA-256
	for _, dump := range sink.messages(t) {
		m := asReceived(t, dump)
		sum := sha256.Sum256(m)
		key := hex.EncodeToString(sum[:])
		if sent[key] != nil {
			t.Errorf("delivered twice: %.200q", m)
		}
		sent[key] = m
	}
	if len(sent) != n {
		t.Errorf("%d messages sent, %d different ones delivered", n, len(sent))
	}
	hits := h.search("")
	byHash := map[string]string{}
	for _, hit := range hits {
		if sent[hit.SHA256] == nil {
			t.Errorf("archived and not delivered: %s %q", hit.ID, hit.Subject)
		}
		byHash[hit.SHA256] = hit.ID
	}
	if len(hits) != n || len(byHash) != n {
		t.Errorf("%d messages sent, %d archived, %d different ones", n, len(hits), len(byHash))
	}
	h.mustVerify()
	findThem := sample(t, sent, byHash, 200)
	findThem(h)
	if t.Failed() || !loseTheNode {
		h.stop()
		return
	}

	h.stop()
	before := h.mustVerify()
	if err := os.RemoveAll(filepath.Join(h.dir, "data")); err != nil {
		t.Fatal(err)
	}
	h.run("rebuild")
	if after := h.mustVerify(); after.Records < before.Records {
		t.Fatalf("%d records before, %d after", before.Records, after.Records)
	}
	h.start()
	h.settle()
	if got := h.search(""); len(got) != n {
		t.Fatalf("%d records found after rebuild, %d before", len(got), n)
	}
	findThem(h)
	h.stop()
}

// What a sample is taken from: words and addresses that can be told without knowing how the index reads text.
var (
	plainWord    = regexp.MustCompile(`(?:^| )([A-Za-z]{5,})(?: |$)`)
	plainAddress = regexp.MustCompile(`^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+$`)
)

// sample picks messages and gives a function that finds each of them by a word of its subject, by its sender and by its Message-ID.
func sample(t *testing.T, sent map[string][]byte, ids map[string]string, n int) func(*holdfast) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed of the sample: %d", seed)
	keys := make([]string, 0, len(sent))
	for k := range sent {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	rand.New(rand.NewPCG(seed, 1)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	type question struct{ query, id string }
	var ask []question
	picked := 0
	for _, k := range keys {
		m, err := mail.ReadMessage(bytes.NewReader(sent[k]))
		if err != nil {
			continue
		}
		subject, serr := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		from, ferr := mail.ParseAddress(m.Header.Get("From"))
		word := ""
		if m := plainWord.FindStringSubmatch(subject); m != nil {
			word = m[1]
		}
		mid := strings.Trim(m.Header.Get("Message-Id"), "<> ")
		if serr != nil || word == "" || ferr != nil || !plainAddress.MatchString(from.Address) || mid == "" || strings.ContainsAny(mid, " \"\\()*<>") {
			continue
		}
		ask = append(ask, question{"subject:" + word + " msgid:" + strconv.Quote(mid), ids[k]}, question{"from:" + from.Address + " msgid:" + strconv.Quote(mid), ids[k]},
			question{"msgid:" + strconv.Quote(mid), ids[k]})
		if picked++; picked == n {
			break
		}
	}
	if picked < n {
		t.Fatalf("only %d messages to pick from", picked)
	}
	return func(h *holdfast) {
		h.t.Helper()
		for _, q := range ask {
			if found, _ := h.api(q.query); !slices.Contains(found, q.id) {
				h.t.Errorf("%s does not find %s (%d others)", q.query, q.id, len(found))
			}
		}
	}
}

// fetch gives the bytes of a record.
func (h *holdfast) fetch(id string) []byte {
	h.t.Helper()
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/api/v1/records/%s/eml", h.web, id))
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		h.t.Fatalf("get %s: HTTP %d, %v: %.200s", id, res.StatusCode, err, body)
	}
	return body
}
