package e2e

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
)

// endings are what some server has at some time taken for the end of data, or might, and is not CRLF.CRLF: all that was published of SMTP
// smuggling (CVE-2023-51764, -51765, -51766 and after), and what stands between those.
func endings() (list []string) {
	newlines := []string{"\r\n", "\n", "\r", "\r\r\n", "\n\n", "\r\n\x00"}
	seen := map[string]bool{"\r\n.\r\n": true}
	add := func(s string) {
		// what ends in CRLF.CRLF does end there, for us too, and what follows would be commands and no smuggling
		if !seen[s] && !strings.Contains(s, "\r\n.\r\n") {
			seen[s] = true
			list = append(list, s)
		}
	}
	for _, before := range newlines {
		for _, dot := range []string{".", ".\x00", "\x00."} {
			for _, after := range newlines {
				add(before + dot + after)
			}
		}
	}
	for _, s := range []string{"\r\n.\rX", "\r\n.\r\r\n", "\r\n.\n\r\n", "\u0085.\u0085", "\u2028.\u2028", "\r\n.\n.\r", "\n.\n.\n", "\r\n.\r.\r", "\v.\v", "\f.\f", "\x1a", "\r\n\x1a\r\n"} {
		add(s)
	}
	return list
}

var smuggledHeader = regexp.MustCompile(`(?im)^(X-Rcpt-Args: <victim|X-Mail-Args: <smuggler|Envelope-to: victim)`)

// One message that was sent is never two behind us, whatever it looks like the end of data in it, and however lax the next server is.
func TestSmuggling(t *testing.T) {
	for name, behind := range map[string]func(t *testing.T) (port int, delivered func() []string){
		"postfix, lax":       postfixBehind("smtpd_forbid_bare_newline = no"),
		"postfix, mending":   postfixBehind("smtpd_forbid_bare_newline = normalize\nsmtpd_forbid_bare_newline_exclusions ="),
		"postfix, strict":    postfixBehind("smtpd_forbid_bare_newline = reject\nsmtpd_forbid_bare_newline_exclusions ="),
		"postfix, DATA only": postfixBehind("smtpd_forbid_bare_newline = no\nsmtpd_discard_ehlo_keywords = chunking"),
		"exim":               eximBehind(""),
		"exim, DATA only":    eximBehind("chunking_advertise_hosts ="),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port, delivered := behind(t)
			taken := 0
			for _, bare := range []string{"refuse", "accept"} {
				h := install(t, settings{mode: "relay", nextHop: port, more: ", bare_newline: " + bare})
				h.start()
				c := h.dial()
				for i, end := range endings() {
					for _, verb := range []string{"DATA", "BDAT"} {
						if verb == "BDAT" && bare == "refuse" {
							continue // a chunk has no end of data: it is what may come out by DATA or BDAT that counts
						}
						c.SetDeadline(time.Now().Add(time.Minute))
						body := fmt.Sprintf("Subject: outer %d\r\nX-Ending: %q\r\n\r\nx%s", i, end, end) +
							"MAIL FROM:<smuggler@evil.test>\r\nRCPT TO:<victim@dest.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
						c.begin(t, "a@origin.test", "b@dest.test")
						if verb == "DATA" {
							c.must(t, "DATA\r\n", "354")
							io.WriteString(c, body+".\r\n") // nothing is stuffed: every variant as it was published
						} else {
							fmt.Fprintf(c, "BDAT %d LAST\r\n%s", len(body), body)
						}
						reply, err := c.say("")
						if err != nil {
							t.Fatalf("%q by %s: %q, %v", end, verb, reply, err)
						}
						if reply[0] == '2' {
							taken++
						} else if reply[0] != '5' {
							t.Errorf("%q by %s: %q", end, verb, reply)
						}
						c.must(t, "NOOP\r\n", "250") // nothing of the message was taken for a command
					}
				}
				h.settle()
				h.mustVerify()
				h.stop()
			}
			got := delivered()
			if len(got) != taken {
				t.Errorf("%d messages were taken, %d are behind", taken, len(got))
			}
			for _, m := range got {
				head, _, _ := strings.Cut(strings.ReplaceAll(m, "\r\n", "\n"), "\n\n")
				if smuggledHeader.MatchString(head) || !strings.Contains(head, "\nSubject: outer ") {
					t.Errorf("smuggled: %q", m)
				}
			}
			t.Logf("%d endings, %d messages taken", len(endings()), taken)
			if taken == 0 {
				t.Error("nothing was taken: nothing is shown")
			}
		})
	}
}

// postfixBehind is a Postfix before a sink, which tells what came.
func postfixBehind(extra string) func(*testing.T) (int, func() []string) {
	return func(t *testing.T) (int, func() []string) {
		s := startSink(t)
		p := startPostfix(t, s.port, extra)
		return p.port, func() (list []string) {
			p.drained(t, 5*time.Minute)
			for _, m := range s.messages(t) {
				list = append(list, string(m))
			}
			return list
		}
	}
}

func eximBehind(main string) func(*testing.T) (int, func() []string) {
	return func(t *testing.T) (int, func() []string) {
		e := startExim(t, eximSettings{main: "queue_only\n" + main}) // one after the other
		return e.port, func() []string {
			e.drained(t, 5*time.Minute)
			return e.messages(t)
		}
	}
}
