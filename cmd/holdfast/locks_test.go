package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/retention"
)

// In a real bucket with Object Lock the locks of packs follow the policies, and flags the holds: those that are placed when mail is there
// already, and those that match mail as it comes, whose flag is in the very request that stores the pack.
func TestLocksAndFlagsInABucket(t *testing.T) {
	t.Parallel()
	cfg, _ := bucketArchive(t, "false")
	n, err := openNode(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.start()
	defer func() {
		if err := n.stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	ctx, me := t.Context(), record.Actor{ID: "uid:1"}
	do := func(decide func() (string, any, error)) {
		t.Helper()
		if _, err := n.book.Do(ctx, me, decide); err != nil {
			t.Fatal(err)
		}
	}
	mail := func(subject string) (record.ID, object.Lock) {
		t.Helper()
		id, err := n.importMessage(ctx, "test", nil, strings.NewReader("Subject: "+subject+"\r\n\r\ntext of "+subject+"\r\n"))
		if err == nil {
			err = n.settled(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		return id, lockOf(t, n, id)
	}
	years := func(l object.Lock) string {
		return fmt.Sprintf("%s %.0fy", l.Mode, time.Until(l.Until).Hours()/24/365.25)
	}
	old, lock := mail("merger")
	if years(lock) != "compliance 7y" || lock.Hold {
		t.Errorf("by the default: %+v", lock)
	}
	q, err := parsePolicy("body:merger")
	if err != nil {
		t.Fatal(err)
	}
	do(func() (string, any, error) { return n.rules.SetPolicy("mergers", q, "10y", "", "r") })
	late, lock := mail("merger again")
	if years(lock) != "compliance 7y" { // what is in the text is not known yet when it is stored
		t.Errorf("at ingest: %+v", lock)
	}
	follow := func() {
		t.Helper()
		if err := n.lengthener.Follow(ctx); err != nil {
			t.Fatal(err)
		}
	}
	follow()
	for _, id := range []record.ID{old, late} {
		if lock := lockOf(t, n, id); years(lock) != "compliance 10y" {
			t.Errorf("after the policy: %+v", lock)
		}
	}
	do(func() (string, any, error) { return n.rules.RemovePolicy("mergers", "r") })
	follow()
	state := n.lengthener.State()
	if lock := lockOf(t, n, old); years(lock) != "compliance 10y" || state.OverLocked != 2 {
		t.Errorf("a lock was shortened: %+v, %+v", lock, state)
	}
	var out bytes.Buffer
	if printLocks(&out, &lockReport{"compliance", &state}); !strings.Contains(out.String(), "kept too long: 2 records by the lock of their pack") {
		t.Errorf("printed:\n%s", &out)
	}

	do(func() (string, any, error) { return n.matters.Create("m", "") })
	hold, err := parsePolicy("subject:merger")
	if err != nil {
		t.Fatal(err)
	}
	do(func() (string, any, error) {
		return n.rules.PlaceHold(retention.HoldOrder{Name: "h", Matter: "m", Reason: "r"}, hold)
	})
	if _, lock := mail("a merger"); !lock.Hold { // nothing has looked at it since it was stored
		t.Errorf("the flag is not in the PUT: %+v", lock)
	}
	if _, lock := mail("lunch"); lock.Hold {
		t.Errorf("what is not held is flagged: %+v", lock)
	}
	if err := n.keeper.Follow(ctx); err != nil {
		t.Fatal(err)
	}
	for _, id := range []record.ID{old, late} {
		if lock := lockOf(t, n, id); !lock.Hold || years(lock) != "compliance 10y" {
			t.Errorf("held mail is not flagged: %+v", lock)
		}
	}
	follow()
	if s := n.lengthener.State(); s.OverFlagged != 0 {
		t.Errorf("all flags are asked for: %+v", s)
	}
	do(func() (string, any, error) { return n.rules.ReleaseHold("h", me, "settled", false) })
	follow()
	if s := n.lengthener.State(); s.OverFlagged != 3 {
		t.Errorf("three flags are left after the release: %+v", s)
	}
}

func lockOf(t *testing.T, n *node, id record.ID) object.Lock {
	t.Helper()
	keys, err := n.archive.Packs(id)
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	lock, err := n.packLock(t.Context(), keys[0])
	if err != nil {
		t.Fatal(err)
	}
	return lock
}
