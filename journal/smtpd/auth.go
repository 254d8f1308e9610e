package smtpd

import (
	"encoding/base64"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Of AUTH that fails.
const (
	authDelay       = time.Second // before the reply
	maxAuthFailures = 3           // in a session
)

var (
	errCancelled = errors.New("AUTH was given up")
	errResponse  = errors.New("response can't be understood")
)

// offersAuth says that AUTH is to be had: passwords are never taken in clear text.
func (c *conn) offersAuth() bool {
	return c.srv.users != nil && c.session.TLS != nil && c.session.Auth == nil
}

// doAuth is AUTH (RFC 4954), by PLAIN (RFC 4616), and by LOGIN for clients that know nothing else, such as Exchange's connectors.
func (c *conn) doAuth(arg string) {
	mechanism, initial, _ := strings.Cut(arg, " ")
	mechanism = strings.ToUpper(mechanism)
	switch {
	case c.srv.users == nil:
		c.fault(502, enhanced{5, 5, 1}, "AUTH is not offered")
		return
	case c.session.Client.Helo == "":
		c.fault(503, enhanced{5, 5, 1}, "Say EHLO first")
		return
	case c.session.TLS == nil:
		c.fault(538, enhanced{5, 7, 11}, "Encryption required for requested authentication mechanism")
		return
	case c.tx != nil:
		c.fault(503, enhanced{5, 5, 1}, "Error: MAIL transaction in progress")
		return
	case c.session.Auth != nil:
		c.fault(503, enhanced{5, 5, 1}, "Error: already authenticated")
		return
	case mechanism != "PLAIN" && mechanism != "LOGIN":
		c.fault(504, enhanced{5, 5, 4}, "Mechanism is not known: PLAIN or LOGIN")
		return
	case c.srv.limiter.exceeded(c.client, authFailure):
		c.log.Warn("closed: over auth_failure_rate")
		c.answer(421, enhanced{4, 7, 0}, c.srv.cfg.Hostname+" Error: too many failed authentications from "+c.session.Client.Address)
		c.closing = true
		return
	}
	name, password, err := c.credentials(mechanism, initial)
	switch {
	case errors.Is(err, errCancelled):
		c.fault(501, enhanced{5, 7, 0}, "Authentication aborted")
	case errors.Is(err, errResponse):
		c.fault(501, enhanced{5, 5, 2}, "Cannot decode the response")
	case err != nil:
		if !c.lineFault(err) {
			c.closing = true
		}
	default:
		c.authenticate(mechanism, name, password)
	}
}

// authenticate answers for a name and a password.
func (c *conn) authenticate(mechanism, name, password string) {
	ok, err := c.srv.users.check(c.ctx.Done(), name, password)
	switch {
	case err != nil:
		if !errors.Is(err, errBusy) {
			c.log.Error("authentication deferred by a fault", "err", err)
		}
		c.answer(454, enhanced{4, 7, 0}, "Temporary authentication failure")
	case ok:
		c.session.Auth = &record.Auth{Mechanism: mechanism, Identity: name}
		c.current, c.authFailures = nil, 0
		c.log.Info("authenticated", "user", name, "mechanism", mechanism)
		c.answer(235, enhanced{2, 7, 0}, "Authentication successful")
	default:
		c.authFailed(name)
	}
}

func (c *conn) authFailed(name string) {
	c.log.Warn("authentication failed", "user", name)
	allowed := c.srv.limiter.allow(c.client, authFailure)
	select {
	case <-time.After(authDelay):
	case <-c.ctx.Done():
	}
	c.fault(535, enhanced{5, 7, 8}, "Authentication credentials invalid")
	if c.authFailures++; (c.authFailures >= maxAuthFailures || !allowed) && !c.closing {
		c.answer(421, enhanced{4, 7, 0}, c.srv.cfg.Hostname+" Error: too many failed authentications")
		c.closing = true
	}
}

// credentials has the dialogue of a mechanism. An error that is neither errCancelled nor errResponse is one of c.command.
func (c *conn) credentials(mechanism, initial string) (name, password string, err error) {
	if mechanism == "PLAIN" {
		response, err := c.response(initial, "")
		if err != nil {
			return "", "", err
		}
		f := strings.Split(response, "\x00")
		if len(f) != 3 || f[0] != "" && f[0] != f[1] {
			return "", "", errResponse // nobody acts as another here
		}
		name, password = f[1], f[2]
	} else {
		if name, err = c.response(initial, "Username:"); err != nil {
			return "", "", err
		}
		if password, err = c.response("", "Password:"); err != nil {
			return "", "", err
		}
	}
	if name == "" || len(name) > 255 || password == "" || len(password) > maxPassword || !utf8.ValidString(name) || strings.Contains(password, "\x00") {
		return "", "", errResponse
	}
	return name, password, nil
}

// response is what the client says to a challenge, or has said with the command; "=" there stands for nothing (RFC 4954 section 4).
func (c *conn) response(initial, challenge string) (string, error) {
	if initial == "=" {
		return "", nil
	}
	if initial == "" {
		c.respond(&reply{code: 334, text: base64.StdEncoding.EncodeToString([]byte(challenge))})
		line, err := c.command()
		if err != nil {
			return "", err
		}
		initial = string(line)
	}
	if initial == "*" {
		return "", errCancelled
	}
	b, err := base64.StdEncoding.Strict().DecodeString(initial)
	if err != nil {
		return "", errResponse
	}
	return string(b), nil
}
