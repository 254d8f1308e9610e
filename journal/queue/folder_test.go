package queue

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

func newFolder(t *testing.T) (*folder, *int) {
	t.Helper()
	alarms := 0
	f := &folder{dir: filepath.Join(t.TempDir(), "queue"), fs: osFS{}, log: slog.New(slog.DiscardHandler), alarm: func() { alarms++ }}
	if _, err := f.open(); err != nil {
		t.Fatal(err)
	}
	return f, &alarms
}

func someState(t *testing.T, body string) *state {
	t.Helper()
	env := &record.Envelope{
		V: 1, ID: record.NewID(time.Now()), Received: record.Now(), Source: record.SourceSMTP, Mode: record.ModeQueue, MailFrom: &record.Path{Address: "a@b.test"},
		Rcpt: []record.Path{{Address: "<&>@d.test", ORCPT: "rfc822;x"}, {Address: "e@f.test"}}, Size: int64(len(body)), SHA256: record.Sum([]byte(body)),
	}
	text, err := json.Marshal(env)
	if err != nil {
		t.Fatal(err)
	}
	return newState(&record.Item{ID: env.ID, Envelope: env, EnvelopeJSON: text})
}

func opening(body string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
}

func TestFolderKeepsWhatItIsGiven(t *testing.T) {
	f, alarms := newFolder(t)
	s := someState(t, "hello\r\n")
	s.Recipients[1].Fate, s.Recipients[1].Text = delivered, "<ok> & so on"
	s.Owed = []json.RawMessage{json.RawMessage(`{"v":1,"text":"\u003cx\u003e"}`)}
	if _, err := f.take(s, opening("hello\r\n")); err != nil {
		t.Fatal(err)
	}
	ids, err := f.open()
	if err != nil || len(ids) != 1 || ids[0] != s.ID {
		t.Fatalf("%v, %v", ids, err)
	}
	back, err := f.load(s.ID)
	if err != nil {
		t.Fatal(err)
	}
	if string(back.Envelope) != string(s.Envelope) || string(back.Owed[0]) != string(s.Owed[0]) {
		t.Errorf("what is kept byte for byte came back as %s, %s", back.Envelope, back.Owed[0])
	}
	if back.Recipients[1] != s.Recipients[1] {
		t.Errorf("%+v", back.Recipients)
	}
	r, err := f.body(back.env)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "hello\r\n" {
		t.Errorf("%q, %v", text, err)
	}
	r.Close()
	if err := f.remove(s.ID); err != nil {
		t.Fatal(err)
	}
	if ids, err := f.open(); err != nil || len(ids) != 0 || *alarms != 0 {
		t.Errorf("%v, %v, %d alarms", ids, err, *alarms)
	}
}

// FORMAT.md says how a state is checked with common tools.
func TestStateIsCheckedByCommonTools(t *testing.T) {
	f, _ := newFolder(t)
	s := someState(t, "x\r\n")
	if _, err := f.take(s, opening("x\r\n")); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `head -n 1 "$1" | sha256sum | cut -c1-64; tail -n 1 "$1" | tr -d '"'`, "sh", f.file(s.ID, jsonSuffix)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if sums := strings.Fields(string(out)); len(sums) != 2 || sums[0] != sums[1] {
		t.Errorf("%q", sums)
	}
}

func TestDamageIsNoticed(t *testing.T) {
	f, _ := newFolder(t)
	s := someState(t, "hello\r\n")
	if _, err := f.take(s, opening("hello\r\n")); err != nil {
		t.Fatal(err)
	}
	path := f.file(s.ID, jsonSuffix)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := []byte(string(good))
		bad[i] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.load(s.ID); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
	for _, n := range []int{0, 1, len(good) / 2, len(good) - 1} {
		if err := os.WriteFile(path, good[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.load(s.ID); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	for _, body := range []string{"hellO\r\n", "hello\r", "hello\r\n.", ""} {
		if err := os.WriteFile(f.file(s.ID, emlSuffix), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := f.body(s.env)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, ErrDamaged) {
			t.Errorf("body %q: %v", body, err)
		}
		r.Close()
	}
	os.Remove(f.file(s.ID, emlSuffix))
	if _, err := f.body(s.env); !errors.Is(err, ErrDamaged) {
		t.Errorf("no body: %v", err)
	}
	if _, err := f.take(someState(t, "hello\r\n"), opening("other")); !errors.Is(err, ErrDamaged) {
		t.Errorf("another body is taken: %v", err)
	}
}

func TestWhatIsForeignIsSetAside(t *testing.T) {
	f, alarms := newFolder(t)
	id := record.NewID(time.Now()).String()
	for _, name := range []string{"README", "x.json", id + ".txt", id + ".eml.tmp", id + ".eml", strings.ToLower(id) + ".json"} {
		if err := os.WriteFile(f.path(name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := f.open(); err != nil || len(ids) != 0 {
		t.Fatalf("%v, %v", ids, err)
	}
	if *alarms != 4 {
		t.Errorf("%d alarms", *alarms)
	}
	left, _ := os.ReadDir(f.dir)
	aside, _ := os.ReadDir(f.path(asideDir))
	if len(left) != 1 || len(aside) != 4 {
		t.Errorf("left %v, set aside %v", left, aside)
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte("{}\n\"x\"\n"))
	f.Add([]byte(`{"v":1}` + "\n\"" + record.Sum([]byte("{\"v\":1}\n")).String() + "\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := parseState(text); err == nil && (s.env == nil || len(s.env.Rcpt) != len(s.Recipients)) {
			t.Error("a state that does not fit its envelope")
		}
	})
}
