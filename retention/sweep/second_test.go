package sweep_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/retention/sweep"
)

// A second copy in a bucket with versions loses every version of what tombstones name, and nothing else. What a lock keeps there is an error
// that names it, until it goes.
func TestSecondCopyInABucket(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	skey, vkey, err := ledger.GenerateKey(id)
	check(err)
	signer, err := note.NewSigner(skey)
	check(err)
	verifier, err := note.NewVerifier(vkey)
	check(err)
	own := &objecttest.Memory{}
	check(ledger.Create(t.Context(), own, signer, record.Init{Archive: id, Log: "node-n1", Key: vkey}, object.Lock{}, time.Now()))
	log, err := ledger.Open(t.Context(), ledger.Config{Store: own, Publisher: own, Log: "node-n1", Archive: id, Signer: signer, Verifier: verifier})
	check(err)
	bury := func(pack string) {
		t.Helper()
		_, err := log.Append(t.Context(), []record.Entry{{V: 1, Kind: record.KindDestroyed, Time: time.Now().UTC(), ID: record.NewID(time.Now()), By: "schedule",
			Gone: &record.Gone{Pack: pack, PackSHA256: record.Sum([]byte(pack)), First: 1, Last: 1, Destroyed: 1}}}, nil)
		check(err)
	}

	b := objecttest.StartLockedS3(t)
	to, err := object.Open(t.Context(), b.URL, object.Options{})
	check(err)
	put := func(key string, lock object.Lock) {
		t.Helper()
		_, err := to.Create(t.Context(), key, strings.NewReader(key), lock)
		check(err)
	}
	versions := func(key string) int {
		t.Helper()
		list, err := to.Versions(t.Context(), key)
		check(err)
		return len(list)
	}
	until := time.Now().Add(3 * time.Second)
	put("packs/a", object.Lock{})
	put("packs/b", object.Lock{})
	put("packs/kept", object.Lock{})
	put("packs/locked", object.Lock{Mode: object.LockGovernance, Until: until})
	mend, err := object.OpenMender(t.Context(), b.URL, object.Options{})
	check(err)
	check(mend.Mend(t.Context(), "packs/b", bytes.NewReader([]byte("mended")), record.Sum([]byte("mended")), object.Lock{}))
	if n := versions("packs/b"); n != 2 {
		t.Fatalf("%d versions of what was mended", n)
	}

	reader, err := ledger.NewReader(ledger.Config{Store: own, Log: "node-n1", Archive: id, Verifier: verifier})
	check(err)
	r := sweep.SecondCopy(sweep.SecondCopyOptions{URL: b.URL, Graves: []*ledger.Graves{ledger.NewGraves(reader)}, Exclude: func(f func() error) error { return f() }})
	check(r.Remove(t.Context(), nil)) // nothing was destroyed
	bury("packs/a")
	bury("packs/b")
	check(r.Remove(t.Context(), nil))
	if a, b, kept := versions("packs/a"), versions("packs/b"), versions("packs/kept"); a+b > 0 || kept != 1 {
		t.Errorf("%d, %d and %d versions are left", a, b, kept)
	}
	bury("packs/locked")
	if err := r.Remove(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "packs/locked") {
		t.Errorf("what is locked: %v", err)
	}
	for range 100 { // until the lock is over, by the store's clock
		if err = r.Remove(t.Context(), nil); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if n := versions("packs/locked"); err != nil || n > 0 {
		t.Errorf("after the lock: %v, %d versions", err, n)
	}
	check(log.Close(t.Context()))
}
