package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// A person finds a message, reads it and goes back, with the keyboard alone.
func TestByKeyboard(t *testing.T) {
	m := newMailbox(t)
	b := openTab(t)
	b.do(chromedp.Navigate(site(t, m)+"/"), chromedp.WaitVisible(chromedp.CSS("table.hits")))
	b.do(press("/"))
	b.until(`document.activeElement === document.querySelector("input[type=search]")`)
	b.do(chromedp.KeyEvent("merger"), press("Enter"))
	b.until(`location.search === "?q=merger" && document.querySelectorAll("table.hits tbody tr").length > 2 && document.readyState === "complete"`)
	if !m.did("search merger") {
		t.Error("the search is no act")
	}
	b.do(press("j"), press("j"), press("j"), press("k"))
	if at := eval[int](b, `[...document.querySelectorAll("tbody tr")].findIndex((r) => r.classList.contains("at") && r.contains(document.activeElement))`); at != 1 {
		t.Errorf("j j j k leads to row %d, not 1", at)
	}
	if ring := eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`); ring != "solid" {
		t.Errorf("the focus can't be seen: outline %q", ring)
	}
	subject := eval[string](b, `document.activeElement.textContent`)
	b.do(press("Enter"))
	b.until(`location.pathname.startsWith("/message/") && document.readyState === "complete"`)
	if got := eval[string](b, `document.querySelector("article h1").textContent`); got != subject {
		t.Errorf("opened %q, not %q", got, subject)
	}
	b.do(press("u"))
	b.until(`location.search === "?q=merger" && document.querySelector("tr.at")?.rowIndex === 2 && document.readyState === "complete"`)
	b.do(press("j"))
	b.until(`document.querySelector("tr.at")?.rowIndex === 3`)
	b.quiet()

	// Opened alone, the way back is the link.
	b.do(chromedp.Navigate(site(t, m)+"/message/"+m.mail[3].hit.ID.String()+"?q=merger"), press("u"))
	b.until(`location.pathname === "/" && location.search === "?q=merger"`)
	b.quiet()
}

func TestMessageInTheBrowser(t *testing.T) {
	m := newMailbox(t)
	id := m.add(t, noon, []byte("From: News <news@shop.example>\r\nTo: tom@acme.example\r\nSubject: Offers\r\nDate: Fri, 20 Mar 2026 10:00:00 +0100\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><head><title>x</title><body><h1>Spring offers</h1><p>Only <b>this week</b>: <a href=\"https://shop.example/?c=1\">see them</a>."+
		"<table border=1><tr><td>Chairs</td><td>40 €</td></tr><tr><td>Tables</td><td>90 €</td></tr></table><blockquote>as you asked</blockquote>\r\n"+
		"--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=\"offers \u202efdp.exe\"\r\n\r\n%PDF-1.4 here\r\n--b--\r\n"))
	b := openTab(t)
	dir := t.TempDir()
	b.do(chromedp.Navigate(site(t, m)+"/message/"+id.String()), chromedp.WaitVisible(chromedp.CSS("iframe.html")))
	frames, err := chromedp.Run(b.ctx, chromedp.Nodes(chromedp.CSS("iframe.html")))
	if err != nil {
		t.Fatal(err)
	}
	text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("body"), chromedp.FromNode(frames[0])))
	if err != nil || !strings.Contains(text, "Spring offers") || !strings.Contains(text, "40 €") {
		t.Errorf("the frame shows %q, %v", text, err)
	}
	if !m.did("view message") || !m.did("view html") {
		t.Error("the views are no acts")
	}
	if !eval[bool](b, `document.querySelector("iframe.html").contentDocument === null`) {
		t.Error("the frame is of the page's own origin")
	}
	for selector, want := range map[string]string{`table.files a`: "%PDF-1.4 here", `a[href$="/eml"]`: "Subject: Offers", `a[href$="/proof"]`: "tlog-proof"} {
		if got := b.download(dir, selector); !strings.Contains(got, want) {
			t.Errorf("%s: saved %q", selector, got)
		}
	}
	b.quiet()
	b.look(1440, 1000, false)
	b.picture("message-html")
	b.look(1440, 1000, true)
	b.picture("message-html-dark")
}

// download clicks on a link and gives what the browser saved.
func (b *tab) download(dir, selector string) string {
	b.t.Helper()
	progress := chromedp.Events(b.ctx, browser.DownloadProgress)
	on := true
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
			Behavior: browser.SetDownloadBehaviorBehaviorAllowAndName, DownloadPath: dir, EventsEnabled: &on})
		return err
	}), chromedp.Click(chromedp.CSS(selector)))
	for ev, err := range progress {
		switch {
		case err != nil:
			b.t.Fatalf("%s: %v", selector, err)
		case ev.State == browser.DownloadProgressStateCanceled:
			b.t.Fatalf("%s: not saved", selector)
		case ev.State != browser.DownloadProgressStateCompleted:
			continue
		}
		saved, err := os.ReadFile(filepath.Join(dir, ev.GUID))
		if err != nil {
			b.t.Fatal(err)
		}
		return string(saved)
	}
	return ""
}

// Every page fits its window, says nothing on the console, and is kept as a picture.
func TestPagesAtEveryWidth(t *testing.T) {
	m := newMailbox(t)
	url := site(t, m)
	pages := []struct {
		name, path string
		status     int
	}{
		{"search", "/", 200},
		{"results", "/?q=merger", 200},
		{"message", "/message/" + m.mail[4].hit.ID.String() + "?q=merger", 200},
		{"message-pending", "/message/" + m.mail[0].hit.ID.String(), 200},
		{"empty", "/?q=zebra", 200},
		{"fault", "/?q=merger%20plan%20OR%20sent%3A2026-03", 400},
		{"missing", "/message/" + record.NewID(noon).String(), 404},
		{"help", "/help", 200},
	}
	b := openTab(t)
	for _, p := range pages {
		for _, width := range []int64{1440, 768, 360} {
			b.look(width, 900, false)
			b.do(chromedp.Navigate(url + p.path))
			if p.status != 200 {
				b.answered(p.status)
			}
			if over := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
				t.Errorf("%s at %d: %d px too wide", p.name, width, over)
			}
			b.picture(p.name + map[int64]string{1440: "", 768: "-768", 360: "-360"}[width])
		}
		b.look(1440, 900, true)
		b.picture(p.name + "-dark")
		b.quiet()
	}
	b.look(1440, 900, false)
	b.do(chromedp.Navigate(url + "/"))
	heights := eval[[]float64](b, `[...new Set([...document.querySelectorAll("table.hits tbody tr")].map((r) => r.getBoundingClientRect().height))]`)
	if len(heights) != 1 || heights[0] != 36 {
		t.Errorf("rows are %v px high, not 36", heights)
	}
}

// Text must be readable in both themes: contrast of at least 4.5 (WCAG 2.2, 1.4.3).
func TestContrast(t *testing.T) {
	m := newMailbox(t)
	url := site(t, m)
	b := openTab(t)
	const measure = `(() => {
		const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
		const rgb = (c) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
		const lum = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
		const bad = [];
		for (const e of document.querySelectorAll("body *")) {
			if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || e.getClientRects().length === 0) continue;
			let under = [0, 0, 0, 0];
			for (let p = e; p && under[3] === 0; p = p.parentElement) under = rgb(getComputedStyle(p).backgroundColor);
			const a = lum(rgb(getComputedStyle(e).color).slice(0, 3)), c = lum(under.slice(0, 3));
			const ratio = (Math.max(a, c) + 0.05) / (Math.min(a, c) + 0.05);
			if (ratio < 4.5) bad.push(e.tagName + "." + e.className + " " + ratio.toFixed(2) + " " + e.textContent.trim().slice(0, 30));
		}
		return bad;
	})()`
	for _, dark := range []bool{false, true} {
		b.look(1440, 900, dark)
		for _, path := range []string{"/", "/?q=zebra", "/message/" + m.mail[0].hit.ID.String(), "/message/" + m.mail[4].hit.ID.String(), "/help"} {
			b.do(chromedp.Navigate(url + path))
			for _, bad := range eval[[]string](b, measure) {
				t.Errorf("dark %v, %s: %s", dark, path, bad)
			}
		}
	}
	b.quiet()
}
