package object_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
)

// behindProxy is a store in a real server, and the proxy on the way to it. It waits half a second where others wait a minute.
func behindProxy(t *testing.T) (object.Keeper, *objecttest.Proxy, objecttest.Bucket) {
	t.Helper()
	b := objecttest.StartS3(t)
	p := objecttest.StartProxy(t, b.Endpoint)
	s, err := object.Open(t.Context(), b.URLAt(p.URL), object.Impatient(object.Options{}, 500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	return s, p, b
}

// strike lets a fault happen to the first n requests of a method; n < 0: to all.
func strike(method string, n int64, f objecttest.ProxyFault) func(*http.Request) objecttest.ProxyFault {
	var seen atomic.Int64
	return func(r *http.Request) objecttest.ProxyFault {
		if r.Method == method && (n < 0 || seen.Add(1) <= n) {
			return f
		}
		return objecttest.NoFault
	}
}

func create(s object.Store, key, body string) error {
	_, err := s.Create(context.Background(), key, strings.NewReader(body), object.Lock{})
	return err
}

// The answer to a PUT is lost, once or each time: what is there decides.
func TestS3LostAnswer(t *testing.T) {
	s, proxy, _ := behindProxy(t)
	for i, fault := range []objecttest.ProxyFault{objecttest.LoseAnswer, objecttest.LoseAnswer5} {
		for _, times := range []int64{1, 2, -1} {
			key := fmt.Sprintf("ledger/x/commit/%d-%d", i, times)
			proxy.SetFault(strike(http.MethodPut, times, fault))
			info, err := s.Create(t.Context(), key, strings.NewReader("mine"), object.Lock{})
			if err != nil || info.Size != 4 || info.Key != key {
				t.Errorf("fault %d, %d times: %+v, %v", fault, times, info, err)
			}
			if err := create(s, key, "other"); !errors.Is(err, object.ErrConflict) {
				t.Errorf("fault %d, %d times, other bytes: %v, want ErrConflict", fault, times, err)
			}
			proxy.SetFault(nil)
			if got := readAll(t, s, key); got != "mine" {
				t.Errorf("fault %d, %d times: object has %q", fault, times, got)
			}
			if vs, err := s.Versions(t.Context(), key); err != nil || len(vs) != 1 {
				t.Errorf("fault %d, %d times: %d versions, %v", fault, times, len(vs), err)
			}
		}
	}
}

// Neither the PUT's answer nor that of the look afterwards arrives: no answer is made up, and later the same call succeeds.
func TestS3LostEverything(t *testing.T) {
	s, proxy, _ := behindProxy(t)
	proxy.SetFault(func(*http.Request) objecttest.ProxyFault { return objecttest.LoseAnswer })
	if err := create(s, "key", "mine"); err == nil || errors.Is(err, object.ErrConflict) || errors.Is(err, object.ErrNotFound) {
		t.Errorf("Create: %v, want an error that leaves it open", err)
	}
	proxy.SetFault(nil)
	if err := create(s, "key", "mine"); err != nil {
		t.Errorf("again: %v", err)
	}
}

// The store says that an object is there, and can't be asked which: it may be ours, so that this is no conflict.
func TestS3ConflictUnknown(t *testing.T) {
	s, proxy, _ := behindProxy(t)
	if err := create(s, "key", "mine"); err != nil {
		t.Fatal(err)
	}
	proxy.SetFault(strike(http.MethodHead, -1, objecttest.Unavailable))
	if err := create(s, "key", "mine"); err == nil || errors.Is(err, object.ErrConflict) {
		t.Errorf("Create: %v, want an error that leaves it open", err)
	}
}

func TestS3NothingArrives(t *testing.T) {
	s, proxy, _ := behindProxy(t)
	for _, fault := range []objecttest.ProxyFault{objecttest.Unreachable, objecttest.Unavailable, objecttest.StallHeader} {
		key := fmt.Sprint("key-", fault)
		proxy.SetFault(strike(http.MethodPut, -1, fault))
		if err := create(s, key, "mine"); err == nil || errors.Is(err, object.ErrConflict) || !strings.Contains(err.Error(), key) {
			t.Errorf("fault %d: %v, want an error that leaves it open and names the key", fault, err)
		}
		proxy.SetFault(strike(http.MethodPut, 1, fault))
		if err := create(s, key, "mine"); err != nil {
			t.Errorf("fault %d once: %v", fault, err)
		}
	}
}

// A body that breaks off is read on from there; one that never goes on is an error, and no hang.
func TestS3BrokenBody(t *testing.T) {
	s, proxy, _ := behindProxy(t)
	body := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(body)
	if err := create(s, "key", string(body)); err != nil {
		t.Fatal(err)
	}
	for _, fault := range []objecttest.ProxyFault{objecttest.CutBody, objecttest.StallBody} {
		for _, r := range [][2]int64{{0, -1}, {1 << 20, -1}, {1, 2 << 20}} {
			proxy.SetFault(strike(http.MethodGet, 2, fault))
			reader, err := s.Open(t.Context(), "key", r[0], r[1])
			if err != nil {
				t.Fatal(err)
			}
			want := body[r[0]:]
			if r[1] >= 0 {
				want = want[:r[1]]
			}
			got, err := io.ReadAll(reader)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("fault %d, range %v: %d bytes, %v; want %d", fault, r, len(got), err, len(want))
			}
			reader.Close()
		}
	}
	proxy.SetFault(strike(http.MethodGet, -1, objecttest.CutBody)) // down to the last byte, of which half is nothing
	reader, err := s.Open(t.Context(), "key", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	got, err := io.ReadAll(reader)
	if err == nil || len(got) != len(body)-1 || !bytes.Equal(got, body[:len(got)]) {
		t.Errorf("cut each time: %d bytes, %v; want an error before the last byte", len(got), err)
	}
}

func TestS3ContextBoundsRetries(t *testing.T) {
	s, proxy, _ := behindProxy(t)
	for _, fault := range []objecttest.ProxyFault{objecttest.StallHeader, objecttest.Unavailable} {
		proxy.SetFault(func(*http.Request) objecttest.ProxyFault { return fault })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := s.Create(ctx, "key", strings.NewReader("x"), object.Lock{})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("fault %d: %v, want context.DeadlineExceeded", fault, err)
		}
		cancel()
	}
}

// What others do to a bucket with versions: overwrite, hide.
func TestS3Versions(t *testing.T) {
	b := objecttest.StartLockedS3(t)
	s := open(t, b.URL)
	name := "some/prefix/dir/key"
	if err := create(s, "dir/key", "true"); err != nil {
		t.Fatal(err)
	}
	put := &s3.PutObjectInput{Bucket: &b.Name, Key: &name, Body: strings.NewReader("false!")}
	if _, err := b.Client.PutObject(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, s, "dir/key"); got != "false!" {
		t.Errorf("newest version: %q", got)
	}
	if err := create(s, "dir/key", "true"); !errors.Is(err, object.ErrConflict) {
		t.Errorf("Create over a version of other bytes: %v, want ErrConflict", err)
	}
	if _, err := b.Client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &b.Name, Key: &name}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "dir/key"); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("Stat under a delete marker: %v, want ErrNotFound", err)
	}
	vs, err := s.Versions(t.Context(), "dir/key")
	if err != nil || len(vs) != 3 || !vs[0].Marker || vs[1].Size != 6 || vs[2].Size != 4 {
		t.Fatalf("Versions: %+v, %v; want a marker, the false one, the true one", vs, err)
	}
	r, err := s.OpenVersion(t.Context(), "dir/key", vs[2].Version, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != "ru" {
		t.Errorf("part of the true version: %q, %v", got, err)
	}
}

