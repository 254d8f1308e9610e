package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	largeMail   = 25 << 20 // bytes
	memoryBound = 400 << 20
)

// randomLines is almost a MiB of text that neither compresses nor has words in common.
func randomLines(rng *rand.Rand) []byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	block := make([]byte, 0, 1<<20)
	for len(block) < 1<<20-80 {
		for range 76 {
			block = append(block, alphabet[rng.IntN(len(alphabet))])
		}
		block = append(block, "\r\n"...)
	}
	return block
}

// differentWords is text of short words, no two of which are the same: the most terms that a text can have.
func differentWords(size int) []byte {
	text := make([]byte, 0, size+80)
	for n := 1 << 20; len(text) < size; n++ {
		text = strconv.AppendInt(text, int64(n), 32)
		if n%12 == 0 {
			text = append(text, "\r\n"...)
		} else {
			text = append(text, ' ')
		}
	}
	return append(text, "\r\n"...)
}

// Many large messages at once, all of them under way at the same moment, in 400 MB of memory. HOLDFAST_MANY=1 has 100 sessions instead of
// 40, as many as the bound was set for; that takes 10 GB of disk for a while.
func TestMemoryOfManyLargeMessages(t *testing.T) {
	sessions := 40
	if os.Getenv("HOLDFAST_MANY") != "" {
		sessions = 100
	}
	block := randomLines(seeded(t))
	h := install(t, settings{mode: "relay", nextHop: discard(t)})
	h.withoutRaceDetector()
	h.start()
	var wg, middle sync.WaitGroup
	middle.Add(sessions)
	for i := range sessions {
		c := h.dial()
		c.SetDeadline(time.Now().Add(5 * time.Minute))
		c.begin(t, "ada@origin.test", "bob@dest.test")
		c.must(t, "DATA\r\n", "354")
		kind := "text/plain\r\n\r\n" // the index reads it
		if i%2 == 0 {
			kind = "application/octet-stream\r\nContent-Disposition: attachment; filename=large.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n"
		}
		wg.Go(func() {
			fmt.Fprintf(c, "From: ada@origin.test\r\nSubject: large\r\nX-Number: %d\r\nMIME-Version: 1.0\r\nContent-Type: %s", i, kind)
			written := 0
			for ; written < largeMail/2; written += len(block) {
				c.Write(block) // an error shows in the reply
			}
			middle.Done()
			middle.Wait()
			for ; written < largeMail; written += len(block) {
				c.Write(block)
			}
			if reply, err := c.say(".\r\n"); err != nil || reply[0] != '2' {
				t.Errorf("session %d: %q, %v", i, reply, err)
			}
		})
	}
	wg.Wait()
	relayed := h.peakMemory()
	h.settle()
	t.Logf("%d sessions with %d MiB each: %d MB while they were relayed, %d MB with archiving and indexing", sessions, largeMail>>20, relayed/1e6, h.peakMemory()/1e6)
	if peak := h.peakMemory(); peak > memoryBound {
		t.Errorf("%d MB of memory, the bound is %d MB", peak/1e6, memoryBound/1000000)
	}
	if got := h.search("subject:large"); len(got) != sessions {
		t.Errorf("%d messages are found", len(got))
	}
	h.stop()
}

// Many small messages after a large one take no more memory for it: nothing is sized by what came before.
func TestMemoryOfSmallMessagesAfterALargeOne(t *testing.T) {
	h := install(t, settings{mode: "journal"})
	h.withoutRaceDetector()
	h.start()
	send := func(c *client, subject string, body []byte) {
		t.Helper()
		c.begin(t, "ada@origin.test", "journal@archive.test")
		if reply := c.data(t, append([]byte("Subject: "+subject+"\r\n\r\n"), body...)); reply[0] != '2' {
			t.Fatal(reply)
		}
	}
	c := h.dial()
	block := randomLines(seeded(t))
	for round := range 3 {
		c.SetDeadline(time.Now().Add(5 * time.Minute))
		send(c, "large", bytes.Repeat(block, largeMail/len(block)))
		send(c, "large", differentWords(largeMail))
		h.settle()
		t.Logf("round %d: %d MB after the large ones", round, h.peakMemory()/1e6)
		for i := range 500 {
			send(c, fmt.Sprintf("small %d of round %d", i, round), []byte("small\r\n"))
		}
		h.settle()
	}
	if peak := h.peakMemory(); peak > memoryBound {
		t.Errorf("%d MB of memory, the bound is %d MB", peak/1e6, memoryBound/1000000)
	}
	h.stop()
}

// discard is a next hop that takes everything and keeps nothing, and so has no memory of its own to speak of.
func discard(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				discardMail(c)
			}()
		}
	}()
	return portOf(t, l.Addr().String())
}

func discardMail(c net.Conn) {
	r := bufio.NewReaderSize(c, 64<<10)
	reply := "220 discard.test\r\n"
	for data := false; ; {
		if reply != "" {
			if _, err := io.WriteString(c, reply); err != nil {
				return
			}
		}
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(string(line[:min(len(line), 8)])), " ")
		switch verb = strings.TrimSpace(verb); {
		case data && !bytes.Equal(line, []byte(".\r\n")):
			reply = ""
		case verb == "DATA":
			data, reply = true, "354 go on\r\n"
		case strings.HasPrefix(verb, "EHLO"):
			reply = "250-discard.test\r\n250 SIZE " + strconv.Itoa(100<<20) + "\r\n"
		default:
			data, reply = false, "250 ok\r\n"
		}
	}
}
