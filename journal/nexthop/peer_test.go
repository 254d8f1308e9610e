package nexthop

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
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

var lastPort atomic.Int64

// freePort gives a port that was free a moment ago, below the range from which outgoing connections take theirs, and another each time.
func freePort(t *testing.T) int {
	t.Helper()
	for range 5000 {
		port := 20000 + (os.Getpid()*37+int(lastPort.Add(1)))%12000
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

// openDir makes a folder that other users may read; t.TempDir is not for them.
func openDir(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// needRoot skips where the peer can't run; in CI it fails.
func needRoot(t *testing.T, who string) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s needs root", who)
	}
	t.Skipf("%s needs root", who)
}

// sink starts smtp-sink, which writes each message to a file of its own in dir.
func sink(t *testing.T, args ...string) (address, dir string) {
	t.Helper()
	path := tool(t, "smtp-sink", "postfix")
	dir = openDir(t, "holdfast-sink")
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

// peer is a Target with nothing special.
func peer(address string) Target {
	return Target{Address: address, TLS: Opportunistic, Hello: "relay.example"}
}

// sendToPeer sends n messages, which must be taken, and gives the last delivery.
func sendToPeer(t *testing.T, target Target, n int) (d *record.Delivery) {
	t.Helper()
	p := newPool(t, Options{})
	for range n {
		s := send(t.Context(), p, target,
			Mail{From: from, Size: int64(len(peerBody)), Body: "8BITMIME"}, []record.Path{to, other}, peerBody)
		if s.err != nil || s.d == nil || s.d.Outcome != record.Delivered || s.d.Recipients[1].Code != 250 {
			t.Fatalf("%v %v %v %+v", s.rcpt, s.reply, s.err, s.d)
		}
		d = s.d
	}
	return d
}

func TestSMTPSink(t *testing.T) {
	address, dir := sink(t)
	sendToPeer(t, peer(address), 3)
	arrived(t, dir, 3, strings.ReplaceAll(received()+peerBody, "\r\n", "\n"))
}

func TestSMTPSinkByLMTP(t *testing.T) {
	address, dir := sink(t, "-L")
	target := peer(address)
	target.LMTP = true
	sendToPeer(t, target, 3)
	arrived(t, dir, 3, strings.ReplaceAll(received()+peerBody, "\r\n", "\n"))
}

// smtp-sink -q breaks off after DATA or at whatever it is told to: the other host takes over, and the record says so.
func TestSMTPSinkGivesWay(t *testing.T) {
	good, dir := sink(t)
	for _, fault := range [][]string{{"-f", "CONNECT"}, {"-Q", "EHLO"}, {"-q", "MAIL"}, {"-Q", "RCPT"}, {"-q", "DATA"}, {"-r", "MAIL"}} {
		bad, none := sink(t, fault...)
		s := sendTo(t.Context(), newPool(t, Options{}), To(peer(bad), peer(good)), Mail{From: from}, []record.Path{to, other}, peerBody)
		if s.err != nil || s.d == nil || s.d.Outcome != record.Delivered || s.d.NextHop != good || s.d.Attempts != 2 {
			t.Errorf("%q: %v %v %+v", fault, s.rcpt, s.err, s.d)
		}
		if files, _ := os.ReadDir(none); len(files) > 0 {
			t.Errorf("%q has %d messages too", fault, len(files))
		}
	}
	arrived(t, dir, 6)
}

// postfix starts a Postfix of our own. It listens where the first word of each line of listeners says, and hands all it takes to a sink.
func postfix(t *testing.T, main string, listeners ...string) (sunk string) {
	t.Helper()
	path := tool(t, "postfix", "postfix")
	needRoot(t, "Postfix")
	next, sunk := sink(t)
	dir := openDir(t, "holdfast-postfix")
	for _, sub := range []string{"etc", "spool", "data"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v: %s", err, out)
	}
	host, port, _ := strings.Cut(next, ":")
	config := strings.NewReplacer("$D", dir, "$NEXT", "["+host+"]:"+port)
	for name, text := range map[string]string{"main.cf": mainCF + main, "master.cf": strings.Join(listeners, "\n") + "\n" + masterCF} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(config.Replace(text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(path, "-c", filepath.Join(dir, "etc"), "start").CombinedOutput(); err != nil {
		t.Fatalf("postfix start: %v: %s", err, out)
	}
	t.Cleanup(func() {
		exec.Command(path, "-c", filepath.Join(dir, "etc"), "abort").Run()
		if log, err := os.ReadFile(filepath.Join(dir, "maillog")); err == nil && t.Failed() {
			t.Logf("maillog:\n%s", log)
		}
	})
	for _, l := range listeners {
		address, _, _ := strings.Cut(l, " ")
		waitForPort(t, address)
	}
	return sunk
}

func loopback(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", freePort(t)) }

func TestPostfix(t *testing.T) {
	address := loopback(t)
	sunk := postfix(t, "", address+" inet n - n - - smtpd")
	sendToPeer(t, peer(address), 2)
	_, text, _ := strings.Cut(peerBody, "\r\n\r\n")
	arrived(t, sunk, 2, "by relay.example (Holdfast) with ESMTP id "+trace.ID.String(), strings.ReplaceAll(text, "\r\n", "\n"))
}

// A body with bare newlines goes to Postfix by BDAT, with the bytes as they are. Postfix keeps lines and not newlines: a bare LF leaves it as
// CRLF, a bare CR as a space, and what would be an end of data with its dot doubled. One message was sent: one arrives.
func TestPostfixTakesBareNewlines(t *testing.T) {
	address, strict := loopback(t), loopback(t)
	sunk := postfix(t, "smtpd_forbid_bare_newline = no\n", address+" inet n - n - - smtpd",
		strict+" inet n - n - - smtpd -o smtpd_discard_ehlo_keywords=chunking")
	body := "Subject: bare\r\n\r\nunix line\nold\rmac\r\n\n.\nMAIL FROM:<evil@src.example>\r\nend\r\n"
	s := send(t.Context(), newPool(t, Options{}), peer(address), Mail{From: from, BareNewlines: true}, []record.Path{to}, body)
	if s.err != nil || s.rcpt[0] != nil || s.d.SentSize != int64(len(received()+body)) || s.d.SentSHA256 != record.Sum([]byte(received()+body)) {
		t.Fatalf("%v %v %+v", s.rcpt, s.err, s.d)
	}
	arrived(t, sunk, 1, "unix line\nold mac\n\n.\nMAIL FROM:<evil@src.example>\nend\n")

	s = send(t.Context(), newPool(t, Options{}), peer(strict), Mail{From: from, BareNewlines: true}, []record.Path{to}, body)
	if !errors.Is(s.err, ErrBareNewline) || s.d.Outcome != record.Refused {
		t.Errorf("without CHUNKING: %v %v", s.reply, s.err)
	}
	sendToPeer(t, peer(strict), 1)
	arrived(t, sunk, 2)
}

// Postfix with a certificate of our own root, and with sign-in through Dovecot: what the policies take, and what they don't.
func TestPostfixTLSAndAuth(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile := ca.files(openDir(t, "holdfast-cert"), "mta.example.test")
	dove := dovecot(t, certFile, keyFile)
	plain, tls, submission, smtps := loopback(t), loopback(t), loopback(t), loopback(t)
	main := "smtpd_tls_cert_file = " + certFile + "\nsmtpd_tls_key_file = " + keyFile + "\nsmtpd_tls_session_cache_database =\n" +
		"smtpd_sasl_type = dovecot\nsmtpd_sasl_path = " + dove.auth + "\nsmtpd_tls_auth_only = yes\n"
	const signIn = " -o smtpd_sasl_auth_enable=yes -o smtpd_relay_restrictions=permit_sasl_authenticated,reject"
	sunk := postfix(t, main, plain+" inet n - n - - smtpd", tls+" inet n - n - - smtpd -o smtpd_tls_security_level=may",
		submission+" inet n - n - - smtpd -o smtpd_tls_security_level=encrypt"+signIn,
		smtps+" inet n - n - - smtpd -o smtpd_tls_wrappermode=yes"+signIn)

	if d := sendToPeer(t, peer(tls), 2); d.TLS == nil || d.TLS.Verified {
		t.Errorf("opportunistic: %+v", d.TLS)
	}
	required := peer(tls)
	required.TLS = Required
	if d := sendToPeer(t, required, 1); d.TLS == nil || d.TLS.Version != "1.3" {
		t.Errorf("required: %+v", d.TLS)
	}
	verified := peer(tls)
	verified.TLS, verified.VerifyName, verified.CAFile = Verified, "mta.example.test", ca.file
	if d := sendToPeer(t, verified, 1); d.TLS == nil || !d.TLS.Verified || d.TLS.ServerName != "mta.example.test" {
		t.Errorf("verified: %+v", d.TLS)
	}
	password := filepath.Join(t.TempDir(), "password")
	writePassword := func(s string) {
		if err := os.WriteFile(password, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writePassword("open sesame\n")
	signed := verified
	signed.Address, signed.Credentials = submission, Credentials{User: "relay", PasswordFile: password}
	sendToPeer(t, signed, 1)
	implicit := signed
	implicit.Address, implicit.Implicit = smtps, true
	sendToPeer(t, implicit, 1)
	arrived(t, sunk, 6, ".a dot")

	refused := func(what string, target Target, want error) {
		t.Helper()
		s := send(t.Context(), newPool(t, Options{}), target, Mail{From: from}, []record.Path{to}, peerBody)
		if !errors.Is(s.rcpt[0], want) {
			t.Errorf("%s: %v, want %v", what, s.rcpt[0], want)
		}
	}
	stripped := required
	stripped.Address = plain
	refused("no STARTTLS", stripped, ErrTLS)
	misnamed := verified
	misnamed.VerifyName = "another.example.test"
	refused("another name", misnamed, ErrTLS)
	foreign := verified
	foreign.CAFile = newAuthority(t).file
	refused("another root", foreign, ErrTLS)
	unsigned := verified
	unsigned.Address = submission
	s := send(t.Context(), newPool(t, Options{}), unsigned, Mail{From: from}, []record.Path{to}, peerBody)
	checkError(t, "without sign-in", s.rcpt[0], "554 5.7.1 <b@dst.example>: Recipient address rejected: Access denied")
	writePassword("open barley\n")
	refused("wrong password", signed, ErrAuth)
	arrived(t, sunk, 6, ".a dot")
}

// Dovecot by LMTP, over TCP with TLS and without, and over a socket: mail arrives, and each recipient has an answer of his own.
func TestDovecotLMTP(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile := ca.files(openDir(t, "holdfast-cert"), "mda.example.test")
	dove := dovecot(t, certFile, keyFile)
	alice, full, nobody := record.Path{Address: "alice@dst.example"}, record.Path{Address: "full@dst.example"}, record.Path{Address: "nobody@dst.example"}
	for i, target := range []Target{
		{Address: dove.tcp, TLS: None}, {Address: "unix:" + dove.socket}, {Address: dove.tcp},
		{Address: dove.tcp, TLS: Verified, VerifyName: "mda.example.test", CAFile: ca.file},
	} {
		target.LMTP, target.Hello = true, "relay.example"
		p := newPool(t, Options{})
		for _, bdat := range []bool{false, true} {
			f := sendLMTP(t, p, target, Mail{From: from, BareNewlines: bdat}, peerBody, alice, nobody, full)
			if len(f.replies) != 2 || f.replies[0].Code != 250 || f.replies[1] == nil || f.replies[1].ok() || f.err != nil {
				t.Fatalf("%+v: %v %v %+v", target, f.err, f.replies, f.d)
			}
			r := f.d.Recipients
			if r[0].Outcome != record.Delivered || r[1].Code != 550 || r[2].Outcome != record.Refused || r[2].Enhanced != f.replies[1].Enhanced() {
				t.Errorf("%+v", f.d)
			}
			if (f.d.TLS != nil) != (i >= 2) || f.d.TLS != nil && f.d.TLS.Verified != (i == 3) {
				t.Errorf("%+v: %+v", target, f.d.TLS)
			}
		}
		mails, err := filepath.Glob(filepath.Join(dove.mail, "alice@dst.example", "new", "*"))
		if err != nil || len(mails) != 2*(i+1) {
			t.Fatalf("%q %v", mails, err)
		}
		for _, mail := range mails {
			b, err := os.ReadFile(mail)
			if err != nil || !strings.HasSuffix(strings.ReplaceAll(string(b), "\r\n", "\n"), strings.ReplaceAll(received()+peerBody, "\r\n", "\n")) {
				t.Errorf("%q %v", b, err)
			}
		}
	}
}

// doves is a Dovecot of our own: alice and relay have a mailbox, full has one without room.
type doves struct {
	tcp    string // LMTP
	socket string // LMTP
	auth   string // for Postfix
	mail   string // a Maildir for each
}

func dovecot(t *testing.T, certFile, keyFile string) doves {
	t.Helper()
	path := tool(t, "dovecot", "dovecot-core")
	if !fileExists("/usr/lib/dovecot/lmtp") {
		tool(t, "lmtp of Dovecot", "dovecot-lmtpd")
	}
	needRoot(t, "Dovecot")
	dir := openDir(t, "holdfast-dovecot")
	d := doves{tcp: loopback(t), socket: filepath.Join(dir, "lmtp"), auth: filepath.Join(dir, "auth"), mail: filepath.Join(dir, "mail")}
	if err := os.Mkdir(d.mail, 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(d.mail, 0o777)
	_, port, _ := strings.Cut(d.tcp, ":")
	config := strings.NewReplacer("$D", dir, "$PORT", port, "$CERT", certFile, "$KEY", keyFile).Replace(dovecotConf)
	for name, text := range map[string]string{"dovecot.conf": config, "users": dovecotUsers} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path, "-F", "-c", filepath.Join(dir, "dovecot.conf"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if log, err := os.ReadFile(filepath.Join(dir, "log")); err == nil && t.Failed() {
			t.Logf("dovecot:\n%s", log)
		}
	})
	waitForPort(t, d.tcp)
	waitFor(t, func() bool { return fileExists(d.socket) && fileExists(d.auth) })
	return d
}

const dovecotConf = `base_dir = $D/run
state_dir = $D/state
log_path = $D/log
protocols = lmtp
auth_mechanisms = plain login
ssl = yes
ssl_cert = <$CERT
ssl_key = <$KEY
mail_location = maildir:$D/mail/%u
mail_plugins = quota
postmaster_address = postmaster@dst.example
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%n $D/users
}
userdb {
  driver = passwd-file
  args = username_format=%n $D/users
  default_fields = uid=nobody gid=nogroup home=$D/mail/%u
}
plugin {
  quota = maildir:User
  quota_rule = *:storage=100M
}
service auth {
  unix_listener $D/auth {
    mode = 0666
  }
}
service lmtp {
  unix_listener $D/lmtp {
    mode = 0666
  }
  inet_listener lmtp {
    address = 127.0.0.1
    port = $PORT
  }
}
`

const dovecotUsers = `relay:open sesame::::::
alice:x::::::
full:x::::::userdb_quota_rule=*:bytes=10
`

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

const masterCF = `postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
tlsmgr unix - - n 1000? 1 tlsmgr
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
