package e2e

import (
	"fmt"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exim is an Exim of its own, with all its folders in dir.
type exim struct {
	dir  string
	port int
}

// eximSettings of an Exim. Without nextHop it keeps what it takes: see messages.
type eximSettings struct {
	nextHop   int    // port of the server to which everything goes on
	main      string // further lines of the main section
	transport string // further lines of the transport to nextHop
}

// eximProgram finds Exim, which .ci/exim unpacks, since Debian's package can't be installed beside Postfix.
func eximProgram(t testing.TB) (program, libraries string) {
	t.Helper()
	needRoot(t)
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(cache, "holdfast-peers", "exim")
	program = filepath.Join(root, "usr/sbin/exim4")
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("exim is missing: bash .ci/exim")
		}
		t.Skip("exim is missing: bash .ci/exim")
	}
	found, err := filepath.Glob(filepath.Join(root, "usr/lib/*/libidn.so.12"))
	if err != nil || len(found) == 0 {
		t.Fatalf("exim: no libidn in %s: %v", root, err)
	}
	return program, filepath.Dir(found[0])
}

func startExim(t testing.TB, s eximSettings) *exim {
	t.Helper()
	program, libraries := eximProgram(t)
	e := &exim{dir: filepath.Join(t.TempDir(), "exim"), port: freePort(t)}
	for _, sub := range []string{"spool", "mail", "bin"} {
		if err := os.MkdirAll(filepath.Join(e.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dir := e.dir; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	own := filepath.Join(e.dir, "bin", "exim") // it calls itself as another user, who need not get at where it was unpacked
	if out, err := exec.Command("cp", program, own).CombinedOutput(); err != nil {
		t.Fatalf("cp: %s", out)
	}
	if out, err := exec.Command("sh", "-c", `cp "$0"/libidn.so.12* "$1"/bin`, libraries, e.dir).CombinedOutput(); err != nil {
		t.Fatalf("cp: %s", out)
	}
	router, transport := "driver = accept\n  transport = files", `files:
  driver = appendfile
  directory = `+e.dir+`/mail
  user = Debian-exim
  group = Debian-exim
  maildir_format
  message_prefix =
  message_suffix =`
	if s.nextHop != 0 {
		router = "driver = manualroute\n  route_list = * 127.0.0.1 byname\n  self = send\n  transport = hop"
		transport = fmt.Sprintf("hop:\n  driver = smtp\n  allow_localhost\n  hosts_try_fastopen =\n  port = %d\n%s", s.nextHop, s.transport)
	}
	config := fmt.Sprintf(`exim_user = Debian-exim
exim_group = Debian-exim
exim_path = %[1]s/bin/exim
keep_environment = LD_LIBRARY_PATH
primary_hostname = exim.example.test
qualify_domain = example.test
spool_directory = %[1]s/spool
log_file_path = %[1]s/log-%%s
local_interfaces = 127.0.0.1
disable_ipv6
daemon_smtp_ports = %[2]d
acl_smtp_rcpt = accept
acl_smtp_data = accept
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
check_spool_space = 0
check_spool_inodes = 0
%[3]s
begin routers
all:
  %[4]s
begin transports
%[5]s
begin retry
* * F,1h,1s
`, e.dir, e.port, s.main, router, transport)
	file := filepath.Join(e.dir, "exim.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("chown", "-R", "Debian-exim", filepath.Join(e.dir, "spool"), filepath.Join(e.dir, "mail"), e.dir).CombinedOutput(); err != nil {
		t.Fatalf("chown: %s", out)
	}
	if out, err := exec.Command("chown", "root", file).CombinedOutput(); err != nil { // it refuses one of another's
		t.Fatalf("chown: %s", out)
	}
	cmd := exec.Command(own, "-C", file, "-bdf", "-q2s")
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Join(e.dir, "bin"))
	said, err := os.Create(filepath.Join(e.dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its children end with it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		said.Close()
		if t.Failed() {
			for _, name := range []string{"said", "log-main", "log-panic", "log-reject"} {
				log, _ := os.ReadFile(filepath.Join(e.dir, name))
				t.Logf("exim's %s: %s", name, log[max(0, len(log)-4000):])
			}
		}
		until(t, 10*time.Second, "exim's children have ended", func() bool {
			err := os.RemoveAll(e.dir)
			time.Sleep(200 * time.Millisecond)
			_, gone := os.Stat(e.dir)
			return err == nil && gone != nil
		})
	})
	until(t, 30*time.Second, "exim listens", func() bool { return listening(e.port) })
	return e
}

// messages gives what was delivered, each as Exim wrote it: with its own Received line, newlines bare.
func (e *exim) messages(t *testing.T) (list []string) {
	t.Helper()
	for _, f := range files(t, filepath.Join(e.dir, "mail", "new")) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, string(text))
	}
	return list
}

// drained waits until Exim's queue is empty.
func (e *exim) drained(t *testing.T, limit time.Duration) {
	t.Helper()
	until(t, limit, "exim has delivered all", func() bool { return len(files(t, filepath.Join(e.dir, "spool", "input"))) == 0 })
}

// Mail that Exim sends goes through to another Exim, and is archived.
func TestEximBeforeAndBehind(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	last := startExim(t, eximSettings{})
	h := install(t, settings{mode: "relay", nextHop: last.port})
	h.start()
	first := startExim(t, eximSettings{nextHop: h.smtp})
	c, err := dialSMTP(first.port)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if reply, err := c.send("a@origin.test", []string{"b@dest.test"}, letter(rng, fmt.Sprint("letter ", i), 500+i*1000)); err != nil || reply[0] != '2' {
			t.Fatalf("%q, %v", reply, err)
		}
	}
	first.drained(t, time.Minute)
	last.drained(t, time.Minute)
	subjects := map[string]bool{}
	for _, text := range last.messages(t) {
		m, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		subjects[m.Header.Get("Subject")] = true
	}
	h.settle()
	if n := len(h.search("subject:letter")); n != 20 || len(subjects) != 20 {
		t.Errorf("%d are archived, %d delivered", n, len(subjects))
	}
	h.mustVerify()
}
