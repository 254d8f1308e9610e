package bundle_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/bundle"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// custody gives out what it was made with, once.
type custody struct {
	mu       sync.Mutex
	items    []*record.Item
	next     int
	released int
}

func (c *custody) TryNext(context.Context) (*record.Item, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == len(c.items) {
		return nil, nil
	}
	c.next++
	return c.items[c.next-1], nil
}

func (c *custody) Next(ctx context.Context) (*record.Item, error) {
	if it, _ := c.TryNext(ctx); it != nil {
		return it, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (c *custody) Release(_ context.Context, items []*record.Item) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.released += len(items)
	return nil
}

func (c *custody) Waiting() (runs [][2]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := uint64(len(c.items)); c.released < len(c.items) {
		return [][2]uint64{{1, n}}
	}
	return nil
}

func (c *custody) Newest() uint64                                        { return uint64(len(c.items)) }
func (c *custody) Find(context.Context, record.ID) (*record.Item, error) { return nil, nil }

// open makes an archive in which these messages are, in their order.
func open(t testing.TB, bodies ...string) (*archive.Archive, *archive.Keys, []*record.Item) {
	t.Helper()
	store, dir := new(objecttest.Memory), t.TempDir()
	cfg := archive.Config{Node: "n1", Config: object.Config{Store: "file:/nowhere"}, SealAfter: time.Minute, SealSize: 16 << 20}
	_, keys, err := archive.Create(t.Context(), archive.InitOptions{Config: cfg, Store: store, KeysDir: filepath.Join(dir, "keys"), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	c := &custody{}
	for i, body := range bodies {
		c.items = append(c.items, item(uint64(i+1), []byte(body)))
	}
	for range 2 { // written, and opened again
		a, err := archive.Open(t.Context(), archive.Options{Config: cfg, Store: store, Keys: keys, DataDir: filepath.Join(dir, "data"), Now: time.Now,
			Log: slog.New(slog.DiscardHandler), Expiry: func(*record.Item) time.Time { return time.Time{} }})
		if err != nil {
			t.Fatal(err)
		}
		if c.next > 0 {
			t.Cleanup(func() { a.Close(context.Background()) })
			return a, keys, c.items
		}
		drain := make(chan struct{})
		close(drain)
		if err := errors.Join(a.Run(t.Context(), c, drain), a.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
		if len(bodies) == 0 {
			c.next = 1
		}
	}
	panic("not reached")
}

func item(seq uint64, body []byte) *record.Item {
	env := &record.Envelope{V: 1, ID: record.NewID(time.Now()), Nonce: record.NewNonce(), Received: time.Date(2026, 3, 14, 9, 0, int(seq%60), 0, time.UTC),
		Node: "n1", Source: record.SourceSMTP, Completeness: record.Full, Size: int64(len(body)), SHA256: record.Sum(body),
		MailFrom: &record.Path{Address: "ada@acme.example"}, Rcpt: []record.Path{{Address: "bob@dest.example"}, {Address: "secret@dest.example"}}}
	text, err := json.Marshal(env)
	if err != nil {
		panic(err)
	}
	sup := record.Supplement{V: 1, ID: env.ID, Name: "delivery-1", Nonce: record.NewNonce(), Delivery: &record.Delivery{Outcome: record.Delivered, NextHop: "mx:25", Attempts: 1}}
	supText, err := json.Marshal(sup)
	if err != nil {
		panic(err)
	}
	return &record.Item{Kind: record.KindMessage, ID: env.ID, Seq: seq, Envelope: env, EnvelopeJSON: text,
		Supplements: []record.SupplementDoc{{Supplement: sup, JSON: supText}},
		Body:        func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }}
}

// mail is a message with an attachment.
func mail(n int, name string) string {
	return strings.ReplaceAll(fmt.Sprintf(`Message-ID: <m%d@acme.example>
Date: Sat, 14 Mar 2026 09:12:03 +0100
From: Ada <ada@acme.example>
To: Bob <bob@dest.example>
Subject: Letter %d, =?utf-8?q?th=C3=BEorn_and_=C2=AE?=
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=utf-8

From here on it is quoted in an mbox.
>From here too.
--b
Content-Type: text/csv; charset=utf-8
Content-Disposition: attachment; filename="%s"
Content-Transfer-Encoding: base64

YSxiCjEsMgo=
--b--
`, n, n, name), "\n", "\r\n")
}

// export exports all there is into a new folder.
func export(t testing.TB, a *archive.Archive, place string, r bundle.Request, o bundle.Options) *bundle.Result {
	t.Helper()
	j := begin(t, a, place, r)
	defer j.Close()
	o.Archive = a
	res, err := j.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Deliver(); err != nil {
		t.Fatal(err)
	}
	return res
}

func begin(t testing.TB, a *archive.Archive, place string, r bundle.Request) *bundle.Job {
	t.Helper()
	if r.Numbering == (bundle.Numbering{}) {
		r.Numbering = bundle.DefaultNumbering
	}
	j, err := bundle.Begin(place, r)
	if err != nil {
		t.Fatal(err)
	}
	sel := selection(t, a)
	if err := j.Start(r, sel, "test", []byte(`{"kind":"export"}`)); err != nil {
		t.Fatal(err)
	}
	return j
}

// selection is every message of the archive.
func selection(t testing.TB, a *archive.Archive) bundle.Selection {
	t.Helper()
	snap, err := a.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sel := bundle.Selection{Log: snap.Checkpoint.Log, Commit: snap.Checkpoint.Commit, Numbers: roaring64.New()}
	for r, err := range a.Replay(t.Context(), sel.Log, 0, func(*record.Entry) bool { return false }) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Entry.Kind == record.KindMessage {
			sel.Numbers.Add(r.N)
		}
	}
	return sel
}

func verify(t testing.TB, place, key string) *bundle.Report {
	t.Helper()
	r, err := bundle.Verify(t.Context(), os.DirFS(place), bundle.VerifyOptions{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func names(list []bundle.Finding) (out []string) {
	for _, f := range list {
		out = append(out, f.File)
	}
	return out
}

var hostile = []string{"../../../etc/passwd", `..\..\boot.ini`, "a\u202etxt.exe", "CON", "x.csv;rm -rf", "=cmd()", strings.Repeat("n", 300) + ".csv", "\u00fe\u00ae.csv", ""}

func TestBundleIsReadBackByOtherTools(t *testing.T) {
	var bodies []string
	for i, name := range hostile {
		bodies = append(bodies, mail(i, name))
	}
	bodies = append(bodies, "From nobody\r\n\r\nno end of line", "", "Subject: bare\n\nFrom x\n>>From y\n", "Subject: big\r\n\r\n"+strings.Repeat("From the start of each line.\r\n", 200_000))
	a, keys, items := open(t, bodies...)
	place := filepath.Join(t.TempDir(), "bundle")
	res := export(t, a, place, bundle.Request{Custodian: []bundle.Person{{Name: "Bob", Addresses: []string{"BOB@dest.example"}}}}, bundle.Options{})
	if res.Counts.Produced != int64(len(bodies)) || res.Counts.Unreadable != 0 || res.First != "HF00000001" {
		t.Fatalf("%+v", res)
	}
	r := verify(t, place, keys.Verifier)
	if !r.OK || !r.Trusted || r.Messages != int64(len(bodies)) || r.Proofs != int64(len(bodies)) {
		t.Fatalf("%+v", r)
	}
	for _, list := range []string{"manifest-sha256.txt", "tagmanifest-sha256.txt"} {
		cmd := exec.Command("sha256sum", "-c", "--strict", "--quiet", list)
		cmd.Dir = place
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("sha256sum -c %s: %v\n%s", list, err, out)
		}
	}
	want := make([]string, len(items))
	for i, it := range items {
		want[i] = it.Envelope.SHA256.String()
	}
	// Python reads the bag, the load file, the table and the mbox, each with its own standard library.
	cmd := exec.Command("python3", "testdata/readback.py", place)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("readback.py: %v\n%s", err, out)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, want) {
		t.Errorf("readback.py has other messages:\n%s\nwant\n%s", got, want)
	}
}

// Each byte of each small file, flipped, is found, and the file is named; of large files the first, the last and some others.
func TestVerifyFindsEachByte(t *testing.T) {
	a, keys, _ := open(t, mail(1, "a.csv"), "Subject: x\r\n\r\nsmall\r\n")
	place := filepath.Join(t.TempDir(), "bundle")
	export(t, a, place, bundle.Request{}, bundle.Options{})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	most := 2000
	if testing.Short() {
		most = 60
	}
	err := filepath.WalkDir(place, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ := filepath.Rel(place, path)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var places []int
		if len(text) <= most {
			for i := range text {
				places = append(places, i)
			}
		} else if len(text) > 0 {
			places = append(places, 0, len(text)-1)
			for range 20 {
				places = append(places, rng.IntN(len(text)))
			}
		}
		for _, i := range places {
			bad := bytes.Clone(text)
			bad[i] ^= 1 << rng.IntN(8)
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				return err
			}
			r := verify(t, place, keys.Verifier)
			if r.OK || !slices.Contains(names(r.Altered), name) {
				t.Errorf("%s, byte %d: %+v", name, i, r)
			}
		}
		return os.WriteFile(path, text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := verify(t, place, keys.Verifier); !r.OK {
		t.Errorf("put back: %+v", r)
	}
}

func TestVerifyNamesMissingAndAdded(t *testing.T) {
	a, keys, _ := open(t, mail(1, "a.csv"), "Subject: x\r\n\r\nsmall\r\n")
	place := filepath.Join(t.TempDir(), "bundle")
	export(t, a, place, bundle.Request{}, bundle.Options{})
	var files []string
	if err := fs.WalkDir(os.DirFS(place), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		path := filepath.Join(place, name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, place, keys.Verifier); r.OK || !slices.Contains(names(r.Missing), name) {
			t.Errorf("%s is gone: %+v", name, r)
		}
		if err := os.WriteFile(path, text[:len(text)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, place, keys.Verifier); len(text) > 0 && (r.OK || !slices.Contains(names(r.Altered), name)) {
			t.Errorf("%s is cut short: %+v", name, r)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"more.txt", "data/native/0000/HF00000009.eml"} {
		path := filepath.Join(place, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, place, keys.Verifier); r.OK || !slices.Equal(names(r.Added), []string{name}) {
			t.Errorf("%s was added: %+v", name, r)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("bagit.txt", filepath.Join(place, "link")); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, place, keys.Verifier); r.OK || !slices.Contains(names(r.Altered), "link") {
		t.Errorf("a link: %+v", r)
	}
	if err := os.Remove(filepath.Join(place, "link")); err != nil {
		t.Fatal(err)
	}
	_, other, _ := open(t)
	if r := verify(t, place, other.Verifier); r.OK || !slices.Contains(names(r.Altered), "bundle.note") {
		t.Errorf("another archive's key: %+v", r)
	}
	if _, err := bundle.Verify(t.Context(), os.DirFS(place), bundle.VerifyOptions{Key: "nonsense"}); err == nil {
		t.Error("nonsense was taken for a key")
	}
	if r := verify(t, place, ""); !r.OK || r.Trusted {
		t.Errorf("without a key: %+v", r)
	}
	// Whoever writes message and lists anew can't sign them.
	forged := filepath.Join(place, "data/native/0000/HF00000001.eml")
	if err := os.WriteFile(forged, []byte("forged"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := record.Sum([]byte("forged")).String()
	list := filepath.Join(place, "manifest-sha256.txt")
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, append([]byte(sum), text[64:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	r := verify(t, place, keys.Verifier)
	if r.OK || !slices.Contains(names(r.Altered), "data/native/0000/HF00000001.eml") || !slices.Contains(names(r.Altered), "manifest-sha256.txt") {
		t.Errorf("forged: %+v", r)
	}
}

type review map[record.ID]string

func (r review) Withhold(id record.ID) (string, bool) { g, ok := r[id]; return g, ok }

func TestDuplicatesAreFoldedAndPrivilegedMailIsWithheld(t *testing.T) {
	same := mail(1, "a.csv")
	a, keys, items := open(t, same, same, "Subject: the privileged one\r\nFrom: counsel@law.example\r\n\r\nadvice zanzibar\r\n", same)
	place := filepath.Join(t.TempDir(), "bundle")
	res := export(t, a, place, bundle.Request{Fold: true}, bundle.Options{Review: review{items[2].ID: "attorney and client"}})
	if c := res.Counts; c.Produced != 1 || c.Duplicates != 2 || c.Withheld != 1 || c.Documents != 3 || res.Last != "HF00000003" {
		t.Fatalf("%+v", res)
	}
	if r := verify(t, place, keys.Verifier); !r.OK || r.Messages != 3 || r.Proofs != 4 {
		t.Fatalf("%+v", r)
	}
	if err := filepath.WalkDir(place, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, word := range []string{"zanzibar", "privileged one"} {
			if bytes.Contains(text, []byte(word)) {
				t.Errorf("%s has %q of what is withheld", path, word)
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(place, "data/privilege-log.csv"))
	if err != nil || !strings.Contains(string(log), "counsel@law.example") || !strings.Contains(string(log), "attorney and client") {
		t.Errorf("privilege log: %v\n%s", err, log)
	}
	if res := export(t, a, place+"2", bundle.Request{}, bundle.Options{}); res.Counts.Produced != 4 || res.Counts.Duplicates != 0 {
		t.Errorf("kept: %+v", res)
	}
}

// An export that is stopped after each message goes on where it was, and gives the same bytes as one that was not, but for what is dated.
func TestCutOffAndAgain(t *testing.T) {
	t.Run("from the beginning", testCutOff)
	t.Run("from points of progress", func(t *testing.T) {
		defer bundle.PointOften()()
		testCutOff(t)
	})
}

func testCutOff(t *testing.T) {
	var bodies []string
	for i := range 12 {
		bodies = append(bodies, mail(i%9, "a.csv"))
	}
	a, keys, _ := open(t, bodies...)
	dir := t.TempDir()
	export(t, a, filepath.Join(dir, "whole"), bundle.Request{Fold: true}, bundle.Options{})
	place := filepath.Join(dir, "cut")
	for stop := int64(1); ; stop++ {
		j := begin(t, a, place, bundle.Request{Fold: true})
		ctx, cancel := context.WithCancel(t.Context())
		_, err := j.Run(ctx, bundle.Options{Archive: a, Progress: func(done, _, _ int64) {
			if done == stop {
				cancel()
			}
		}})
		cancel()
		if stop <= int64(len(bodies)) && err == nil && stop < 12 {
			t.Fatalf("stopped after %d: no error", stop)
		}
		if _, there := os.Stat(place); there == nil {
			t.Fatal("there is a bundle under the name of a whole one")
		}
		if err == nil {
			if err := errors.Join(j.Deliver(), j.Close()); err != nil {
				t.Fatal(err)
			}
			break
		}
		if _, err := bundle.Begin(place, bundle.Request{Numbering: bundle.DefaultNumbering, Fold: true}); !errors.Is(err, bundle.ErrOther) {
			t.Fatalf("two at a time: %v", err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.Begin(place, bundle.Request{Numbering: bundle.DefaultNumbering}); !errors.Is(err, bundle.ErrOther) {
			t.Fatalf("something else was gone on with: %v", err)
		}
	}
	if _, err := bundle.Begin(place, bundle.Request{Numbering: bundle.DefaultNumbering}); !errors.Is(err, bundle.ErrExists) {
		t.Fatalf("over a bundle: %v", err)
	}
	if r := verify(t, place, keys.Verifier); !r.OK {
		t.Fatalf("%+v", r)
	}
	if _, err := os.Stat(place + ".part"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what the job left: %v", err)
	}
	for _, name := range []string{"manifest-sha256.txt", "README.txt", "certificate-902.txt"} {
		x, err1 := os.ReadFile(filepath.Join(dir, "whole", name))
		y, err2 := os.ReadFile(filepath.Join(place, name))
		if err1 != nil || err2 != nil || !bytes.Equal(x, y) {
			t.Errorf("%s differs", name)
		}
	}
}

func TestNumbering(t *testing.T) {
	for _, bad := range []string{"", "HF", "../1", "a b1", "é1", "HF1x", strings.Repeat("9", 16)} {
		if n, err := bundle.ParseNumbering(bad); !errors.Is(err, bundle.ErrRequest) {
			t.Errorf("%q: %+v, %v", bad, n, err)
		}
	}
	if n, err := bundle.ParseNumbering("ACME-000042"); err != nil || n != (bundle.Numbering{Prefix: "ACME-", Start: 42, Width: 6}) {
		t.Errorf("%+v, %v", n, err)
	}
}
