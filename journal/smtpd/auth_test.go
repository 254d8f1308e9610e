package smtpd

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// cheap is argon2id as cheap as it comes, with the salt "saltsaltsaltsalt".
const cheap = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$"

func writeUsers(t testing.TB, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func userLine(t testing.TB, name, password string) string {
	t.Helper()
	line, err := UserLine(name, password)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// cheapLine is UserLine for those who have no time.
func cheapLine(name, password string) string {
	salt := []byte("saltsaltsaltsalt")
	return name + ":" + cheap + base64.RawStdEncoding.EncodeToString(argon2.IDKey([]byte(password), salt, 1, 8, 1, 32))
}

// authConfig is a listener for which AUTH is the only way in.
func authConfig(t *testing.T, lines ...string) Config {
	cfg := relayConfig()
	cfg.TrustedNetworks = nil
	cfg.TLS = writeCert(t, t.TempDir(), "mx.example.test")
	cfg.Auth.Users = writeUsers(t, lines...)
	return cfg
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestAuth(t *testing.T) {
	cfg := authConfig(t, "# users", "", cheapLine("ann", "secret"), cheapLine("bo@x.test", "p:ä ss"))
	b, c := start(t, cfg)
	if text := c.cmd("EHLO x", 250); strings.Contains(text, "AUTH") {
		t.Errorf("offered in clear text: %q", text)
	}
	c.cmd("AUTH PLAIN "+b64("\x00ann\x00secret"), 538)
	if text := c.cmd("MAIL FROM:<a@x.test>", 530); text != "530 5.7.0 Authentication required" {
		t.Error(text)
	}
	c.startTLS()
	c.cmd("AUTH PLAIN "+b64("\x00ann\x00secret"), 503) // EHLO comes first
	if text := c.cmd("EHLO x", 250); !strings.Contains(text, "AUTH PLAIN LOGIN") {
		t.Errorf("EHLO: %q", text)
	}
	c.cmd("MAIL FROM:<a@x.test>", 530)
	for line, code := range map[string]int{
		"AUTH": 504, "AUTH CRAM-MD5": 504, "AUTH PLAIN !!": 501, "AUTH PLAIN =": 501, "AUTH PLAIN " + b64("ann\x00secret"): 501,
		"AUTH PLAIN " + b64("bo\x00ann\x00secret"): 501, "AUTH PLAIN " + b64("\x00ann\x00"): 501, "AUTH PLAIN " + b64("\x00ann\x00secret") + "\x01": 500,
	} {
		c.cmd(line, code)
	}
	if text := c.cmd("AUTH PLAIN "+b64("\x00ann\x00wrong"), 535); !strings.HasPrefix(text, "535 5.7.8 ") {
		t.Error(text)
	}
	c.cmd("AUTH PLAIN", 334)
	c.cmd("*", 501)
	if text := c.cmd("AUTH PLAIN", 334); text != "334 " {
		t.Errorf("%q", text)
	}
	if text := c.cmd(b64("ann\x00ann\x00secret"), 235); !strings.HasPrefix(text, "235 2.7.0 ") {
		t.Error(text)
	}
	c.cmd("AUTH PLAIN "+b64("\x00ann\x00secret"), 503)
	if text := c.cmd("EHLO x", 250); strings.Contains(text, "AUTH") {
		t.Errorf("EHLO: %q", text)
	}
	c.cmd("MAIL FROM:<a@x.test> AUTH=<>", 250)
	c.cmd("AUTH LOGIN", 503)
	c.cmd("RCPT TO:<b@elsewhere.test>", 250)
	c.conn.Close()
	if got := b.only().session.Auth; got == nil || *got != (record.Auth{Mechanism: "PLAIN", Identity: "ann"}) {
		t.Errorf("auth %+v", got)
	}

	b, c = start(t, cfg)
	c.startTLS()
	c.cmd("EHLO x", 250)
	if text := c.cmd("AUTH login", 334); text != "334 "+b64("Username:") {
		t.Error(text)
	}
	if text := c.cmd(b64("bo@x.test"), 334); text != "334 "+b64("Password:") {
		t.Error(text)
	}
	c.cmd(b64("p:ä ss"), 235)
	c.data("x\r\n.\r\n", 250)
	if got := b.only().session.Auth; got == nil || *got != (record.Auth{Mechanism: "LOGIN", Identity: "bo@x.test"}) {
		t.Errorf("auth %+v", got)
	}
}

// TestAuthFileIsReadAgain: who is taken out can't come in any more, and a broken file changes nothing.
func TestAuthFileIsReadAgain(t *testing.T) {
	cfg := authConfig(t, cheapLine("ann", "secret"))
	address := listen(t, newServer(t, cfg, &backend{t: t}))
	try := func(name, password string, code int) {
		t.Helper()
		c := dial(t, address)
		c.want(220)
		c.cmd("EHLO x", 250)
		c.startTLS()
		c.cmd("EHLO x", 250)
		c.cmd("AUTH PLAIN "+b64("\x00"+name+"\x00"+password), code)
	}
	try("ann", "secret", 235)
	if err := os.WriteFile(cfg.Auth.Users, []byte(cheapLine("robert", "word")), 0o600); err != nil {
		t.Fatal(err)
	}
	try("ann", "secret", 535)
	try("robert", "word", 235)
	if err := os.WriteFile(cfg.Auth.Users, []byte("robert:half"), 0o600); err != nil {
		t.Fatal(err)
	}
	try("robert", "word", 235)
	if err := os.Remove(cfg.Auth.Users); err != nil {
		t.Fatal(err)
	}
	try("robert", "word", 235)
}

// TestAuthFailures: each failure costs a second; three end the session, and ten in a minute are the client's last, however it connects.
func TestAuthFailures(t *testing.T) {
	cfg := authConfig(t, cheapLine("ann", "secret"))
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, cfg, &backend{t: t})
		begin := func() *client {
			c := pipe(t, srv)
			c.want(220)
			c.cmd("EHLO x", 250)
			c.startTLS()
			c.cmd("EHLO x", 250)
			return c
		}
		failures := 0
		for failures < DefaultAuthFailureRate {
			c := begin()
			for range min(maxAuthFailures, DefaultAuthFailureRate-failures) {
				start := time.Now()
				c.cmd("AUTH PLAIN "+b64("\x00nobody\x00secret"), 535)
				failures++
				if d := time.Since(start); d != authDelay {
					t.Errorf("answered after %v", d)
				}
			}
			if failures%maxAuthFailures == 0 {
				c.want(421)
				c.closed()
			} else {
				c.conn.Close()
			}
		}
		c := begin()
		c.cmd("AUTH PLAIN "+b64("\x00ann\x00secret"), 421)
		c.closed()
		time.Sleep(rateWindow)
		c = begin()
		c.cmd("AUTH PLAIN "+b64("\x00ann\x00secret"), 235)
		c.conn.Close()
		synctest.Wait()
		stop(t, srv)
	})
}

