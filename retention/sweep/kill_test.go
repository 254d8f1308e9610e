package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Variables of the process that is killed.
const (
	envDir  = "HOLDFAST_TEST_SWEEP_DIR"
	envKill = "HOLDFAST_TEST_SWEEP_KILL" // which call it does not live to make
	envNow  = "HOLDFAST_TEST_SWEEP_NOW"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envDir); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// mortal is a store in a folder, on the world's clock. Once it is armed, the process is killed before a certain call, or after it.
type mortal struct {
	object.Keeper
	power object.Disposer
	now   func() time.Time
	kill  int // twice the number of the call, and 1 more: after it

	mu    sync.Mutex // guards what follows
	armed bool
	calls int
	steps []string // of all calls
}

func (s *mortal) call(step string) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.armed {
		return func() {}
	}
	s.steps = append(s.steps, step)
	at := 2 * s.calls
	s.calls++
	if at == s.kill {
		die()
	}
	return func() {
		if at+1 == s.kill {
			die()
		}
	}
}

func (s *mortal) arm(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = on
}

func die() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func (s *mortal) Create(ctx context.Context, key string, body io.ReadSeeker, lock object.Lock) (object.Info, error) {
	defer s.call("create " + key)()
	return s.Keeper.Create(ctx, key, body, lock)
}

func (s *mortal) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	defer s.call("open " + key)()
	return s.Keeper.Open(ctx, key, off, n)
}

func (s *mortal) Replace(ctx context.Context, key string, body []byte) error {
	defer s.call("replace " + key)()
	return s.Keeper.Replace(ctx, key, body)
}

func (s *mortal) List(ctx context.Context, prefix, after string) iter.Seq2[object.Info, error] {
	return s.Keeper.List(ctx, prefix, after)
}

func (s *mortal) Stat(ctx context.Context, key string) (object.Info, error) {
	info, err := s.Keeper.Stat(ctx, key)
	if strings.HasPrefix(key, "state/clock") {
		info.Time = s.now()
	}
	return info, err
}

func (s *mortal) Unhold(ctx context.Context, key string) error { return s.power.Unhold(ctx, key) }

func (s *mortal) DeleteAll(ctx context.Context, key string) error {
	defer s.call("delete " + key)()
	return s.power.DeleteAll(ctx, key)
}

// folder is a world whose store is in a folder.
func folder(t testing.TB, dir string, now time.Time) (*world, *mortal) {
	w := &world{t: t, dir: dir, now: now, failed: map[record.ID]bool{}, gone: map[record.ID]bool{}, bodies: map[record.ID][]byte{}}
	url := "file:" + filepath.Join(dir, "store")
	k, err := object.Make(context.Background(), url, object.Options{})
	w.must(err)
	power, err := object.OpenDisposer(context.Background(), url, object.Options{})
	w.must(err)
	s := &mortal{Keeper: k, power: power, now: w.clock, kill: -1}
	w.store, w.power = s, s
	return w, s
}

// panicking is for a process that is no test.
type panicking struct{ testing.TB }

func (panicking) Helper()                   {}
func (panicking) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (panicking) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (panicking) Errorf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

func child(dir string) {
	now, err := time.Parse(time.RFC3339, os.Getenv(envNow))
	if err != nil {
		panic(err)
	}
	w, s := folder(panicking{}, dir, now)
	if s.kill, err = strconv.Atoi(os.Getenv(envKill)); err != nil {
		panic(err)
	}
	if w.keys, err = archive.LoadKeys(filepath.Join(dir, "keys")); err != nil {
		panic(err)
	}
	w.must(w.open(context.Background()))
	s.arm(true)
	w.run()
	s.arm(false)
	w.must(w.close())
	fmt.Println(strings.Join(s.steps, "\n"))
}

// purged runs the purge of a world in a process of its own, which may not live to its end.
func purged(t *testing.T, dir string, now time.Time, kill int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envDir+"="+dir, envKill+"="+strconv.Itoa(kill), envNow+"="+now.Format(time.RFC3339))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var exit *exec.ExitError
	if kill >= 0 && errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return nil
	}
	if err != nil {
		t.Fatalf("%v: %s", err, &errs)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// TestAPurgeThatIsKilledGoesOn kills a process before and after each call to the store that it makes for a purge: to read packs and ledger, to
// plan, to commit acts, to store and read back what is moved, to write tombstones, to destroy. verify finds nothing wrong just after, the
// next run ends it, no held record is lost and none that is due is there.
func TestAPurgeThatIsKilledGoesOn(t *testing.T) {
	base := t.TempDir()
	template := filepath.Join(base, "template")
	w, _ := folder(t, template, time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	w.create(true)
	held, due := w.message("a@x.example", "this is in dispute"), w.message("b@x.example", "this is not")
	w.reopen(held, due, w.late(held.ID, 1), w.late(due.ID, 1))
	w.now = w.now.AddDate(0, 0, 1)
	whole := w.message("c@x.example", "alone in its pack")
	w.reopen(whole, w.late(whole.ID, 1))
	w.hold("h", "body:dispute")
	w.now = w.now.AddDate(0, 4, 0)
	young := w.message("d@x.example", "new")
	w.reopen(young)
	w.must(w.close())

	begin := func(n int) string {
		dir := filepath.Join(base, strconv.Itoa(n))
		if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	steps := purged(t, begin(-1), w.now, -1)
	if len(steps) < 15 {
		t.Fatalf("only %d calls: %v", len(steps), steps)
	}
	kills := make([]int, 2*len(steps))
	for i := range kills {
		kills[i] = i
	}
	if testing.Short() {
		seed := rand.Uint64()
		t.Log("seed", seed)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(kills), func(i, j int) { kills[i], kills[j] = kills[j], kills[i] })
		kills = kills[:8]
	}
	bodies := w.bodies
	for _, kill := range kills {
		what := fmt.Sprintf("killed at %d of %d, %s", kill, 2*len(steps), steps[kill/2])
		dir := begin(kill)
		purged(t, dir, w.now, kill)
		w, _ := folder(t, dir, w.now)
		w.bodies = bodies
		var err error
		if w.keys, err = archive.LoadKeys(filepath.Join(dir, "keys")); err != nil {
			t.Fatal(err)
		}
		if r, err := archive.Verify(t.Context(), archive.VerifyOptions{Store: w.store, Keys: w.keys, Full: true}); err != nil || !r.OK {
			t.Fatalf("%s: verify just after: %+v, %v", what, r, err)
		}
		w.reopen()
		if !w.there(held.ID) || !w.there(young.ID) {
			t.Fatalf("%s: what is held is lost", what)
		}
		w.gone[due.ID], w.gone[whole.ID] = true, true // the index is told again, or was
		w.run()
		if w.there(due.ID) || w.there(whole.ID) || !w.there(held.ID) || !w.there(young.ID) {
			t.Fatalf("%s: not what was due was destroyed", what)
		}
		if r := w.verify(); len(r.Orphans) > 0 && !actsOnly(w, r.Orphans) {
			t.Fatalf("%s: orphans: %v", what, r.Orphans)
		}
		for _, name := range readDir(t, filepath.Join(dir, "data", "sweep")) {
			if !strings.HasPrefix(name, "plan-") {
				t.Errorf("%s: %s is left", what, name)
			}
		}
		w.must(w.close())
		w.must(os.RemoveAll(dir))
	}
}

// actsOnly says that orphans are packs of acts that did not come about: they are stored before they are committed.
func actsOnly(w *world, orphans []archive.Finding) bool {
	for _, o := range orphans {
		if !strings.Contains(o.Key, "/n1-0-") {
			return false
		}
	}
	return true
}
