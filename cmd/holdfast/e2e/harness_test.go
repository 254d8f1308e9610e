package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test, built once with the race detector.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "holdfast-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "holdfast")
	build := exec.Command("go", "build", "-race", "-o", binary, "..")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	code := 1
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// need finds a program of a real peer. In CI a missing one is a failure.
func need(t testing.TB, program, debian string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: apt-get install %s", program, debian)
	}
	t.Skipf("%s is missing: apt-get install %s", program, debian)
	return ""
}

// needRoot skips a test that real servers need root for; in CI it must run.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("this test must be run by root")
	}
	t.Skip("this test must be run by root")
}

// shared gives a path in the folder of test data beside the repository, or skips where it is absent; in CI it must be there.
func shared(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("HOLDFAST_SHARED")
	if dir == "" {
		_, file, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(file), "../../../../shared")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("test data is missing: %v", err)
		}
		t.Skipf("test data is missing: %v", err)
	}
	return path
}

// corpus unpacks a collection of real mail, once for all tests of this process, and gives its folder.
func corpus(t testing.TB, name string) string {
	t.Helper()
	archive := shared(t, "corpus/"+name+".tar.zst")
	zstd := need(t, "zstd", "zstd")
	unpack.Lock()
	defer unpack.Unlock()
	dir := filepath.Join(filepath.Dir(binary), "corpus-"+name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `"$0" -dc "$1" | tar x -C "$2"`, zstd, archive, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v: %s", archive, err, out)
	}
	return dir
}

var unpack sync.Mutex

