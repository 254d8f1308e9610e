package archive_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// lockedArchive archives some messages in a store with Object Lock, the second of which is held.
func lockedArchive(t *testing.T, store object.Keeper, log *slog.Logger, reg prometheus.Registerer) (*archive.Archive, *archive.Keys, []record.ID) {
	t.Helper()
	cfg, dir := config(), t.TempDir()
	cfg.ObjectLock = "compliance"
	_, keys, err := archive.Create(t.Context(), archive.InitOptions{Config: cfg, Store: store, KeysDir: filepath.Join(dir, "keys"), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(t.Context(), archive.Options{Config: cfg, Store: store, Keys: keys, DataDir: filepath.Join(dir, "data"), Now: time.Now, Log: log, Registry: reg,
		Expiry: func(it *record.Item) time.Time {
			if it.Seq == 3 {
				return time.Time{}
			}
			return it.ID.Time().AddDate(int(it.Seq), 0, 0)
		},
		Held: func(it *record.Item) bool { return it.Seq == 2 }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(context.Background()) })
	c := newCustody(t)
	var ids []record.ID
	for seq := range uint64(3) {
		m := message(seq+1, bytes.Repeat([]byte("x"), 100))
		c.put(m)
		ids = append(ids, m.ID)
	}
	drain := make(chan struct{})
	close(drain)
	if err := a.Run(t.Context(), c, drain); err != nil {
		t.Fatal(err)
	}
	return a, keys, ids
}

// What is archived in a real bucket with Object Lock can be destroyed neither by this program nor with its credentials, whatever is tried.
func TestLockedPack(t *testing.T) {
	t.Parallel()
	b := objecttest.StartLockedS3(t)
	store, err := object.Open(t.Context(), b.URL, object.Options{Lock: object.LockCompliance})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	var log bytes.Buffer
	a, keys, ids := lockedArchive(t, store, slog.New(slog.NewTextHandler(&log, nil)), reg)
	disposer, err := object.OpenDisposer(t.Context(), b.URL, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	packs, commits := 0, 0
	for info, err := range store.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		pack := strings.HasPrefix(info.Key, "packs/")
		if !pack && !strings.Contains(info.Key, "/commit/") {
			continue // derived
		}
		stat, err := store.Stat(t.Context(), info.Key)
		if err != nil || stat.Lock.Mode != object.LockCompliance {
			t.Fatalf("%s: %+v, %v", info.Key, stat, err)
		}
		left := time.Until(stat.Lock.Until) / (24 * time.Hour)
		want := 3652 // as acts
		if pack {
			packs++
			want = map[int]int{0: 365, 1: 2 * 365, 2: 366}[packs-1] // never is the last, and is locked for a year at first
			if strings.HasPrefix(info.Key, "packs/never/") != (packs == 3) || stat.Lock.Hold != (packs == 2) {
				t.Errorf("%s: %+v", info.Key, stat.Lock)
			}
		} else {
			commits++
		}
		if int(left) < want-2 || int(left) > want+2 {
			t.Errorf("%s is locked for %d days, want %d", info.Key, left, want)
		}
		if err := disposer.DeleteAll(t.Context(), info.Key); err == nil || !strings.Contains(err.Error(), info.Key) {
			t.Errorf("DeleteAll(%s): %v", info.Key, err)
		}
		if pack {
			tryToDestroy(t, b, info.Key, stat.Version)
		}
	}
	if packs != 3 || commits == 0 {
		t.Fatalf("%d packs, %d commits", packs, commits)
	}
	for _, id := range ids { // each was written over and hidden
		if _, err := a.Fetch(t.Context(), id); err != nil {
			t.Errorf("%s can't be read: %v", id, err)
		}
	}
	verify := func() *archive.Report {
		r, err := archive.Verify(t.Context(), archive.VerifyOptions{Store: store, Keys: keys, Full: true})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := verify(); r.OK || len(r.Missing) != 3 {
		t.Errorf("verify of hidden packs: %+v", r)
	}
	f, err := a.LookForForeign(t.Context())
	if err != nil || f != (archive.Foreign{Markers: 3, Versions: 3}) {
		t.Errorf("LookForForeign: %+v, %v; want 3 of each", f, err)
	}
	if n := testutil.CollectAndCount(reg, "holdfast_object_delete_markers"); n != 1 || strings.Count(log.String(), "hidden by a delete marker") != 3 {
		t.Errorf("%d gauges, log:\n%s", n, &log)
	}
	// Who may delete takes away what lies above, and all is as it was.
	for info, err := range store.ListVersions(t.Context(), "packs/") {
		if err == nil && info.Marker {
			err = disposer.DeleteAll(t.Context(), info.Key)
		}
		if err != nil && !strings.Contains(err.Error(), "locked (compliance)") && !strings.Contains(err.Error(), "under legal hold") {
			t.Error(err)
		}
	}
	if r := verify(); !r.OK {
		t.Errorf("verify: %+v", r)
	}
}

// tryToDestroy does with the credentials of the archive all that S3 has for it, and leaves the pack written over and hidden.
func tryToDestroy(t *testing.T, b objecttest.Bucket, key, version string) {
	t.Helper()
	name, yes := "some/prefix/"+key, true
	ctx := t.Context()
	_, del := b.Client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.Name, Key: &name, VersionId: &version})
	_, bypass := b.Client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.Name, Key: &name, VersionId: &version, BypassGovernanceRetention: &yes})
	_, shorten := b.Client.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{Bucket: &b.Name, Key: &name, VersionId: &version, BypassGovernanceRetention: &yes,
		Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeCompliance, RetainUntilDate: aws.Time(time.Now().Add(time.Minute))}})
	_, weaken := b.Client.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{Bucket: &b.Name, Key: &name, VersionId: &version, BypassGovernanceRetention: &yes,
		Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeGovernance, RetainUntilDate: aws.Time(time.Now().AddDate(20, 0, 0))}})
	for what, err := range map[string]error{"delete": del, "bypass": bypass, "shorten": shorten, "weaken": weaken} {
		if err == nil {
			t.Errorf("%s of %s succeeded", what, key)
		}
	}
	if _, err := b.Client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.Name, Key: &name, Body: strings.NewReader("other")}); err != nil {
		t.Errorf("write over %s: %v", key, err)
	}
	if _, err := b.Client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.Name, Key: &name}); err != nil {
		t.Errorf("hide %s: %v", key, err)
	}
}

func TestLockedTo(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ until, want time.Time }{
		{time.Time{}, now.AddDate(1, 0, 1)},
		{now.AddDate(7, 0, 0), now.AddDate(7, 0, 0)},
		{now.AddDate(-1, 0, 0), now.AddDate(0, 0, 1)},
		{now.AddDate(20_000, 0, 0), now.Add(50 * 366 * 24 * time.Hour)},
	} {
		if got := archive.LockedTo(c.until, now); !got.Equal(c.want) {
			t.Errorf("until %v: %v, want %v", c.until, got, c.want)
		}
	}
}
