package nexthop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func parse(s string) (*Reply, error) {
	return readReply(bufio.NewReaderSize(strings.NewReader(s), maxReplyLine))
}

func TestReadReply(t *testing.T) {
	long := strings.Repeat("x", maxReplyLine-6)
	for _, tc := range []struct {
		in       string
		code     int
		lines    []string
		enhanced string
		text     string
	}{
		{"250 ok\r\n", 250, []string{"ok"}, "", "ok"},
		{"250\r\n", 250, []string{""}, "", ""},
		{"250 \r\n", 250, []string{""}, "", ""},
		{"250-a\r\n250\r\n", 250, []string{"a", ""}, "", "a\n"},
		{"550-5.7.1 a\r\n550-b\r\n550 5.7.1 c\r\n", 550, []string{"5.7.1 a", "b", "5.7.1 c"}, "5.7.1", "a\nb\nc"},
		{"550 5.7.1\r\n", 550, []string{"5.7.1"}, "5.7.1", ""},
		{"550 2.0.0 other class\r\n", 550, []string{"2.0.0 other class"}, "", "2.0.0 other class"},
		{"550 5.1234.0 no code\r\n", 550, []string{"5.1234.0 no code"}, "", "5.1234.0 no code"},
		{"550 5..0 no code\r\n", 550, []string{"5..0 no code"}, "", "5..0 no code"},
		{"250 a\tb\r\n", 250, []string{"a\tb"}, "", "a\tb"},
		{"250 a\rb\x00\x1b[1m\r\n", 250, []string{"a?b??[1m"}, "", "a?b??[1m"},
		{"250 bücher\r\n", 250, []string{"bücher"}, "", "bücher"},
		{"250 " + long + "\r\n", 250, []string{long}, "", long},
	} {
		r, err := parse(tc.in)
		if err != nil {
			t.Errorf("%.60q: %v", tc.in, err)
			continue
		}
		if r.Code != tc.code || !slices.Equal(r.Lines, tc.lines) || r.Enhanced() != tc.enhanced || r.Text() != tc.text {
			t.Errorf("%.60q: %d %.60q, enhanced %q, text %.60q", tc.in, r.Code, r.Lines, r.Enhanced(), r.Text())
		}
		if r.Temporary() {
			t.Errorf("%.60q is temporary", tc.in)
		}
	}
	if r, _ := parse("451 4.3.0 later\r\n"); !r.Temporary() || r.Error() != "451 4.3.0 later" {
		t.Errorf("%v", r)
	}
}

func TestReadReplyMalformed(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want error
	}{
		{"", io.EOF},
		{"250", io.ErrUnexpectedEOF},
		{"250 ok\r", io.ErrUnexpectedEOF},
		{"250-a\r\n", io.ErrUnexpectedEOF},
		{"250 ok\n", errReply},
		{"\r\n", errReply},
		{"25\r\n", errReply},
		{"150 a\r\n", errReply},
		{"600 a\r\n", errReply},
		{"2 0 a\r\n", errReply},
		{"2500 a\r\n", errReply},
		{"250_a\r\n", errReply},
		{"250-a\r\n251 b\r\n", errReply},
		{"HTTP/1.1 400 Bad Request\r\n", errReply},
		{"250 " + strings.Repeat("x", maxReplyLine) + "\r\n", errReply},
		{strings.Repeat("250-x\r\n", maxReplyLines) + "250 x\r\n", errReply},
	} {
		if r, err := parse(tc.in); !errors.Is(err, tc.want) {
			t.Errorf("%.60q: %v %v, want %v", tc.in, r, err, tc.want)
		}
	}
	if _, err := parse(strings.Repeat("250-x\r\n", maxReplyLines-1) + "250 x\r\n"); err != nil {
		t.Errorf("%d lines: %v", maxReplyLines, err)
	}
}

// A reply that was read can be written again, and says the same.
func FuzzReadReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "550-5.7.1 a\r\n550 5.7.1 b\r\n", "250\r\n", "250-\r\n250\r\n", "421 4.3.2 \x00\r\r\n", "250 ok\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		r, err := parse(in)
		if err != nil {
			return
		}
		var b strings.Builder
		for i, line := range r.Lines {
			sep := byte('-')
			if i == len(r.Lines)-1 {
				sep = ' '
			}
			fmt.Fprintf(&b, "%d%c%s\r\n", r.Code, sep, line)
		}
		again, err := parse(b.String())
		if len(b.String()) > maxReplyLine {
			return // "250" is a byte shorter than "250 "
		}
		if err != nil || again.Code != r.Code || !slices.Equal(again.Lines, r.Lines) || again.Text() != r.Text() {
			t.Errorf("%q: %+v, again %+v, %v", in, r, again, err)
		}
		if e := r.Enhanced(); e != "" && (len(e) > 9 || e[0] != byte('0'+r.Code/100)) {
			t.Errorf("%q: enhanced %q", in, e)
		}
		for _, line := range r.Lines {
			if strings.ContainsFunc(line, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
				t.Errorf("%q: control character in %q", in, line)
			}
		}
	})
}

func TestParseCaps(t *testing.T) {
	got := parseCaps([]string{
		"hop PIPELINING", "size 1000", "8BITMIME", "SMTPUTF8", "DSN", "starttls", "CHUNKING", "ENHANCEDSTATUSCODES", "X-NEW 1 2", "",
	})
	want := caps{eightBit: true, smtpUTF8: true, dsn: true, startTLS: true, chunking: true, enhanced: true, hasSize: true, size: 1000}
	if got != want {
		t.Errorf("%+v", got)
	}
	for line, size := range map[string]int64{"SIZE": 0, "SIZE 0": 0, "SIZE -1": 0, "SIZE 99999999999999999999": 0, "SIZE x": 0, "SIZE 7": 7} {
		if c := parseCaps([]string{"hop", line}); !c.hasSize || c.size != size {
			t.Errorf("%q: %+v", line, c)
		}
	}
	if c := parseCaps(nil); c != (caps{}) {
		t.Errorf("%+v", c)
	}
}
