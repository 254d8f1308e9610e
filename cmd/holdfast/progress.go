package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/holdfast-archive/holdfast/web"
)

// progress tells how far long work is: on a terminal one line that is written over, elsewhere a plain line now and then.
type progress struct {
	mu       sync.Mutex // guards what follows
	w        io.Writer
	terminal bool
	started  time.Time    // when the step began
	from     int64        // what was done of it then
	news     web.Progress // the latest
	last     time.Time
	width    int
	now      func() time.Time
}

func newProgress(f *os.File) *progress {
	return &progress{w: f, terminal: term.IsTerminal(int(f.Fd())), started: time.Now(), last: time.Now(), now: time.Now}
}

// show is called as often as there is news, by any goroutine.
func (p *progress) show(n web.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if n.Step != p.news.Step {
		p.started, p.from = now, n.Done
	}
	p.news = n
	every := quietly
	if p.terminal {
		every = 200 * time.Millisecond
	}
	if now.Sub(p.last) < every {
		return
	}
	p.last = now
	line := fmt.Sprintf("%s: %d", n.Step, n.Done)
	if n.Total > 0 {
		line += fmt.Sprintf(" of %d", n.Total)
	}
	if n.Unit != "" {
		line += " " + n.Unit
	}
	if s := now.Sub(p.started).Seconds(); s > 0 {
		rate := float64(n.Done-p.from) / s
		line += fmt.Sprintf(", %.0f/s", rate)
		if n.Total > n.Done && rate > 0 {
			line += fmt.Sprintf(", %v left", time.Duration(float64(n.Total-n.Done)/rate)*time.Second)
		}
	}
	if p.terminal {
		fmt.Fprintf(p.w, "\r%-*s", p.width, line)
		p.width = len(line)
		return
	}
	fmt.Fprintln(p.w, line)
}

// end clears the line on a terminal.
func (p *progress) end() {
	if p.terminal && p.width > 0 {
		fmt.Fprintf(p.w, "\r%-*s\r", p.width, "")
	}
}

// sum says what the last step did, and how fast.
func (p *progress) sum() string {
	done, took := p.news.Done-p.from, p.now().Sub(p.started)
	if done <= 0 || took <= 0 {
		return ""
	}
	return fmt.Sprintf("%d %s in %v, %.0f/s", done, p.news.Unit, took.Round(100*time.Millisecond), float64(done)/took.Seconds())
}
