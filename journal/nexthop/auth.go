package nexthop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxPassword bounds a password, bytes; the command that it is in stays below 12288 (RFC 4954 section 4.3) by far.
const maxPassword = 1024

// authenticate signs in (RFC 4954). The error is ErrAuth, or that of the connection. No error and no log holds the password.
func (c *conn) authenticate(ctx context.Context, cred Credentials) error {
	if c.tls == nil {
		return fmt.Errorf("%w: no credentials in clear text", ErrAuth)
	}
	password, err := cred.password()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAuth, err)
	}
	var lines [][]byte // the command, and what answers each 334
	switch {
	case c.caps.authPlain:
		lines = [][]byte{appendBase64([]byte("AUTH PLAIN "), "\x00"+cred.User+"\x00"+password)}
	case c.caps.authLogin:
		lines = [][]byte{[]byte("AUTH LOGIN"), appendBase64(nil, cred.User), appendBase64(nil, password)}
	default:
		return fmt.Errorf("%w: neither PLAIN nor LOGIN is offered", ErrAuth)
	}
	for i, line := range lines {
		if err := c.send(ctx, c.timeouts.Hello, append(line, "\r\n"...)); err != nil {
			return fmt.Errorf("AUTH: %w", err)
		}
		reply, err := c.reply(ctx, c.timeouts.Hello)
		switch last := i == len(lines)-1; {
		case err != nil:
			return fmt.Errorf("AUTH: %w", err)
		case last && reply.Code == 235, !last && reply.Code == 334:
		default:
			return denied{withoutSecret(reply, password, lines), sha256.Sum256([]byte(password))}
		}
	}
	return nil
}

// denied is a sign-in that was refused, with what password.
type denied struct {
	text     string
	password [sha256.Size]byte
}

func (e denied) Error() string { return ErrAuth.Error() + ": AUTH: " + e.text }
func (e denied) Unwrap() error { return ErrAuth }

// heldBack is a sign-in that was not tried.
type heldBack struct{ error }

func (e heldBack) Unwrap() error { return e.error }

// heldBack says why a host is not to be tried now: within the pause the same password would be refused again, and too many such tries lock
// an account.
func (p *Pool) heldBack(h *host) error {
	if h.target.Credentials == (Credentials{}) {
		return nil
	}
	p.mu.Lock()
	last, until := h.denied, h.until
	p.mu.Unlock()
	if last == nil || time.Now().After(until) {
		return nil
	}
	password, err := h.target.Credentials.password()
	if err != nil || sha256.Sum256([]byte(password)) != last.password {
		return nil
	}
	return heldBack{*last}
}

// withoutSecret is what may be told of a reply: a server may say back what it was told.
func withoutSecret(reply *Reply, password string, lines [][]byte) string {
	text := reply.Error()
	if strings.Contains(text, password) || strings.Contains(text, string(bytes.TrimPrefix(lines[len(lines)-1], []byte("AUTH PLAIN ")))) {
		return strconv.Itoa(reply.Code)
	}
	return text
}

func appendBase64(b []byte, s string) []byte {
	return base64.StdEncoding.AppendEncode(b, []byte(s))
}

// password reads the file's first line.
func (c Credentials) password() (string, error) {
	b, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", err
	}
	b, _, _ = bytes.Cut(b, []byte("\n"))
	b = bytes.TrimSuffix(b, []byte("\r"))
	switch {
	case len(b) == 0:
		return "", fmt.Errorf("%s: empty", c.PasswordFile)
	case len(b) > maxPassword || bytes.IndexByte(b, 0) >= 0:
		return "", errors.New(c.PasswordFile + ": not a password: too long, or with a NUL")
	}
	return string(b), nil
}