// Many versions of one key take several pages, and the server repeats the last of one as the first of the next.
func TestS3ManyVersions(t *testing.T) {
	s := open(t, objecttest.StartLockedS3(t).URL)
	const many = 1005
	for i := range many {
		if err := s.Replace(t.Context(), "state/x", []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	vs, err := s.Versions(t.Context(), "state/x")
	seen := map[string]bool{}
	for _, v := range vs {
		seen[v.Version] = true
	}
	if err != nil || len(vs) != many || len(seen) != many {
		t.Errorf("%d versions, %d of them different, %v; want %d", len(vs), len(seen), err, many)
	}
}

func TestS3Dispose(t *testing.T) {
	b := objecttest.StartLockedS3(t)
	s := open(t, b.URL)
	d, err := object.OpenDisposer(t.Context(), b.URL, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for range 3 {
		if err := s.Replace(ctx, "state/x", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	locked := object.Lock{Mode: object.LockGovernance, Until: time.Now().Add(time.Hour)}
	for key, lock := range map[string]object.Lock{"packs/locked": locked, "packs/held": {Hold: true}, "packs/free": {}} {
		if _, err := s.Create(ctx, key, strings.NewReader("x"), lock); err != nil {
			t.Fatal(err)
		}
	}
	for key, want := range map[string]string{"packs/locked": "governance", "packs/held": "legal hold"} {
		if err := d.DeleteAll(ctx, key); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), key) {
			t.Errorf("DeleteAll(%s): %v, want an error that names it and %q", key, err, want)
		}
		if got := readAll(t, s, key); got != "x" {
			t.Errorf("%s has %q", key, got)
		}
	}
	if err := d.Unhold(ctx, "packs/held"); err != nil {
		t.Errorf("Unhold: %v", err)
	}
	for _, key := range []string{"packs/held", "packs/free", "packs/free", "state/x", "packs/never/was"} {
		if err := d.DeleteAll(ctx, key); err != nil {
			t.Errorf("DeleteAll(%s): %v", key, err)
		}
		if vs, err := s.Versions(ctx, key); err != nil || len(vs) != 0 {
			t.Errorf("%s: %d versions left, %v", key, len(vs), err)
		}
	}
	if _, ok := any(s).(object.Disposer); ok {
		t.Error("a store is a disposer")
	}
}

// What is hidden behind a delete marker, or under another version, is as locked as before, also where the server does not say so unasked.
func TestS3DisposeHidden(t *testing.T) {
	t.Parallel()
	b := objecttest.StartLockedS3(t)
	s := open(t, b.URL)
	d, err := object.OpenDisposer(t.Context(), b.URL, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	over := time.Now().Add(1100 * time.Millisecond)
	held := object.Lock{Mode: object.LockGovernance, Until: over, Hold: true} // the server forgets the hold when this is over
	for _, key := range []string{"packs/hidden", "packs/written-over"} {
		if _, err := s.Create(ctx, key, strings.NewReader("true"), held); err != nil {
			t.Fatal(err)
		}
	}
	name := "some/prefix/packs/hidden"
	if _, err := b.Client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.Name, Key: &name}); err != nil {
		t.Fatal(err)
	}
	name = "some/prefix/packs/written-over"
	if _, err := b.Client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.Name, Key: &name, Body: strings.NewReader("false")}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(over) + time.Second)
	for _, key := range []string{"packs/hidden", "packs/written-over"} {
		if err := d.DeleteAll(ctx, key); err == nil || !strings.Contains(err.Error(), "legal hold") {
			t.Errorf("DeleteAll(%s): %v, want an error that names the legal hold", key, err)
		}
		if got := readAll(t, s, key); got != "true" { // what lay above is gone
			t.Errorf("%s has %q", key, got)
		}
		if err := errors.Join(d.Unhold(ctx, key), d.DeleteAll(ctx, key)); err != nil {
			t.Error(err)
		}
	}
}