func TestUserLine(t *testing.T) {
	for _, bad := range [][2]string{{"", "x"}, {"a:b", "x"}, {"a b", "x"}, {"#a", "x"}, {"a", ""}, {"a", "\x00"}, {"a", strings.Repeat("x", 2000)}, {"\xff", "x"}} {
		if line, err := UserLine(bad[0], bad[1]); err == nil {
			t.Errorf("%q: %q", bad, line)
		}
	}
	a, b := userLine(t, "ann", "secret"), userLine(t, "ann", "secret")
	if a == b {
		t.Error("no salt")
	}
	u, err := parseUser(a)
	if err != nil || u.name != "ann" || !u.matches("secret") || u.matches("Secret") || u.matches("") {
		t.Errorf("%+v, %v", u, err)
	}
	// made by argon2-cffi, a library that is not ours
	u, err = parseUser("x:$argon2id$v=19$m=65536,t=3,p=4$MIIRqgvgQbgj220jfp0MPA$YfwJSVjtjSU0zzV/P3S9nnQ/USre2wvJMjfCIjrTQbg")
	if err != nil || u.memory != 65536 || u.time != 3 || u.lanes != 4 || len(u.key) != 32 {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestUsersFile(t *testing.T) {
	key := base64.RawStdEncoding.EncodeToString(make([]byte, 32))
	for name, line := range map[string]string{
		"no hash": "ann", "clear text": "ann:secret", "no name": ":" + cheap + key, "argon2i": "ann:" + strings.Replace(cheap, "argon2id", "argon2i", 1) + key,
		"other version": "ann:" + strings.Replace(cheap, "19", "16", 1) + key, "no memory": "ann:" + strings.Replace(cheap, "m=8", "m=0", 1) + key,
		"all memory": "ann:" + strings.Replace(cheap, "m=8", "m=4194304", 1) + key, "for ever": "ann:" + strings.Replace(cheap, "t=1", "t=1000000", 1) + key,
		"lanes": "ann:" + strings.Replace(cheap, "p=1", "p=256", 1) + key, "short key": "ann:" + cheap + "AAAA", "bad base64": "ann:" + cheap + "!" + key,
		"more": "ann:" + cheap + key + "$x", "twice": "ann:" + cheap + key + "\nann:" + cheap + key,
	} {
		file := writeUsers(t, "# comment", line)
		_, err := readUsers(file)
		if err == nil || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), key) {
			t.Errorf("%s: the error tells of the hash: %v", name, err)
		}
		cfg := authConfig(t, line)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), ": auth: users: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNoNameOracle: a name that there is not costs a hash as well, that of a user whose name is there, and always the same one.
func TestNoNameOracle(t *testing.T) {
	key := base64.RawStdEncoding.EncodeToString(make([]byte, 32))
	var lines []string
	for i := range 10 {
		lines = append(lines, fmt.Sprintf("user%d:%s%s", i, cheap, key))
	}
	u := newUsers(writeUsers(t, lines...), nil)
	list, err := u.list()
	if err != nil {
		t.Fatal(err)
	}
	stand := map[string]int{}
	for i := range 1000 {
		name := fmt.Sprint("nobody", i)
		who := u.standIn(list, name)
		if again := u.standIn(list, name); again != who {
			t.Fatal("another one the second time")
		}
		stand[who.name]++
	}
	if len(stand) != 10 {
		t.Errorf("who stands in: %v", stand)
	}
	if ok, err := u.check(nil, "nobody", "x"); ok || err != nil {
		t.Error(ok, err)
	}
	none := newUsers(writeUsers(t, "# nobody"), nil)
	if ok, err := none.check(nil, "ann", "secret"); ok || err != nil {
		t.Error(ok, err)
	}
}

// TestHashingIsBounded: however many try at once, few hashes are computed at once, few wait, and the others are told to come again.
func TestHashingIsBounded(t *testing.T) {
	u := newUsers(writeUsers(t, cheapLine("ann", "secret")), nil)
	for range maxHashing { // all are busy
		hashing <- struct{}{}
	}
	var wg sync.WaitGroup
	results := make(chan error, 2*maxWaiting)
	for range 2 * maxWaiting {
		wg.Go(func() {
			_, err := u.check(nil, "ann", "secret")
			results <- err
		})
	}
	for range maxWaiting {
		if err := <-results; err != errBusy {
			t.Errorf("%v", err)
		}
	}
	for range maxHashing {
		<-hashing
	}
	wg.Wait()
	for range maxWaiting {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	done := make(chan struct{})
	close(done)
	for range maxHashing {
		hashing <- struct{}{}
	}
	if _, err := u.check(done, "ann", "secret"); err != errBusy {
		t.Error(err)
	}
	for range maxHashing {
		<-hashing
	}
}
