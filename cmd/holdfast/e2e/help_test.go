package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

// seeded gives random numbers whose seed is in the log.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed: %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// letter makes a message of CRLF lines with so many bytes of text, of few different words: what to index is not what is tested with it.
func letter(rng *rand.Rand, subject string, size int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Ada <ada@origin.test>\r\nTo: Bob <bob@dest.test>\r\nSubject: %s\r\nMessage-ID: <%x@origin.test>\r\n"+
		"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n", subject, rng.Uint64())
	for b.Len() < size {
		for range 10 {
			fmt.Fprintf(&b, "word%02d ", rng.IntN(100))
		}
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

// withoutRaceDetector has the program run as it is released: where memory is measured, or the work is large and races are looked for elsewhere.
func (h *holdfast) withoutRaceDetector() {
	h.t.Helper()
	program, err := releaseBuild()
	if err != nil {
		h.t.Fatal(err)
	}
	h.program = program
}

var releaseBuild = sync.OnceValues(func() (string, error) {
	program := filepath.Join(filepath.Dir(binary), "release", "holdfast")
	if out, err := exec.Command("go", "build", "-o", program, "..").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return program, nil
})

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	n, nerr := strconv.Atoi(port)
	if err != nil || nerr != nil {
		t.Fatalf("no port in %q", address)
	}
	return n
}

// relayTo installs a relay in front of a scripted next hop.
func relayTo(t *testing.T, hop *hoptest.Hop, s settings) *holdfast {
	t.Helper()
	s.mode, s.nextHop = "relay", portOf(t, hop.Addr())
	return install(t, s)
}

