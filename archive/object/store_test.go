package object_test

import (
	"testing"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
)

func TestFile(t *testing.T) {
	objecttest.Run(t, func(t *testing.T) object.Keeper { return open(t, "file:"+t.TempDir()) })
}

func TestS3(t *testing.T) {
	t.Parallel()
	objecttest.Run(t, func(t *testing.T) object.Keeper { return open(t, objecttest.StartS3(t).URL) })
}

func TestS3Locked(t *testing.T) {
	t.Parallel()
	objecttest.Run(t, func(t *testing.T) object.Keeper { return open(t, objecttest.StartLockedS3(t).URL) })
}

func TestS3SingleWriter(t *testing.T) {
	t.Parallel()
	objecttest.Run(t, func(t *testing.T) object.Keeper {
		s, err := object.Open(t.Context(), objecttest.StartS3(t).URL, object.Options{SingleWriter: true})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func open(t *testing.T, url string) object.Keeper {
	t.Helper()
	s, err := object.Open(t.Context(), url, object.Options{Lock: object.LockGovernance})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