func TestS3NoStore(t *testing.T) {
	b := objecttest.StartS3(t)
	url := strings.Replace(b.URL, b.Name, "absent-bucket", 1)
	for name, open := range map[string]func(context.Context, string, object.Options) (object.Keeper, error){"Open": object.Open, "Make": object.Make} {
		if _, err := open(t.Context(), url, object.Options{}); !errors.Is(err, object.ErrNoStore) || !strings.Contains(err.Error(), "absent-bucket") {
			t.Errorf("%s: %v, want ErrNoStore that names the bucket", name, err)
		}
	}
	if _, err := object.OpenDisposer(t.Context(), url, object.Options{}); !errors.Is(err, object.ErrNoStore) {
		t.Errorf("OpenDisposer: %v, want ErrNoStore", err)
	}
}

// A bucket that goes away under an open store is not an empty one.
func TestS3BucketGone(t *testing.T) {
	b := objecttest.StartS3(t)
	s := open(t, b.URL)
	if _, err := b.Client.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: &b.Name}); err != nil {
		t.Fatal(err)
	}
	var list error
	for _, list = range s.List(t.Context(), "", "") {
	}
	_, open := s.Open(t.Context(), "key", 0, -1)
	for name, err := range map[string]error{"List": list, "Open": open, "Create": create(s, "key", "x")} {
		if !errors.Is(err, object.ErrNoStore) {
			t.Errorf("%s: %v, want ErrNoStore", name, err)
		}
	}
}

// fakeList answers every request with a list of objects in the order given, page by page.
func fakeList(t *testing.T, pages ...[]string) object.Keeper {
	t.Helper()
	objecttest.StartS3(t) // for the credentials
	type contents struct {
		Key  string
		Size int
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var page int
		fmt.Sscan(r.URL.Query().Get("continuation-token"), &page)
		answer := struct {
			XMLName               xml.Name `xml:"ListBucketResult"`
			IsTruncated           bool
			NextContinuationToken string
			Contents              []contents
		}{IsTruncated: page+1 < len(pages), NextContinuationToken: fmt.Sprint(page + 1)}
		for _, k := range pages[page] {
			answer.Contents = append(answer.Contents, contents{k, 1})
		}
		w.Header().Set("Content-Type", "application/xml")
		xml.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return open(t, "s3://bucket?path_style=true&region=r&endpoint="+server.URL)
}

func TestS3ListDistrusts(t *testing.T) {
	for name, c := range map[string]struct {
		pages [][]string
		want  string
		err   bool
	}{
		"in order":                {[][]string{{"a", "b"}, {"c"}}, "a b c", false},
		"boundary repeated":       {[][]string{{"a", "b"}, {"b", "c"}}, "a b c", false},
		"names that no key has":   {[][]string{{"a", "a//b", "b/", "c"}}, "a c", false},
		"out of order":            {[][]string{{"a", "c", "b"}}, "a c", true},
		"out of order over pages": {[][]string{{"a", "c"}, {"b"}}, "a c", true},
	} {
		var got []string
		var last error
		for info, err := range fakeList(t, c.pages...).List(t.Context(), "", "") {
			if last = err; err == nil {
				got = append(got, info.Key)
			}
		}
		if strings.Join(got, " ") != c.want || (last != nil) != c.err {
			t.Errorf("%s: %q, %v", name, got, last)
		}
	}
}

func readAll(t *testing.T, s object.Store, key string) string {
	t.Helper()
	r, err := s.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
