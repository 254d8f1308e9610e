package smtpd

import (
	"errors"
	"os"
	"time"
)

// lookoutAfter is how long a Handler may take with a whole message before we look whether the client is still there.
const lookoutAfter = time.Second

// watch is called at the end of data: from now on the Handler makes the client wait. Most replies come before the timer does, and then
// this has cost next to nothing.
func (c *conn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = true
	c.watched = make(chan struct{})
	c.timer = time.AfterFunc(lookoutAfter, c.lookout)
}

// unwatch is called when the Handler has answered. When it returns, the input is the session's alone again.
func (c *conn) unwatch() {
	c.mu.Lock()
	if !c.waiting {
		c.mu.Unlock()
		return
	}
	c.waiting = false
	if c.timer.Stop() {
		c.mu.Unlock()
		return
	}
	c.net.SetReadDeadline(longAgo)
	c.mu.Unlock()
	<-c.watched
}

// lookout reads on while the session's goroutine is in the Handler, since a read is what shows that a client is gone. What it reads is
// kept for the session; where there is no more room, it gives up.
func (c *conn) lookout() {
	defer close(c.watched)
	c.mu.Lock()
	if !c.waiting {
		c.mu.Unlock()
		return
	}
	c.net.SetReadDeadline(time.Time{})
	c.mu.Unlock()

	for c.compact(); c.w < len(c.in); {
		err := c.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.readErr = nil // unwatch ended it
			return
		}
		if err != nil {
			c.hangUp()
			return
		}
	}
}