// dial opens a session.
func (h *holdfast) dial() *client {
	h.t.Helper()
	c, err := dialSMTP(h.smtp)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

// must says something to which the reply must begin with a text.
func (c *client) must(t *testing.T, say, reply string) string {
	t.Helper()
	got, err := c.say(say)
	if err != nil || !strings.HasPrefix(got, reply) {
		t.Fatalf("%.100q: reply %q (%v), expected %q", say, got, err, reply)
	}
	return got
}

// begin opens a transaction in which all must be accepted.
func (c *client) begin(t *testing.T, from string, to ...string) {
	t.Helper()
	c.must(t, "MAIL FROM:<"+from+">\r\n", "250")
	for _, rcpt := range to {
		c.must(t, "RCPT TO:<"+rcpt+">\r\n", "250")
	}
}

// data sends a message by DATA in the transaction that is open, and gives the reply to its end. The message must end in CRLF.
func (c *client) data(t *testing.T, message []byte) string {
	t.Helper()
	c.must(t, "DATA\r\n", "354")
	reply, err := c.say(string(stuff(message)) + ".\r\n")
	if err != nil {
		t.Fatalf("end of data: %v", err)
	}
	return reply
}

func stuff(message []byte) []byte {
	return bytes.ReplaceAll(append([]byte("\r\n"), message...), []byte("\r\n."), []byte("\r\n.."))[2:]
}

// bdat sends any bytes as a message, in chunks of random sizes, and gives the last reply.
func (c *client) bdat(t *testing.T, rng *rand.Rand, message []byte) string {
	t.Helper()
	for rest := message; ; {
		n := len(rest)
		if n > 1 && rng.IntN(3) > 0 {
			n = 1 + rng.IntN(n-1)
		}
		last := ""
		if n == len(rest) {
			last = " LAST"
		}
		reply, err := c.say(fmt.Sprintf("BDAT %d%s\r\n%s", n, last, rest[:n]))
		if err != nil {
			t.Fatalf("BDAT: %v", err)
		}
		if rest = rest[n:]; last != "" || reply[0] != '2' {
			return reply
		}
	}
}

// kept is what the API says of a record.
type kept struct {
	Entry       *record.Entry
	Envelope    record.Envelope
	Supplements []record.Supplement
}

func (h *holdfast) record(id string) (k kept) {
	h.t.Helper()
	h.getJSON("/api/v1/records/"+id, &k)
	return k
}

func (k kept) delivery(t testing.TB) *record.Delivery {
	t.Helper()
	if len(k.Supplements) != 1 || k.Supplements[0].Delivery == nil {
		t.Fatalf("%s has the supplements %+v", k.Envelope.ID, k.Supplements)
	}
	return k.Supplements[0].Delivery
}

func (h *holdfast) getJSON(path string, into any) {
	h.t.Helper()
	body, status := h.get(path)
	if status != http.StatusOK {
		h.t.Fatalf("GET %s: HTTP %d: %.300s", path, status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		h.t.Fatalf("GET %s: %v in %.300s", path, err, body)
	}
}

func (h *holdfast) get(path string) (body []byte, status int) {
	h.t.Helper()
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", h.web, path))
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err = io.ReadAll(res.Body); err != nil {
		h.t.Fatal(err)
	}
	return body, res.StatusCode
}

// sums gives the SHA-256 of every message that a search finds, and its id.
func (h *holdfast) sums() map[string][]string {
	h.t.Helper()
	ids := map[string][]string{}
	for _, hit := range h.search("") {
		ids[hit.SHA256] = append(ids[hit.SHA256], hit.ID)
	}
	return ids
}

// holdsExactly demands that these messages are in the archive, each once, with these bytes, and no others.
func (h *holdfast) holdsExactly(messages ...[]byte) {
	h.t.Helper()
	ids := h.sums()
	for _, m := range messages {
		if got := ids[hash(m)]; len(got) != 1 {
			h.t.Errorf("archived %d times: %.80q", len(got), m)
		} else if !bytes.Equal(h.fetch(got[0]), m) {
			h.t.Errorf("other bytes come back for %.80q", m)
		}
		delete(ids, hash(m))
	}
	for _, more := range ids {
		h.t.Errorf("archived, and should not be: %v", more)
	}
}

// ended waits until the server ends by itself and gives its exit code.
func (h *holdfast) ended(limit time.Duration) int {
	h.t.Helper()
	select {
	case <-h.exited:
		code := h.proc.ProcessState.ExitCode()
		h.proc = nil
		return code
	case <-time.After(limit):
		h.t.Fatalf("the server does not end within %v", limit)
		return 0
	}
}

// logHas says whether the server's log has a text.
func (h *holdfast) logHas(text string) bool {
	log, err := os.ReadFile(filepath.Join(h.dir, "log"))
	return err == nil && bytes.Contains(log, []byte(text))
}

// objects lists the files of the default store: key and path.
func (h *holdfast) objects() map[string]string {
	h.t.Helper()
	root := filepath.Join(h.dir, "data", "archive")
	found := map[string]string{}
	for _, path := range files(h.t, root) {
		key, err := filepath.Rel(root, path)
		if err != nil {
			h.t.Fatal(err)
		}
		if !strings.HasPrefix(key, ".") {
			found[filepath.ToSlash(key)] = path
		}
	}
	return found
}

// entries reads the entries of this node's log from the default store as LEDGER.md says: zstd, then lines of JSON between the header
// and an empty line.
func (h *holdfast) entries() (list []record.Entry) {
	h.t.Helper()
	objects := h.objects()
	keys := make([]string, 0, len(objects))
	for key := range objects {
		if strings.HasPrefix(key, "ledger/node-main/commit/") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	dec, err := zstd.NewReader(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	defer dec.Close()
	for _, key := range keys {
		packed, err := os.ReadFile(objects[key])
		if err != nil {
			h.t.Fatal(err)
		}
		text, err := dec.DecodeAll(packed, nil)
		if err != nil {
			h.t.Fatalf("%s: %v", key, err)
		}
		body, _, _ := strings.Cut(string(text), "\n\n")
		for _, line := range strings.Split(body, "\n")[1:] {
			var e record.Entry
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				h.t.Fatalf("%s: %v in %q", key, err, line)
			}
			list = append(list, e)
		}
	}
	return list
}

// connected says whether the server's side of a session is still established, by the kernel's own list.
func connected(t *testing.T, server int, c *client) bool {
	t.Helper()
	list, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Skip("needs /proc/net/tcp")
	}
	client := portOf(t, c.LocalAddr().String())
	return strings.Contains(string(list), fmt.Sprintf("0100007F:%04X 0100007F:%04X", server, client))
}
