package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/web"
)

// client asks a holdfast: a running server through its socket, or this process itself.
type client struct {
	http  *http.Client
	close func() error
}

// connect asks the server that runs on data_dir; without one it opens the archive in this process, to be closed again by close.
func connect(ctx context.Context, cfg *config) (*client, error) {
	if c := dialServer(ctx, cfg); c != nil {
		return c, nil
	}
	n, err := openNode(ctx, cfg)
	if errors.Is(err, errInUse) { // a server that is starting or stopping, or another command: wait for it a little
		for range 50 {
			if c := dialServer(ctx, cfg); c != nil {
				return c, nil
			}
			if serr := sleep(ctx, 200*time.Millisecond); serr != nil {
				return nil, serr
			}
			if n, err = openNode(ctx, cfg); !errors.Is(err, errInUse) {
				break
			}
		}
	}
	if err != nil {
		return nil, err
	}
	n.start()
	l := newPipeListener()
	srv := serveSocket(l, n, queueAt(n))
	c := &client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx) },
	}}}
	c.close = func() error {
		c.http.CloseIdleConnections()
		unhurried, cancel := context.WithCancel(context.WithoutCancel(ctx)) // all of an import may have to be archived yet
		defer cancel()
		defer context.AfterFunc(ctx, func() { time.AfterFunc(graceArchive, cancel) })()
		err := errors.Join(srv.Close(), n.stop(unhurried))
		select {
		case failed := <-n.failed:
			return errors.Join(failed, err)
		default:
			return err
		}
	}
	return c, nil
}

// dialServer gives a client of the running server, or nil.
func dialServer(ctx context.Context, cfg *config) *client {
	dial := func(ctx context.Context) (net.Conn, error) {
		path, done, err := socketPath(cfg.DataDir)
		if err != nil {
			return nil, err
		}
		defer done()
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	conn, err := dial(ctx)
	if err != nil {
		return nil
	}
	conn.Close()
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	return &client{http: &http.Client{Transport: t}, close: func() error { t.CloseIdleConnections(); return nil }}
}

// do sends a request and gives the answer's body. An answer that is a problem becomes an error.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body io.Reader) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: "holdfast", Path: "/api/v1" + path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	var p web.Problem
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&p); err != nil || p.Error == "" {
		return nil, fmt.Errorf("%s %s: HTTP %s", method, path, res.Status)
	}
	return nil, &problemError{p}
}

// problemError is what the other side said.
type problemError struct{ web.Problem }

func (e *problemError) Error() string {
	text := e.Problem.Error
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

// exitOf gives a problem its exit code: a wrong question is bad usage.
func exitOf(err error) error {
	var p *problemError
	if errors.As(err, &p) && p.Status == http.StatusBadRequest {
		return usage(err)
	}
	return err
}

// stream reads an answer of lines, hands each progress on, and decodes the result.
func (c *client) stream(ctx context.Context, path string, query url.Values, progress func(web.Progress), result any) error {
	body, err := c.do(ctx, http.MethodPost, path, query, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var line struct {
			Progress *web.Progress   `json:"progress"`
			Result   json.RawMessage `json:"result"`
			Error    *web.Problem    `json:"error"`
		}
		if err := dec.Decode(&line); err != nil {
			return fmt.Errorf("the server went away in the middle: %w", err)
		}
		switch {
		case line.Error != nil:
			return &problemError{*line.Error}
		case line.Progress != nil:
			progress(*line.Progress)
		default:
			return json.Unmarshal(line.Result, result)
		}
	}
}

// underline shows where in a query a fault is.
func underline(query string, p web.Problem) string {
	if p.Pos == nil {
		return ""
	}
	return fmt.Sprintf("  %s\n  %s%s", query, strings.Repeat(" ", *p.Pos), strings.Repeat("^", max(1, p.Len)))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
