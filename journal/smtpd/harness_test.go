package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
)

// backend is a Handler that keeps everything, and is strict about the order in which it is called.
type backend struct {
	t    testing.TB
	mail func(*message) error
	rcpt func(*message, record.Path) error
	data func(ctx context.Context, m *message, body *Body) (*nexthop.Reply, error) // nil: keep

	mu       sync.Mutex
	messages []*message
}

// message is one transaction.
type message struct {
	b       *backend
	session *Session
	from    record.Path
	params  Params

	mu      sync.Mutex
	rcpts   []record.Path
	body    []byte
	bodyErr error // what ended the body; io.EOF: whole
	bareCR  int64
	bareLF  int64
	called  bool
	replied []error
	aborted int
	end     chan struct{} // closed by Replied and by Abort
}

func (b *backend) Mail(_ context.Context, s *Session, from record.Path, p Params) (Transaction, error) {
	m := &message{b: b, session: s, from: from, params: p, end: make(chan struct{})}
	if b.mail != nil {
		if err := b.mail(m); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = append(b.messages, m)
	return m, nil
}

func (m *message) Rcpt(_ context.Context, to record.Path) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.called || m.aborted > 0 {
		m.b.t.Error("Rcpt after the end")
	}
	if m.b.rcpt != nil {
		if err := m.b.rcpt(m, to); err != nil {
			return err
		}
	}
	m.rcpts = append(m.rcpts, to)
	return nil
}

func (m *message) Data(ctx context.Context, body *Body) (*nexthop.Reply, error) {
	m.mu.Lock()
	if m.called || m.aborted > 0 {
		m.b.t.Error("Data after the end")
	}
	if len(m.rcpts) == 0 {
		m.b.t.Error("Data without recipients")
	}
	m.called = true
	m.mu.Unlock()
	if m.b.data != nil {
		return m.b.data(ctx, m, body)
	}
	return nil, m.keep(body)
}

// keep reads a body to its end.
func (m *message) keep(body *Body) error {
	var got bytes.Buffer
	_, err := io.Copy(&got, onlyReader{body})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.body, m.bodyErr = got.Bytes(), err
	if err == nil {
		m.bodyErr = io.EOF
		m.bareCR, m.bareLF = body.BareCR(), body.BareLF()
		if body.Size() != int64(got.Len()) {
			m.b.t.Errorf("Size is %d after %d bytes", body.Size(), got.Len())
		}
		if n, err := body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			m.b.t.Errorf("Read after EOF: %d, %v", n, err)
		}
	}
	return err
}

type onlyReader struct{ io.Reader }

func (m *message) Replied(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.replied = append(m.replied, err); len(m.replied) > 1 || !m.called || m.aborted > 0 {
		m.b.t.Error("Replied out of order")
		return
	}
	close(m.end)
}

func (m *message) Abort() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.aborted++; m.aborted > 1 || m.called {
		m.b.t.Error("Abort out of order")
		return
	}
	close(m.end)
}

func (m *message) whole() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bodyErr == io.EOF
}

// ended waits for all transactions and returns them.
func (b *backend) ended() []*message {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.messages {
		select {
		case <-m.end:
		case <-time.After(10 * time.Second):
			b.t.Fatal("a transaction has neither Replied nor Abort")
		}
	}
	return b.messages
}

// only is the one message of the test.
func (b *backend) only() *message {
	b.t.Helper()
	all := b.ended()
	if len(all) != 1 {
		b.t.Fatalf("%d transactions, not one", len(all))
	}
	return all[0]
}

func relayConfig() Config {
	return Config{Name: "test", Address: "127.0.0.1:0", TrustedNetworks: []string{"127.0.0.0/8"}, Hostname: "mx.example.test"}
}

func journalConfig() Config {
	c := relayConfig()
	c.Mode = record.ModeJournal
	return c
}

func newServer(t testing.TB, cfg Config, h Handler) *Server {
	t.Helper()
	s, err := New(cfg, h, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listen serves on the loopback until the test ends, and returns the address.
func listen(t testing.TB, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

// start is a server with a backend, and a client of it that has said EHLO.
func start(t testing.TB, cfg Config) (*backend, *client) {
	t.Helper()
	b := &backend{t: t}
	c := dial(t, listen(t, newServer(t, cfg, b)))
	c.want(220)
	c.cmd("EHLO client.test", 250)
	return b, c
}

// client is one that sends exactly what it is told to.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func newClient(t testing.TB, conn net.Conn) *client {
	return &client{t: t, conn: conn, r: bufio.NewReader(conn)}
}

func dial(t testing.TB, address string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return newClient(t, conn)
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("sending %.40q: %v", s, err)
	}
}

// want reads one reply and returns it, lines joined by "\n", codes included.
func (c *client) want(code int) string {
	c.t.Helper()
	got, text, err := readReply(c.r)
	if err != nil {
		c.t.Fatalf("want %d: %v", code, err)
	}
	if got != code {
		c.t.Fatalf("want %d, got %q", code, text)
	}
	return text
}

func (c *client) cmd(line string, code int) string {
	c.t.Helper()
	c.send(line + "\r\n")
	return c.want(code)
}

// envelope is MAIL and RCPT.
func (c *client) envelope() {
	c.t.Helper()
	c.cmd("MAIL FROM:<a@client.test>", 250)
	c.cmd("RCPT TO:<b@corp.test>", 250)
}

// data sends a message, as it is to be on the wire.
func (c *client) data(wire string, code int) string {
	c.t.Helper()
	c.envelope()
	c.cmd("DATA", 354)
	c.send(wire)
	return c.want(code)
}

// closed checks that the server says no more.
func (c *client) closed() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); len(rest) > 0 {
		c.t.Fatalf("want the end, got %q, %v", rest, err)
	}
}

