package nexthop

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// tool finds a program of Debian's, or skips the test: in CI it fails.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
			if p := filepath.Join(dir, name); fileExists(p) {
				return p
			}
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed: apt-get install %s", name, pkg)
	}
	return path
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// freePort gives a port that was free a moment ago, below the range from which outgoing connections take theirs.
func freePort(t *testing.T) int {
	t.Helper()
	for port := 20000 + os.Getpid()%5000; port < 32000; port++ {
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			ln.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// waitForPort waits until somebody listens.
func waitForPort(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nobody listens on %s", address)
		}
	}
}

// sink starts smtp-sink, which writes each message to a file of its own in dir.
func sink(t *testing.T) (address, dir string) {
	t.Helper()
	path := tool(t, "smtp-sink", "postfix")
	dir, err := os.MkdirTemp("/tmp", "holdfast-sink") // t.TempDir is not for other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	args := []string{}
	if os.Getuid() == 0 { // it wants to be told who to be instead
		args = append(args, "-u", "nobody")
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	address = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	cmd := exec.Command(path, append(args, "-R", dir, "-d", "m.%M.", address, "100")...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	waitForPort(t, address)
	return address, dir
}

// arrived waits until the sink has n messages that hold all the parts.
func arrived(t *testing.T, dir string, n int, parts ...string) {
	t.Helper()
	var texts []string
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(dir, "m.*"))
		if err != nil {
			t.Fatal(err)
		}
		texts = texts[:0]
		good := 0
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(b))
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(string(b), part) }) {
				good++
			}
		}
		if good == n && len(files) == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("want %d messages with %q, have %q", n, parts, texts)
		}
	}
}

const peerBody = "Subject: hello\r\nMessage-ID: <1@src.example>\r\n\r\n.a dot\r\n..two\r\n.\r\nend\r\n"

func sendToPeer(t *testing.T, address string, n int) {
	t.Helper()
	p := newPool(t, Options{})
	for range n {
		s := send(t.Context(), p, Target{Address: address, TLS: Opportunistic, Hello: "relay.example"},
			Mail{From: from, Size: int64(len(peerBody)), Body: "8BITMIME"}, []record.Path{to, other}, peerBody)
		if s.err != nil || s.d == nil || s.d.Outcome != record.Delivered || s.d.Recipients[1].Code != 250 {
			t.Fatalf("%v %v %v %+v", s.rcpt, s.reply, s.err, s.d)
		}
	}
}

func TestSMTPSink(t *testing.T) {
	address, dir := sink(t)
	sendToPeer(t, address, 3)
	arrived(t, dir, 3, strings.ReplaceAll(received()+peerBody, "\r\n", "\n"))
}

func TestPostfix(t *testing.T) {
	postfix := tool(t, "postfix", "postfix")
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("Postfix needs root")
		}
		t.Skip("Postfix needs root")
	}
	next, sunk := sink(t)
	dir, err := os.MkdirTemp("/tmp", "holdfast-postfix")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	for _, sub := range []string{"etc", "spool", "data"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v: %s", err, out)
	}
	host, port, _ := strings.Cut(next, ":")
	config := strings.NewReplacer("$D", dir, "$NEXT", "["+host+"]:"+port, "$LISTEN", address)
	for name, text := range map[string]string{"main.cf": mainCF, "master.cf": masterCF} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(config.Replace(text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(postfix, "-c", filepath.Join(dir, "etc"), "start").CombinedOutput(); err != nil {
		t.Fatalf("postfix start: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command(postfix, "-c", filepath.Join(dir, "etc"), "stop").Run() })
	waitForPort(t, address)
	sendToPeer(t, address, 2)
	_, text, _ := strings.Cut(peerBody, "\r\n\r\n")
	arrived(t, sunk, 2, "by relay.example (Holdfast) with ESMTP id "+trace.ID.String(), strings.ReplaceAll(text, "\r\n", "\n"))
}

const mainCF = `compatibility_level = 3.6
config_directory = $D/etc
queue_directory = $D/spool
data_directory = $D/data
myhostname = mta.example.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = $NEXT
smtp_host_lookup = native
disable_dns_lookups = yes
alias_maps =
alias_database =
local_transport = error:no local delivery
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks,reject
maillog_file_prefixes = /var,/dev/stdout,/tmp
maillog_file = $D/maillog
`

const masterCF = `$LISTEN inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
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
`
