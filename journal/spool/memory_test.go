package spool

import (
	"context"
	"crypto/sha256"
	"io"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// pattern is a body that takes no memory. Each of the readers waits for the others when half of it is read.
type pattern struct {
	left, half int64
	meet       func()
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if p.left <= p.half && p.meet != nil {
		p.meet()
		p.meet = nil
	}
	n := int(min(int64(len(b)), p.left))
	for i := range b[:n] {
		b[i] = byte(int(p.left) - i)
	}
	p.left -= int64(n)
	return n, nil
}

// A hundred messages of 5 MB at once take the memory of a hundred buffers, not of the messages.
func TestMemoryIsFlat(t *testing.T) {
	const sessions, size, bound = 100, 5 << 20, 128 << 20
	cfg := Config{Dir: filepath.Join(t.TempDir(), "spool")}
	s := mustOpen(t, cfg, Options{})
	var all, done sync.WaitGroup
	all.Add(sessions)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var ids sync.Map
	measured := make(chan struct{})
	for range sessions {
		done.Go(func() {
			body := &pattern{left: size, half: size / 2, meet: func() { all.Done(); <-measured }}
			id, err := s.Accept(context.Background(), journaled(), body, AcceptOptions{})
			if err != nil {
				t.Error(err)
			}
			ids.Store(id, true)
		})
	}
	all.Wait()
	during := heap() - before
	close(measured)
	done.Wait()
	t.Logf("%d KiB a session", during/sessions>>10)
	if during > bound {
		t.Errorf("%d sessions of %d bytes take %d bytes of memory", sessions, size, during)
	}
	want := sha256.New()
	io.Copy(want, &pattern{left: size})
	tail := s.Tail()
	for range sessions {
		it, err := tail.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if it.Envelope.SHA256 != record.Digest(want.Sum(nil)) || it.Envelope.Size != size {
			t.Errorf("%+v", it.Envelope)
		}
		if _, ok := ids.LoadAndDelete(it.ID); !ok {
			t.Error("a stranger:", it.ID)
		}
		if err := s.Release(t.Context(), []*record.Item{it}); err != nil {
			t.Error(err)
		}
	}
	mustClose(t, s)
}