func readReply(r *bufio.Reader) (code int, text string, err error) {
	var lines []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, "", fmt.Errorf("after %q: %w", line, err)
		}
		line, ok := strings.CutSuffix(line, "\r\n")
		if !ok || len(line) < 4 || line[3] != ' ' && line[3] != '-' || strings.ContainsAny(line, "\r\n") {
			return 0, "", fmt.Errorf("not a reply line: %q", line)
		}
		n, err := strconv.Atoi(line[:3])
		if err != nil || n < 200 || n > 599 || code != 0 && n != code {
			return 0, "", fmt.Errorf("not a reply line: %q", line)
		}
		code = n
		lines = append(lines, line)
		if line[3] == ' ' {
			return code, strings.Join(lines, "\n"), nil
		}
	}
}

// stuff puts a body on the wire. A body that is not empty ends in CRLF.
func stuff(body string) string {
	return strings.ReplaceAll("\r\n"+body, "\r\n.", "\r\n..")[2:] + ".\r\n"
}

// unstuff is what RFC 5321 says of data, in the plainest way: the message, and what follows the end of data.
func unstuff(wire []byte) (body, rest []byte, ok bool) {
	all := append([]byte("\r\n"), wire...)
	end := bytes.Index(all, []byte("\r\n.\r\n"))
	if end < 0 {
		return nil, nil, false
	}
	body = bytes.ReplaceAll(all[:end+2], []byte("\r\n."), []byte("\r\n"))
	return body[2:], all[end+5:], true
}

// script is a client in memory that has sent all it has to say, in pieces of the sizes given, over and over.
type script struct {
	in     []byte
	sizes  []byte
	turn   int
	out    bytes.Buffer
	closed chan struct{}
	once   sync.Once
}

func newScript(in, sizes []byte) *script {
	return &script{in: in, sizes: sizes, closed: make(chan struct{})}
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	if len(s.sizes) > 0 {
		p = p[:min(len(p), int(s.sizes[s.turn%len(s.sizes)])+1)]
		s.turn++
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *script) Close() error                { s.once.Do(func() { close(s.closed) }); return nil }
func (s *script) LocalAddr() net.Addr         { return addr("127.0.0.1:25") }
func (s *script) RemoteAddr() net.Addr        { return addr("127.0.0.1:4711") }

func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }

// some is a listener for the connections given.
type some struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newSome(conns ...net.Conn) *some {
	l := &some{conns: make(chan net.Conn, 64), done: make(chan struct{})}
	for _, c := range conns {
		l.conns <- c
	}
	return l
}

func (l *some) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *some) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *some) Addr() net.Addr { return addr("127.0.0.1:25") }

// play runs a whole session in memory, and returns what the server said.
func play(t testing.TB, srv *Server, in, sizes []byte) []byte {
	t.Helper()
	s := newScript(in, sizes)
	l := newSome(s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case <-s.closed:
	case <-time.After(20 * time.Second):
		t.Fatalf("the session hangs, after %q", s.out.String())
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	return s.out.Bytes()
}

// duplex is one end of two pipes, one for each direction, so that a client may end its own and still be answered.
type duplex struct {
	in, out net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (d *duplex) Read(p []byte) (int, error)  { return d.in.Read(p) }
func (d *duplex) Write(p []byte) (int, error) { return d.out.Write(p) }
func (d *duplex) LocalAddr() net.Addr         { return addr("127.0.0.1:25") }
func (d *duplex) RemoteAddr() net.Addr        { return addr("127.0.0.1:4711") }

func (d *duplex) SetDeadline(t time.Time) error {
	return errors.Join(d.in.SetDeadline(t), d.out.SetDeadline(t))
}
func (d *duplex) SetReadDeadline(t time.Time) error  { return d.in.SetReadDeadline(t) }
func (d *duplex) SetWriteDeadline(t time.Time) error { return d.out.SetWriteDeadline(t) }

func (d *duplex) Close() error {
	d.once.Do(func() {
		d.in.Close()
		d.out.Close()
		close(d.closed)
	})
	return nil
}

// playPipe runs a whole session over net.Pipe, the client's bytes written in pieces of the sizes given, over and over, and returns what
// the server said.
func playPipe(t testing.TB, srv *Server, in, sizes []byte) []byte {
	t.Helper()
	toServer, in2 := net.Pipe()
	fromServer, out2 := net.Pipe()
	d := &duplex{in: in2, out: out2, closed: make(chan struct{})}
	l := newSome(d)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer toServer.Close()
		for turn := 0; len(in) > 0; turn++ {
			n := len(in)
			if len(sizes) > 0 {
				n = min(n, int(sizes[turn%len(sizes)])+1)
			}
			if _, err := toServer.Write(in[:n]); err != nil {
				return
			}
			in = in[n:]
		}
	})
	var out bytes.Buffer
	wg.Go(func() { io.Copy(&out, fromServer) })
	select {
	case <-d.closed:
	case <-time.After(20 * time.Second):
		t.Fatal("the session hangs")
	}
	wg.Wait()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	return out.Bytes()
}

// pipe is a connection in memory to srv, for tests within a synctest bubble.
func pipe(t testing.TB, srv *Server) *client {
	t.Helper()
	here, there := net.Pipe()
	l := newSome(from127{there})
	go srv.Serve(l)
	return newClient(t, here)
}

type from127 struct{ net.Conn }

func (from127) RemoteAddr() net.Addr { return addr("127.0.0.1:4711") }

// reader reads a transcript.
func reader(out []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(out)) }
