package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SIGTERM: idle sessions hear 421 at once, a message under way may end, one that does not is cut off; what was acknowledged is committed.
func TestStopIsGraceful(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	h := install(t, settings{mode: "journal", env: []string{"HOLDFAST_ARCHIVE_SEAL_AFTER=1h"}}) // nothing but the stop seals a pack
	h.start()
	var acked [][]byte
	busy := h.dial()
	for i := range 30 {
		m := letter(rng, fmt.Sprintf("letter %d", i), 3000)
		busy.begin(t, "ada@origin.test", "journal@archive.test")
		if reply := busy.data(t, m); reply[0] != '2' {
			t.Fatal(reply)
		}
		acked = append(acked, m)
	}
	idle, between := h.dial(), h.dial()
	between.begin(t, "ada@origin.test", "journal@archive.test")
	stalled := h.dial()
	stalled.begin(t, "ada@origin.test", "journal@archive.test")
	stalled.must(t, "DATA\r\n", "354")
	io.WriteString(stalled, "Subject: never ended\r\n\r\n")
	last := letter(rng, "the last one", 3000)
	busy.begin(t, "ada@origin.test", "journal@archive.test")
	busy.must(t, "DATA\r\n", "354")
	busy.Write(last[:1000])

	if err := h.proc.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*client{"idle": idle, "between RCPT and DATA": between} {
		if reply, err := c.say(""); err != nil || !strings.HasPrefix(reply, "421 4.3.2 ") {
			t.Errorf("%s: %q, %v", name, reply, err)
		}
	}
	if _, err := dialSMTP(h.smtp); err == nil {
		t.Error("a new session is taken")
	}
	reply, err := busy.say(string(stuff(last)[1000:]) + ".\r\n") // it has no dot at the start of a line
	if err != nil || reply[0] != '2' {
		t.Errorf("the message under way: %q, %v", reply, err)
	}
	acked = append(acked, last)
	if code := h.ended(time.Minute); code != 0 {
		t.Errorf("exit %d:\n%s", code, h.logTail())
	}
	if reply, err := stalled.say(""); err == nil && reply[0] == '2' {
		t.Errorf("a message that never ended: %q", reply)
	}

	r := h.mustVerify() // nothing runs
	if r.Records < uint64(len(acked)) {
		t.Errorf("%d records in the archive, %d messages were acknowledged", r.Records, len(acked))
	}
	sums := h.sums()
	for _, m := range acked {
		if len(sums[hash(m)]) != 1 {
			t.Errorf("archived %d times: %.100q", len(sums[hash(m)]), m)
		}
	}
	if len(sums) != len(acked) {
		t.Errorf("%d messages in the archive, %d were acknowledged", len(sums), len(acked))
	}
}

var lookAt = regexp.MustCompile(`Look at\s+(http://\S+)`)

// The demo says where to look, the page there answers, and nothing is left of it afterwards.
func TestDemo(t *testing.T) {
	t.Parallel()
	until(t, 3*time.Minute, "no other test takes the ports of the embedded defaults", func() bool {
		l, err := net.Listen("tcp", "127.0.0.1:2524") // as the scripts of the command line do
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err == nil
	})
	tmp := t.TempDir()
	cmd := exec.CommandContext(withTimeout(t, 3*time.Minute), binary, "demo")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	url := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if m := lookAt.FindStringSubmatch(lines.Text()); m != nil {
			url = m[1]
		}
		if strings.Contains(lines.Text(), "Ctrl-C") {
			break
		}
	}
	if url == "" {
		cmd.Wait()
		t.Fatalf("the demo does not say where to look:\n%s", said.String())
	}
	for _, path := range []string{"", "?q=merger+plan", "metrics", "healthz", "readyz"} {
		res, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("%s%s: HTTP %d, %v", url, path, res.StatusCode, err)
		}
		if strings.HasPrefix(path, "?q") && !strings.Contains(string(body), "erger") {
			t.Errorf("%s%s finds nothing:\n%s", url, path, body)
		}
	}
	config, err := filepath.Glob(filepath.Join(tmp, "holdfast-demo-*", "holdfast.yaml"))
	if err != nil || len(config) != 1 || !strings.Contains(said.String(), config[0]) {
		t.Errorf("configurations: %v (%v); the demo said\n%s", config, err, said.String())
	} else if out, err := exec.Command(binary, "search", "--config", config[0], "--count", "").CombinedOutput(); err != nil || string(out) != "12\n" {
		t.Errorf("search beside the demo: %v, %s", err, out)
	}
	cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the demo ends with %v", err)
	}
	if left := files(t, tmp); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
