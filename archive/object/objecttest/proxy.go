package objecttest

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a client and an HTTP server and breaks the connection between them.
type Proxy struct {
	URL string

	mu    sync.Mutex
	fault func(*http.Request) ProxyFault
}

// ProxyFault is what goes wrong with one request.
type ProxyFault int

// The faults.
const (
	NoFault     ProxyFault = iota
	Unreachable            // the connection ends before the server has seen the request
	Pretend                // 200 and an empty body, and the server has not seen the request
	Refuse                 // 403, and the server has not seen the request
	Unavailable            // 503, before the server has seen the request
	LoseAnswer             // the server does what it was asked, and the connection ends without an answer
	LoseAnswer5            // the server does what it was asked, and the client is told 500
	CutBody                // the connection ends in the middle of the answer's body
	StallHeader            // no answer comes, and the connection stays
	StallBody              // the answer stops in the middle of its body, and the connection stays
)

// StartProxy starts one in front of target, such as Bucket.Endpoint.
func StartProxy(t testing.TB, target string) *Proxy {
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{}
	done := make(chan struct{})
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is signed
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.serve(w, r, forward, done)
	}))
	t.Cleanup(func() {
		close(done)
		server.CloseClientConnections()
		server.Close()
	})
	p.URL = server.URL
	return p
}

// SetFault has f asked about each request; nil: nothing goes wrong. It may be called by several goroutines at once.
func (p *Proxy) SetFault(f func(*http.Request) ProxyFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, forward http.Handler, done <-chan struct{}) {
	p.mu.Lock()
	f := p.fault
	p.mu.Unlock()
	fault := NoFault
	if f != nil {
		fault = f(r)
	}
	stall := func() {
		select {
		case <-done:
		case <-r.Context().Done():
		case <-time.After(time.Minute):
		}
		panic(http.ErrAbortHandler)
	}
	answer := httptest.NewRecorder()
	switch fault {
	case NoFault:
		forward.ServeHTTP(w, r)
		return
	case Unreachable:
		panic(http.ErrAbortHandler)
	case Pretend:
		return
	case Refuse:
		w.WriteHeader(http.StatusForbidden)
		return
	case Unavailable:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case StallHeader:
		stall()
	}
	forward.ServeHTTP(answer, r)
	switch fault {
	case LoseAnswer:
		panic(http.ErrAbortHandler)
	case LoseAnswer5:
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
	w.(http.Flusher).Flush()
	if fault == StallBody {
		stall()
	}
	panic(http.ErrAbortHandler)
}
