// Package hoptest is a mail server for tests of what speaks SMTP to one. It is stricter than a real one: whatever a client sends that
// RFC 5321 does not allow at that point fails the test. And it misbehaves on request: refuses, stalls, breaks off at any byte.
package hoptest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Drop, as an answer, closes the connection instead; after a text, once that is sent: "421 bye" + Drop.
const Drop = "\x00drop"

// Hop is a server with all that it was told. The fields are to be set before the first call of Addr; Answer later by SetAnswer.
type Hop struct {
	Caps     []string    // offered after EHLO
	TLS      *tls.Config // offered with STARTTLS where set
	NoEHLO   bool        // knows HELO only
	Greeting string      // "" means 220
	LMTP     bool        // speaks LMTP (RFC 2033): the answer to "." is asked for once for each recipient, whose RCPT line comes with it
	Implicit bool        // TLS from the first byte
	User     string      // with Password: offers AUTH PLAIN LOGIN, over TLS only, and wants it before MAIL
	Password string

	// Answer gives the reply to a command, without its CRLF (multi-line replies hold "\r\n" inside); "" means the usual one. verb is
	// upper case; "." is the end of the message by DATA, whatever its BDAT was by BDAT, "BODY" the place after 354, whose answer is sent before
	// the body is read. It may block.
	// n counts the connections from 1.
	Answer func(n int, verb, line string) string

	ReadLimit  func(n int) int // bytes after which connection n is cut while reading; 0: none
	WriteLimit func(n int) int // and while writing

	t     testing.TB
	ln    net.Listener
	start sync.Once
	wg    sync.WaitGroup
	dots  atomic.Int64
	conns atomic.Int64

	mu       sync.Mutex
	open     map[net.Conn]bool
	messages []Message
	log      []string
	closed   bool
}

// Message is one that arrived whole.
type Message struct {
	Conn int      // number of the connection, from 1
	Mail string   // the whole MAIL line
	Rcpt []string // the whole RCPT lines of those accepted
	Data []byte   // un-stuffed
	Wire []byte   // as it came, with the final dot; nothing by BDAT
	TLS  bool
	User string // who had signed in
}

// New makes a server on loopback that offers what Postfix does, but for CHUNKING. It ends with the test.
func New(t testing.TB) *Hop { return Listen(t, "tcp", "127.0.0.1:0") }

// Listen makes one that listens elsewhere, by the words of net.Listen.
func Listen(t testing.TB, network, address string) *Hop {
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	h := &Hop{
		Caps: []string{"PIPELINING", "SIZE 10240000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"},
		t:    t, ln: ln, open: map[net.Conn]bool{},
	}
	t.Cleanup(h.Close)
	return h
}

// Addr is host:port, or unix:/path. From the first call on connections are served.
func (h *Hop) Addr() string {
	h.start.Do(func() { h.wg.Go(h.accept) })
	if a := h.ln.Addr(); a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return h.ln.Addr().String()
}

// SetAnswer changes Answer while the server runs.
func (h *Hop) SetAnswer(f func(n int, verb, line string) string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Answer = f
}

// Messages are those that arrived whole, whatever was answered.
func (h *Hop) Messages() []Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Message(nil), h.messages...)
}

// Log has each command line as "n: LINE", n being the connection, and "n: EOF" at its end.
func (h *Hop) Log() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.log...)
}

// Dots counts final dots that arrived.
func (h *Hop) Dots() int { return int(h.dots.Load()) }

// Conns counts connections so far.
func (h *Hop) Conns() int { return int(h.conns.Load()) }

// CutAll closes all open connections, as a server does that is restarted.
func (h *Hop) CutAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.open {
		c.Close()
	}
}

// Close ends the server and waits for its connections.
func (h *Hop) Close() {
	h.ln.Close()
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.CutAll()
	h.wg.Wait()
}

func (h *Hop) accept() {
	for {
		c, err := h.ln.Accept()
		if err != nil {
			return
		}
		n := int(h.conns.Add(1))
		h.mu.Lock()
		h.open[c] = true
		if h.closed {
			c.Close()
		}
		h.mu.Unlock()
		h.wg.Go(func() {
			h.serve(n, c)
			c.Close()
			h.mu.Lock()
			delete(h.open, c)
			h.log = append(h.log, fmt.Sprintf("%d: EOF", n))
			h.mu.Unlock()
		})
	}
}