// files lists the regular files under a folder.
func files(t testing.TB, dir string) (list []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			list = append(list, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// freePort finds a port that nobody has, below those that the system hands out by itself.
func freePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 5000 {
		nextPort++
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", nextPort))
		if err == nil {
			l.Close()
			return nextPort
		}
	}
	t.Fatal("no free port")
	return 0
}

var (
	ports    sync.Mutex
	nextPort = 20000 + os.Getpid()%8000
)

// until polls a condition; what it waits for is named in the failure.
func until(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("not within %v: %s", limit, what)
}

func listening(port int) bool {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// holdfast is one installation: a folder with a configuration, and the server when it runs.
type holdfast struct {
	t       testing.TB
	dir     string
	config  string
	smtp    int // port of the listener
	web     int
	env     []string
	program string // empty: binary
	proc    *exec.Cmd
	exited  chan error
	log     *os.File
}

// settings of an installation. YAML is put at the end of the configuration.
type settings struct {
	mode    string
	nextHop int
	store   string // empty: the default
	data    string // data_dir; empty: a folder beside the configuration
	env     []string
	more    string // further keys of the listener, as ", key: value"
	yaml    string
	init    []string // arguments of init
}

func install(t testing.TB, s settings) *holdfast {
	t.Helper()
	h := &holdfast{t: t, dir: t.TempDir(), smtp: freePort(t), web: freePort(t), env: s.env}
	h.config = filepath.Join(h.dir, "holdfast.yaml")
	listener := fmt.Sprintf(`{name: in, address: "127.0.0.1:%d", mode: %s, trusted_networks: [127.0.0.0/8]%s`, h.smtp, s.mode, s.more)
	if s.nextHop != 0 {
		listener += fmt.Sprintf(`, next_hop: "127.0.0.1:%d"`, s.nextHop)
	}
	store := ""
	if s.store != "" {
		store = fmt.Sprintf("store: %q, ", s.store)
	}
	text := fmt.Sprintf("data_dir: %s\nkeys_dir: keys\nlisteners:\n  - %s}\narchive: {%sseal_after: 1s}\nweb: {address: \"127.0.0.1:%d\"}\nlog: {level: warn}\n%s", cmp.Or(s.data, "data"), listener, store, h.web, s.yaml)
	if err := os.WriteFile(h.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.run(append([]string{"init"}, s.init...)...)
	return h
}

// command makes a holdfast command with this configuration.
func (h *holdfast) command(args ...string) *exec.Cmd {
	cmd := exec.Command(cmp.Or(h.program, binary), append([]string{"--config", h.config}, args...)...)
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), h.env...) // the race detector would sleep a second at each exit
	return cmd
}

// run runs a command that must succeed and gives what it printed.
func (h *holdfast) run(args ...string) string {
	h.t.Helper()
	out, code := h.try(args...)
	if code != 0 {
		h.t.Fatalf("holdfast %s: exit %d", strings.Join(args, " "), code)
	}
	return out
}

// try runs a command and gives its standard output and exit code. What it says on standard error goes to the test's log.
func (h *holdfast) try(args ...string) (string, int) {
	h.t.Helper()
	cmd := h.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if errs.Len() > 0 {
		h.t.Logf("holdfast %s: %s", strings.Join(args, " "), errs.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// start starts the server and waits until it takes mail.
func (h *holdfast) start() {
	h.t.Helper()
	if err := h.launch(); err != nil {
		h.t.Fatal(err)
	}
	until(h.t, time.Minute, "the server listens", func() bool {
		select {
		case err := <-h.exited:
			h.t.Fatalf("the server ended: %v\n%s", err, h.logTail())
		default:
		}
		return listening(h.smtp) && listening(h.web)
	})
}

// launch starts the server and does not wait.
func (h *holdfast) launch() error {
	if h.log == nil {
		var err error
		if h.log, err = os.Create(filepath.Join(h.dir, "log")); err != nil {
			return err
		}
		h.t.Cleanup(func() {
			h.kill()
			if h.t.Failed() {
				h.t.Log(h.logTail())
			}
			h.log.Close()
		})
	}
	h.proc = h.command("serve")
	h.proc.Stdout, h.proc.Stderr = h.log, h.log
	if err := h.proc.Start(); err != nil {
		return err
	}
	h.exited = make(chan error, 1)
	go func(p *exec.Cmd, exited chan error) { exited <- p.Wait() }(h.proc, h.exited)
	return nil
}

// stop ends the server as an administrator does, and demands that it ends well.
func (h *holdfast) stop() {
	h.t.Helper()
	h.proc.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-h.exited:
		if err != nil {
			h.t.Fatalf("the server did not end well: %v\n%s", err, h.logTail())
		}
	case <-time.After(90 * time.Second):
		h.t.Fatal("the server does not stop")
	}
	h.proc = nil
}

// kill ends the server as a power cut does.
func (h *holdfast) kill() {
	if h.proc == nil {
		return
	}
	h.proc.Process.Kill()
	<-h.exited
	h.proc = nil
}

// freeze stops the process where it is: it does nothing more but be killed. Calls of the kernel that are under way end, unseen by it.
func (h *holdfast) freeze() {
	h.t.Helper()
	if err := h.proc.Process.Signal(syscall.SIGSTOP); err != nil {
		h.t.Fatal(err)
	}
	until(h.t, 10*time.Second, "the process stands still", func() bool {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", h.proc.Process.Pid))
		if err != nil || len(tasks) == 0 {
			return false
		}
		for _, task := range tasks {
			stat, err := os.ReadFile(task)
			if err != nil {
				return false
			}
			_, state, _ := strings.Cut(string(stat), ") ") // proc_pid_stat(5)
			if state == "" || !strings.Contains("TtD", state[:1]) {
				return false
			}
		}
		return true
	})
}

func (h *holdfast) logTail() string {
	text, _ := os.ReadFile(filepath.Join(h.dir, "log"))
	if len(text) > 8000 {
		text = text[len(text)-8000:]
	}
	return string(text)
}

var metricLine = regexp.MustCompile(`(?m)^(\w+)(?:\{[^}]*\})? ([0-9.e+-]+)$`)

// metric reads one unlabelled metric, or the sum over its labels.
func (h *holdfast) metric(name string) (sum float64, ok bool) {
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", h.web))
	if err != nil {
		return 0, false
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	for _, m := range metricLine.FindAllStringSubmatch(string(text), -1) {
		if m[1] == name {
			v, _ := strconv.ParseFloat(m[2], 64)
			sum, ok = sum+v, true
		}
	}
	return sum, ok
}

// settle waits until everything is archived and indexed.
func (h *holdfast) settle() {
	h.t.Helper()
	until(h.t, 15*time.Minute, "all is archived and indexed", func() bool {
		pending, ok1 := h.metric("holdfast_spool_pending_records")
		lag, ok2 := h.metric("holdfast_index_lag_entries")
		return ok1 && ok2 && pending == 0 && lag == 0
	})
}

// hit is what search --json says of one record.
type hit struct {
	ID      string `json:"id"`
	Subject string `json:"subject"`
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"`
}

// search runs a query on the command line and gives all hits, page by page.
func (h *holdfast) search(query string) (hits []hit) {
	h.t.Helper()
	for after := ""; ; {
		args := []string{"search", "--json", "--limit", "1000"}
		if after != "" {
			args = append(args, "--after", after)
		}
		var page struct {
			Total uint64
			Hits  []hit
			Next  string
		}
		if err := json.Unmarshal([]byte(h.run(append(args, "--", query)...)), &page); err != nil {
			h.t.Fatal(err)
		}
		hits = append(hits, page.Hits...)
		if after = page.Next; after == "" {
			if uint64(len(hits)) != page.Total {
				h.t.Fatalf("search %q: %d hits on all pages, the total says %d", query, len(hits), page.Total)
			}
			return hits
		}
	}
}

// verify runs verify --full and gives its report and exit code.
func (h *holdfast) verify() (report verifyReport, code int) {
	h.t.Helper()
	out, code := h.try("verify", "--full", "--json")
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		h.t.Fatalf("verify: exit %d, %q: %v", code, out, err)
	}
	return report, code
}

type verifyReport struct {
	OK                                     bool
	Entries, Records, Packs, Purged        uint64
	Raw                                    int64
	Altered, Missing, Unaccounted, Orphans []struct{ Key, What string }
}

// mustVerify demands that nothing is wrong.
func (h *holdfast) mustVerify() verifyReport {
	h.t.Helper()
	r, code := h.verify()
	if code != 0 || !r.OK {
		h.t.Fatalf("verify: exit %d: %+v", code, r)
	}
	return r
}

// sink is Postfix's smtp-sink, which writes each message that it takes to a file.
type sink struct {
	port int
	dir  string
}

func startSink(t testing.TB, flags ...string) *sink {
	t.Helper()
	return startSinkOn(t, freePort(t), flags...)
}

func startSinkOn(t testing.TB, port int, flags ...string) *sink {
	t.Helper()
	needRoot(t)
	program := need(t, "smtp-sink", "postfix")
	s := &sink{port: port, dir: filepath.Join(t.TempDir(), "sink")}
	if err := os.MkdirAll(s.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for dir := s.dir; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) { // smtp-sink gives up root
		os.Chmod(dir, 0o777)
	}
	cmd := exec.Command(program, append(append([]string{"-u", "nobody", "-d", "m.%M."}, flags...), fmt.Sprintf("127.0.0.1:%d", s.port), "1000")...)
	cmd.Dir = s.dir
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	until(t, 20*time.Second, "smtp-sink listens", func() bool { return listening(s.port) })
	return s
}

// messages gives the messages that came, as smtp-sink writes them: its own X- lines first, newlines bare.
func (s *sink) messages(t *testing.T) (list [][]byte) {
	t.Helper()
	for _, f := range files(t, s.dir) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, text)
	}
	return list
}

// postfix is a Postfix of its own, with all its folders in dir.
type postfix struct {
	dir  string
	port int
}

func startPostfix(t testing.TB, relayhost int, extra string) *postfix {
	t.Helper()
	needRoot(t)
	program := need(t, "postfix", "postfix")
	p := &postfix{dir: filepath.Join(t.TempDir(), "postfix"), port: freePort(t)}
	for _, sub := range []string{"etc", "spool", "data"} {
		if err := os.MkdirAll(filepath.Join(p.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dir := p.dir; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(p.dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("chown: %s", out)
	}
	main := fmt.Sprintf(`compatibility_level = 3.6
config_directory = %[1]s/etc
queue_directory = %[1]s/spool
data_directory = %[1]s/data
myhostname = mta.example.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:%[2]d
smtp_host_lookup = native
disable_dns_lookups = yes
alias_maps =
alias_database =
local_transport = error:no local delivery
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks,reject
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
in_flow_delay = 0
minimal_backoff_time = 2s
maximal_backoff_time = 5s
queue_run_delay = 2s
maillog_file_prefixes = /var,/dev/stdout,/tmp
maillog_file = %[1]s/maillog
%[3]s
`, p.dir, relayhost, extra)
	master := fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd\n", p.port) + `postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 2 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
showq unix n - n - - showq
tlsmgr unix - - n 300 1 tlsmgr
`
	for name, text := range map[string]string{"main.cf": main, "master.cf": master} {
		if err := os.WriteFile(filepath.Join(p.dir, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(program, "-c", filepath.Join(p.dir, "etc"), "start").CombinedOutput(); err != nil {
		t.Fatalf("postfix start: %v: %s", err, out)
	}
	t.Cleanup(func() {
		exec.Command(program, "-c", filepath.Join(p.dir, "etc"), "stop").Run()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(p.dir, "maillog"))
			t.Logf("maillog: %s", log[max(0, len(log)-4000):])
		}
	})
	until(t, 30*time.Second, "postfix listens", func() bool { return listening(p.port) })
	return p
}

// drained waits until Postfix's queue is empty.
func (p *postfix) drained(t *testing.T, limit time.Duration) {
	t.Helper()
	until(t, limit, "postfix has delivered all", func() bool {
		for _, queue := range []string{"maildrop", "incoming", "active", "deferred"} {
			empty := true
			filepath.WalkDir(filepath.Join(p.dir, "spool", queue), func(_ string, d os.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					empty = false
				}
				return nil
			})
			if !empty {
				return false
			}
		}
		return true
	})
}

// client is a bare SMTP client: what it is told to write, it writes.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dialSMTP(port int) (*client, error) {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 5*time.Second)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	c := &client{conn, bufio.NewReader(conn)}
	for _, line := range []string{"", "EHLO client.example.test\r\n"} {
		if reply, err := c.say(line); err != nil || reply[0] != '2' {
			conn.Close()
			return nil, fmt.Errorf("%q: %q, %w", line, reply, err)
		}
	}
	return c, nil
}

// say writes text (none: only reads) and gives the reply, lines joined.
func (c *client) say(text string) (string, error) {
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	var reply strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return reply.String(), err
		}
		reply.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			return reply.String(), nil
		}
	}
}

// send sends one message, whose bytes must be CRLF lines, and gives the last reply.
func (c *client) send(from string, to []string, message []byte) (string, error) {
	lines := []string{"MAIL FROM:<" + from + ">\r\n"}
	for _, rcpt := range to {
		lines = append(lines, "RCPT TO:<"+rcpt+">\r\n")
	}
	for _, line := range append(lines, "DATA\r\n") {
		if reply, err := c.say(line); err != nil || reply[0] != '2' && reply[0] != '3' {
			return reply, err
		}
	}
	stuffed := bytes.ReplaceAll(append([]byte("\r\n"), message...), []byte("\r\n."), []byte("\r\n.."))[2:]
	return c.say(string(stuffed) + ".\r\n")
}

// withTimeout bounds a command of the test's own.
func withTimeout(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// setSealAfter changes archive.seal_after before the server starts.
func (h *holdfast) setSealAfter(d string) {
	h.t.Helper()
	text, err := os.ReadFile(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.config, []byte(strings.Replace(string(text), "seal_after: 1s", "seal_after: "+d, 1)), 0o600); err != nil {
		h.t.Fatal(err)
	}
}
