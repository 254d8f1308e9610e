package e2e

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The server is killed again and again while mail comes in and packs, uploads, commits and tiles are under way (seal_after is short, so
// that all of them are, all the time). What was acknowledged must be in the archive, whole, and the server must start by itself.
func TestKillFiftyTimesUnderLoad(t *testing.T) {
	const rounds = 50
	load, mails := loader(t), corpus(t, "mail")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed of the moments: %d", seed)
	rng := rand.New(rand.NewPCG(seed, 50))
	sink := startSink(t)
	h := install(t, settings{mode: "relay", nextHop: sink.port})
	h.setSealAfter("100ms")
	acked := filepath.Join(t.TempDir(), "acked")
	for round := range rounds {
		h.start()
		cmd := exec.CommandContext(withTimeout(t, time.Minute), load, "-addr", fmt.Sprintf("127.0.0.1:%d", h.smtp), "-dir", mails, "-c", "20",
			"-n", "1000", "-offset", fmt.Sprint(round*1000), "-tag", fmt.Sprintf("kill%d", round), "-acked", acked, "-per-conn", "20")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(50+rng.IntN(900)) * time.Millisecond) // the moment is what is random here
		h.kill()
		cmd.Wait() // the messages that it could not send are refused connections
	}
	h.start()
	h.settle()
	archived := map[string]bool{}
	for _, hit := range h.search("") {
		archived[hit.SHA256] = true
	}
	n := 0
	for sum := range ackedSums(t, acked) {
		n++
		if !archived[sum] {
			t.Errorf("acknowledged and not archived: %s", sum)
		}
	}
	t.Logf("%d messages acknowledged in %d rounds, %d different ones archived", n, rounds, len(archived))
	if n < rounds {
		t.Fatalf("only %d messages were acknowledged", n)
	}
	h.mustVerify()
	h.stop()
	h.mustVerify()
}

// ackedSums reads what the load generator wrote of acknowledged messages.
func ackedSums(t *testing.T, path string) map[string]bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sums := map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		sum, _, _ := strings.Cut(s.Text(), " ")
		sums[sum] = true
	}
	return sums
}