// session is one connection.
type session struct {
	h     *Hop
	n     int
	c     net.Conn
	r     *bufio.Reader
	hello bool
	tls   bool
	user  string
	mail  string
	rcpt  []string
	chunk *Message // by BDAT, so far
}

func (h *Hop) serve(n int, c net.Conn) {
	lc := &limited{Conn: c}
	if h.ReadLimit != nil {
		lc.read = h.ReadLimit(n)
	}
	if h.WriteLimit != nil {
		lc.written = h.WriteLimit(n)
	}
	s := &session{h: h, n: n, c: lc, r: bufio.NewReader(lc)}
	if h.Implicit && !s.secure() {
		return
	}
	if greeting := h.Greeting; s.say(or(s.answer("GREETING", ""), or(greeting, "220 hop.test ESMTP"))) {
		for s.command() {
		}
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (s *session) answer(verb, line string) string {
	s.h.mu.Lock()
	f := s.h.Answer
	s.h.mu.Unlock()
	if f == nil {
		return ""
	}
	return f(s.n, verb, line)
}

// say sends a reply; false where the connection is to be closed.
func (s *session) say(reply string) bool {
	reply, drop := strings.CutSuffix(reply, Drop)
	if reply != "" {
		if _, err := io.WriteString(s.c, reply+"\r\n"); err != nil {
			return false
		}
	}
	return !drop
}

// fault fails the test.
func (s *session) fault(format string, args ...any) {
	s.h.t.Errorf("next hop, connection %d: %s", s.n, fmt.Sprintf(format, args...))
}

// line reads a command line.
func (s *session) line() (string, bool) {
	b, err := s.r.ReadBytes('\n')
	if err != nil {
		return "", false // also inside a line: the client hung up
	}
	line, ok := bytes.CutSuffix(b, []byte("\r\n"))
	if !ok {
		s.fault("bare LF ends %q", b)
	}
	for _, c := range line {
		if c < ' ' || c == 0x7f {
			s.fault("control character in %q", line)
			break
		}
	}
	if len(line) > 2000 {
		s.fault("command line of %d bytes", len(line))
	}
	s.h.mu.Lock()
	s.h.log = append(s.h.log, fmt.Sprintf("%d: %s", s.n, line))
	s.h.mu.Unlock()
	return string(line), true
}

func (s *session) command() bool {
	line, ok := s.line()
	if !ok {
		return false
	}
	verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
	if s.r.Buffered() > 0 && verb != "BDAT" && (!s.offers("PIPELINING") || verb != "RSET" && verb != "MAIL" && verb != "RCPT") {
		s.fault("something was sent behind %q without waiting", line)
	}
	said := s.answer(verb, line)
	refused := said != "" && said[0] != '2' && said[0] != '3'
	if s.chunk != nil && verb != "BDAT" && verb != "RSET" {
		s.fault("%q inside a message by BDAT", line)
	}
	switch verb {
	case "EHLO", "LHLO":
		if s.h.NoEHLO {
			return s.say(or(said, "502 5.5.1 what?"))
		}
		if s.h.LMTP != (verb == "LHLO") {
			s.fault("%q to a server with LMTP %v", line, s.h.LMTP)
		}
		s.hello, s.mail, s.rcpt = !refused, "", nil
		return s.say(or(said, s.ehlo()))
	case "HELO":
		s.hello, s.mail, s.rcpt = !refused, "", nil
		return s.say(or(said, "250 hop.test"))
	case "STARTTLS":
		return s.startTLS(said)
	case "AUTH":
		return s.auth(line, said)
	case "RSET":
		s.mail, s.rcpt, s.chunk = "", nil, nil
		return s.say(or(said, "250 2.0.0 reset"))
	case "MAIL":
		if !s.hello || s.mail != "" || s.user != s.h.User {
			s.fault("%q out of order", line)
		}
		s.parameters(line)
		if !refused {
			s.mail = line
		}
		return s.say(or(said, "250 2.1.0 sender ok"))
	case "RCPT":
		if s.mail == "" {
			return s.say(or(said, "503 5.5.1 MAIL first")) // may have been sent behind a MAIL that was refused
		}
		s.parameters(line)
		if !refused {
			s.rcpt = append(s.rcpt, line)
		}
		return s.say(or(said, "250 2.1.5 recipient ok"))
	case "DATA":
		if len(s.rcpt) == 0 {
			s.fault("DATA without a recipient")
		}
		if !s.say(or(said, "354 go on")) || refused {
			return !strings.HasSuffix(said, Drop)
		}
		return s.data()
	case "BDAT":
		return s.bdat(line, said)
	case "QUIT":
		s.say(or(said, "221 2.0.0 bye"))
		return false
	}
	s.fault("unknown command %q", line)
	return s.say("500 5.5.2 what?")
}

func (s *session) ehlo() string {
	lines := []string{"250-hop.test"}
	for _, c := range s.h.Caps {
		lines = append(lines, "250-"+c)
	}
	if s.h.TLS != nil && !s.tls {
		lines = append(lines, "250-STARTTLS")
	}
	if s.h.User != "" && s.tls && !s.offers("AUTH") {
		lines = append(lines, "250-AUTH PLAIN LOGIN")
	}
	last := len(lines) - 1
	lines[last] = "250 " + lines[last][4:]
	return strings.Join(lines, "\r\n")
}

func (s *session) offers(name string) bool {
	for _, c := range s.h.Caps {
		if word, _, _ := strings.Cut(c, " "); word == name {
			return !s.h.NoEHLO
		}
	}
	return false
}

// parameters sees to it that a path is one path, and that nothing is asked for that was not offered.
func (s *session) parameters(line string) {
	_, path, ok := strings.Cut(line, "<")
	path, rest, ok2 := strings.Cut(path, ">")
	if !ok || !ok2 || strings.ContainsAny(rest, "<>") || rest != "" && rest[0] != ' ' || strings.ContainsAny(path, "<>") {
		s.fault("no clean path in %q", line)
	}
	for p := range strings.FieldsSeq(rest) {
		name, _, _ := strings.Cut(p, "=")
		need, known := map[string]string{
			"SIZE": "SIZE", "BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8", "RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN", "ORCPT": "DSN",
		}[name]
		if !known || !s.offers(need) {
			s.fault("parameter %q was not offered: %q", p, line)
		}
	}
	if !s.offers("SMTPUTF8") || !strings.Contains(s.mail+line, " SMTPUTF8") {
		for i := range len(line) {
			if line[i] >= 0x80 {
				s.fault("non-ASCII address without SMTPUTF8: %q", line)
				break
			}
		}
	}
}

func (s *session) startTLS(said string) bool {
	if s.h.TLS == nil || s.tls {
		s.fault("STARTTLS was not offered")
		return false
	}
	if !s.say(or(said, "220 2.0.0 go on")) {
		return false
	}
	if said != "" && said[0] != '2' {
		return true
	}
	return s.secure()
}

func (s *session) secure() bool {
	tc := tls.Server(s.c, s.h.TLS)
	if err := tc.Handshake(); err != nil {
		return false
	}
	s.c, s.r, s.tls, s.hello = tc, bufio.NewReader(tc), true, false
	return true
}

// auth takes PLAIN with an initial response, or LOGIN without one.
func (s *session) auth(line, said string) bool {
	if !s.hello || !s.tls || s.h.User == "" || s.user != "" || s.mail != "" {
		s.fault("%q out of order", line)
	}
	var user, password string
	if said == "" || said[0] == '2' {
		_, mechanism, _ := strings.Cut(line, " ")
		mechanism, initial, _ := strings.Cut(mechanism, " ")
		switch mechanism {
		case "PLAIN":
			parts := strings.Split(s.decoded(initial), "\x00")
			if len(parts) != 3 || parts[0] != "" {
				s.fault("not PLAIN: %q", line)
				return false
			}
			user, password = parts[1], parts[2]
		case "LOGIN":
			for _, step := range []struct {
				prompt string
				value  *string
			}{{"VXNlciBOYW1lAA==", &user}, {"UGFzc3dvcmQA", &password}} { // "User Name", "Password", as some write it
				if !s.say("334 " + step.prompt) {
					return false
				}
				answer, ok := s.line()
				if !ok {
					return false
				}
				*step.value = s.decoded(answer)
			}
		default:
			s.fault("mechanism was not offered: %q", line)
		}
		if user != s.h.User || password != s.h.Password {
			return s.say("535 5.7.8 who are you, with " + password + "?") // tells what nobody should: it must not get into a log
		}
		s.user = user
	}
	return s.say(or(said, "235 2.7.0 welcome"))
}

func (s *session) decoded(text string) string {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		s.fault("%q is not base64", text)
	}
	return string(b)
}

// bdat reads one chunk (RFC 3030).
func (s *session) bdat(line, said string) bool {
	var n int
	var end string
	fields := strings.Fields(line)
	if len(fields) == 3 {
		end = fields[2]
	}
	if len(fields) < 2 || len(fields) > 3 || end != "" && end != "LAST" || !s.offers("CHUNKING") || len(s.rcpt) == 0 {
		s.fault("%q out of order", line)
		return false
	}
	if _, err := fmt.Sscanf(fields[1], "%d", &n); err != nil || n < 0 {
		s.fault("%q: no size", line)
		return false
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(s.r, p); err != nil {
		return false
	}
	if s.r.Buffered() > 0 {
		s.fault("something was sent behind a chunk without waiting")
	}
	if s.chunk == nil {
		s.chunk = &Message{Conn: s.n, Mail: s.mail, Rcpt: s.rcpt, TLS: s.tls, User: s.user}
	}
	s.chunk.Data = append(s.chunk.Data, p...)
	if end == "" {
		return s.say(or(said, fmt.Sprintf("250 2.0.0 %d bytes", n)))
	}
	m := *s.chunk
	s.chunk = nil
	return s.whole(m, func(string) string { return said })
}

// whole keeps a message, and answers it.
func (s *session) whole(m Message, answer func(rcpt string) string) bool {
	s.h.dots.Add(1)
	s.h.mu.Lock()
	s.h.messages = append(s.h.messages, m)
	s.h.mu.Unlock()
	rcpts := s.rcpt
	s.mail, s.rcpt = "", nil
	ok := "250 2.0.0 Ok: queued as " + fmt.Sprintf("%04X", len(m.Data))
	if !s.h.LMTP {
		return s.say(or(answer(""), ok))
	}
	for _, rcpt := range rcpts {
		if !s.say(or(answer(rcpt), ok)) {
			return false
		}
	}
	return true
}

// data reads a message up to CRLF.CRLF and un-stuffs it.
func (s *session) data() bool {
	if s.r.Buffered() > 0 {
		s.fault("body before 354")
	}
	if early := s.answer("BODY", ""); early != "" && !s.say(early) {
		return false
	}
	m := Message{Conn: s.n, Mail: s.mail, Rcpt: s.rcpt, TLS: s.tls, User: s.user}
	lineStart := true
	for {
		chunk, err := s.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return false
		}
		m.Wire = append(m.Wire, chunk...)
		if lineStart && chunk[0] == '.' {
			if string(chunk) == ".\r\n" {
				break
			}
			if len(chunk) < 2 || chunk[1] != '.' {
				s.fault("line begins with one dot: %.40q", chunk)
			}
			chunk = chunk[1:]
		}
		m.Data = append(m.Data, chunk...)
		lineStart = bytes.HasSuffix(m.Wire, []byte("\r\n"))
	}
	return s.whole(m, func(rcpt string) string { return s.answer(".", rcpt) })
}

// limited cuts a connection after so many bytes.
type limited struct {
	net.Conn
	read, written int // bytes left; 0: no limit
}

func (l *limited) Read(p []byte) (int, error) {
	if l.read < 0 {
		l.Close()
		return 0, io.EOF
	}
	if l.read > 0 {
		p = p[:min(len(p), l.read)]
	}
	n, err := l.Conn.Read(p)
	if l.read > 0 {
		if l.read -= n; l.read == 0 {
			l.read = -1
		}
	}
	return n, err
}

func (l *limited) Write(p []byte) (int, error) {
	if l.written < 0 {
		l.Close()
		return 0, io.ErrClosedPipe
	}
	cut := l.written > 0 && len(p) >= l.written
	if cut {
		p = p[:l.written]
	}
	n, err := l.Conn.Write(p)
	if l.written > 0 {
		if l.written -= n; l.written == 0 {
			l.written = -1
		}
	}
	if cut {
		l.Close()
		return n, io.ErrClosedPipe
	}
	return n, err
}
