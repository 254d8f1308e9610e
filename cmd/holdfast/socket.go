package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/web"
)

// The socket of a running server: commands beside it ask there instead of opening the archive a second time. Mode 0700; the peer's user
// id is the actor of what it does.
const socketName = "holdfast.sock"

// errInUse is returned where another process holds data_dir and doesn't answer on its socket.
var errInUse = errors.New("data_dir is in use")

// lockDataDir makes this process the only one on data_dir, for as long as the file is open.
func lockDataDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w by another holdfast process", dir, errInUse)
	}
	return f, nil
}

// socketPath gives a path to the socket that fits into a sockaddr. A deep data_dir is reached through an open folder, where the system
// offers that; done must be called when the path is no longer needed.
func socketPath(dir string) (path string, done func(), err error) {
	path = filepath.Join(dir, socketName)
	if len(path) < 100 {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("data_dir %s is too long for a socket in it", dir)
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName), func() { d.Close() }, nil
}

// listenSocket opens the socket. The caller holds the lock of data_dir, so that what a crash left there is nobody's.
func listenSocket(dir string) (net.Listener, error) {
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	old := syscall.Umask(0o077) // the socket must not exist for a moment with more rights than it has
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		done()
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socketListener{Listener: l, done: done}, nil
}

type socketListener struct {
	net.Listener
	done func()
	once sync.Once
}

func (l *socketListener) Close() error {
	err := l.Listener.Close()
	l.once.Do(l.done)
	return err
}

// serveSocket answers commands until the listener is closed.
func serveSocket(l net.Listener, n *node, q *queueAPI) *http.Server {
	api := http.NewServeMux()
	api.Handle("/", web.API(n.services(), true))
	q.routes(api)
	(&governanceAPI{n}).routes(api)
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			by, _ := r.Context().Value(peerKey{}).(record.Actor)
			if by.ID == "" {
				http.Error(w, "unknown peer", http.StatusForbidden)
				return
			}
			api.ServeHTTP(w, r.WithContext(web.WithActor(r.Context(), by))) // by stays in the context under peerKey, too
		}),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if uid, ok := peerUID(c); ok {
				ctx = context.WithValue(ctx, peerKey{}, record.Actor{ID: fmt.Sprintf("uid:%d", uid), Via: "socket"})
			}
			return ctx
		},
	}
	go srv.Serve(l)
	return srv
}

type peerKey struct{}

// pipeListener is a listener without a network: a command that runs without a server asks itself through it.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "in process", Net: "unix"} }

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- selfConn{server}:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// selfConn is a connection from this very process.
type selfConn struct{ net.Conn }

// peerUID is the user id at the other end of a connection.
func peerUID(c net.Conn) (int, bool) {
	switch c := c.(type) {
	case selfConn:
		return os.Getuid(), true
	case *net.UnixConn:
		raw, err := c.SyscallConn()
		if err != nil {
			return 0, false
		}
		uid, ok := 0, false
		if err := raw.Control(func(fd uintptr) { uid, ok = socketPeer(int(fd)) }); err != nil {
			return 0, false
		}
		return uid, ok
	}
	return 0, false
}
