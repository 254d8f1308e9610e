package e2e

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/holdfast-archive/holdfast/web"
)

// patience bounds one test in the browser.
const patience = 2 * time.Minute

// tab is a page in a browser of its own, and what its console says.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex
	console []string
	done    chan struct{} // the console was read to its end
	stop    func()
}

// openTab starts a browser. No name resolves but those that rules map.
func openTab(t *testing.T, rules ...string) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("chromium is missing: apt-get install chromium")
		}
		t.Skip("chromium is missing: apt-get install chromium")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	alloc, cancelAlloc := chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1440, 900),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-default-apps", true), chromedp.Flag("no-proxy-server", true), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("disable-features", "IsolateSandboxedIframes"), // so that the frame's text and console are those of its page
		chromedp.Flag("host-resolver-rules", strings.Join(append(rules, "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"), ", ")))
	t.Cleanup(cancelAlloc)
	page, cancelPage := chromedp.NewContext(alloc)
	b := &tab{t: t, ctx: page, done: make(chan struct{}), stop: cancelPage}
	messages := chromedp.Console(page)
	go func() {
		defer close(b.done)
		for m, err := range messages {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.console = append(b.console, m.String())
			b.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancelPage(); <-b.done })
	return b
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// press is one key, as a keyboard gives it: what a page does with the key may keep its letter from being typed.
func press(key string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		down := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: key, Text: key}
		if key == "Enter" {
			down.Text, down.Code, down.WindowsVirtualKeyCode = "\r", "Enter", 13
		}
		if _, err := chromedp.Call(ctx, input.DispatchKeyEvent, down); err != nil {
			return err
		}
		_, err := chromedp.Call(ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: key})
		return err
	})
}

// eval gives the value of an expression in the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for an expression to be true. It survives that pages change.
func (b *tab) until(expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		v, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression))
		if err == nil && v {
			return
		}
		if b.ctx.Err() != nil || time.Now().After(deadline) {
			where, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`location.href + " " + document.activeElement.outerHTML`))
			b.t.Fatalf("never true: %s (%v) at %s", expression, err, where)
		}
	}
}

// quiet fails the test where the console said anything: an error, a violation of a policy, a failed load.
func (b *tab) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.console {
		b.t.Errorf("console: %s", line)
	}
	b.console = nil
}

// answered takes the one line that a page with an error status leaves on the console.
func (b *tab) answered(status int) {
	b.t.Helper()
	want := fmt.Sprintf("status of %d", status)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b.mu.Lock()
		i := slices.IndexFunc(b.console, func(s string) bool { return strings.Contains(s, want) })
		if i >= 0 {
			b.console = slices.Delete(b.console, i, i+1)
		}
		b.mu.Unlock()
		if i >= 0 {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("the console never said %q", want)
		}
	}
}

// look says how wide the page is and which theme it has.
func (b *tab) look(width, height int64, dark bool) {
	b.t.Helper()
	theme := "light"
	if dark {
		theme = "dark"
	}
	b.do(chromedp.EmulateViewport(width, height), chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}})
		return err
	}))
}

// picture keeps a screenshot for whoever wants to look at it, in the folder HOLDFAST_SCREENSHOTS.
func (b *tab) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("HOLDFAST_SCREENSHOTS")
	if dir == "" {
		dir = b.t.TempDir()
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if len(png) < 3000 {
		b.t.Errorf("%s: a picture of %d bytes shows nothing", name, len(png))
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// site serves the pages over a mailbox.
func site(t *testing.T, m *mailbox) string {
	t.Helper()
	srv := httptest.NewServer(web.Handler(web.Services{Search: m}, nil))
	t.Cleanup(srv.Close)
	return srv.URL
}
