package smtpd

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// screen looks at a command before go-smtp does. It returns the verb and the line that go-smtp is shown for it; none where the command
// was answered here.
func (c *conn) screen(line []byte) (verb string, feed []byte) {
	verb, arg, _ := strings.Cut(string(line), " ")
	verb, arg = strings.ToUpper(verb), strings.Trim(arg, " ")
	if !isASCII(arg) && (!utf8.ValidString(arg) || strings.ContainsFunc(arg, unicode.IsControl)) {
		c.fault(500, smtp.EnhancedCode{5, 5, 2}, "Not printable UTF-8")
		return "", nil
	}
	pass, shown := false, verb
	switch verb {
	case "HELO", "EHLO":
		pass = c.screenHello(verb, arg)
		shown = verb + " client"
	case "MAIL":
		pass = c.screenMail(arg)
		shown = "MAIL FROM:<>"
	case "RCPT":
		pass = c.screenRcpt(arg)
		shown = "RCPT TO:<recipient@invalid>"
	case "DATA":
		pass = c.screenData(arg)
	case "BDAT":
		pass = c.screenChunk(arg)
		shown = "DATA"
	case "STARTTLS":
		pass = c.startTLS(arg)
		shown = "RSET"
	case "RSET", "QUIT":
		if pass = arg == ""; !pass {
			c.fault(501, smtp.EnhancedCode{5, 5, 4}, verb+" takes no argument")
		}
	case "NOOP", "VRFY":
		pass = true
	case "HELP":
		c.answer(214, smtp.EnhancedCode{2, 0, 0}, "See RFC 5321")
	case "EXPN", "AUTH", "TURN", "ETRN":
		c.fault(502, smtp.EnhancedCode{5, 5, 1}, verb+" is not offered")
	case "GET", "POST", "PUT", "CONNECT": // a browser that was told to talk to us
		c.answer(421, smtp.EnhancedCode{4, 7, 0}, "This is not a web server")
		c.closing = true
	default:
		c.fault(500, smtp.EnhancedCode{5, 5, 2}, "Command not known")
	}
	if !pass {
		return "", nil
	}
	return verb, []byte(shown + "\r\n")
}

// answer replies to a command that go-smtp does not see. A journal listener gives no 5xx once it has taken a MAIL.
func (c *conn) answer(code int, enh smtp.EnhancedCode, text string) {
	if c.tx != nil && c.srv.cfg.Mode == record.ModeJournal {
		e := soften(&smtp.SMTPError{Code: code, EnhancedCode: enh})
		code, enh = e.Code, e.EnhancedCode
	}
	c.out = fmt.Appendf(c.out, "%d %d.%d.%d %s\r\n", code, enh[0], enh[1], enh[2], text)
}

// fault answers a command that is wrong. Who sends many of them is not a mail client.
func (c *conn) fault(code int, enh smtp.EnhancedCode, text string) {
	c.answer(code, enh, text)
	c.log.Debug("command refused", "code", code, "text", text)
	if c.faults++; c.faults == maxFaults && !c.closing {
		c.answer(421, smtp.EnhancedCode{4, 7, 0}, "Too many errors, closing connection")
		c.closing = true
	}
}

// faultError is fault for what param.go says.
func (c *conn) faultError(err error) {
	e := err.(*smtp.SMTPError)
	c.fault(e.Code, e.EnhancedCode, e.Message)
}

func (c *conn) screenHello(verb, arg string) bool {
	if arg == "" || len(arg) > 255 || strings.Contains(arg, " ") || !isASCII(arg) {
		c.fault(501, smtp.EnhancedCode{5, 5, 4}, verb+" takes one name")
		return false
	}
	c.session.Client.Helo, c.session.Client.ESMTP = arg, verb == "EHLO"
	c.current = nil
	return true
}

func (c *conn) screenMail(arg string) bool {
	switch {
	case c.session.Client.Helo == "":
		c.fault(503, smtp.EnhancedCode{5, 5, 1}, "Say EHLO first")
		return false
	case c.tx != nil:
		c.fault(503, smtp.EnhancedCode{5, 5, 1}, "There was a MAIL before: RSET first")
		return false
	case !c.trusted:
		c.log.Info("refused: not in trusted_networks")
		c.fault(554, smtp.EnhancedCode{5, 7, 1}, "No mail is taken from your network")
		return false
	}
	from, params, err := parseMail(arg)
	if err != nil {
		c.faultError(err)
		return false
	}
	if params.Size > c.srv.cfg.MaxMessageSize {
		e := c.refusal(fmt.Errorf("declared size %d: %w", params.Size, ErrTooBig))
		c.answer(e.Code, e.EnhancedCode, e.Message)
		return false
	}
	c.from, c.params = from, params
	return true
}

func (c *conn) screenRcpt(arg string) bool {
	if c.tx == nil {
		c.fault(503, smtp.EnhancedCode{5, 5, 1}, "MAIL comes first")
		return false
	}
	to, err := parseRcpt(arg, c.utf8)
	if err != nil {
		c.faultError(err)
		return false
	}
	c.to = to
	return true
}

func (c *conn) screenData(arg string) bool {
	if arg != "" {
		c.fault(501, smtp.EnhancedCode{5, 5, 4}, "DATA takes no argument")
		return false
	}
	return c.hasRecipients()
}

// hasRecipients answers where there is nobody to take a message for.
func (c *conn) hasRecipients() bool {
	switch {
	case c.tx == nil:
		c.fault(503, smtp.EnhancedCode{5, 5, 1}, "MAIL and RCPT come first")
	case c.rcpts == 0:
		c.fault(554, smtp.EnhancedCode{5, 5, 1}, "No valid recipients")
	}
	return c.rcpts > 0
}

// startTLS does the handshake (RFC 3207). Afterwards the client is one that we know nothing of. What it sent in clear text behind
// STARTTLS, and a handshake that fails, end the connection.
func (c *conn) startTLS(arg string) bool {
	switch {
	case arg != "":
		c.fault(501, smtp.EnhancedCode{5, 5, 4}, "STARTTLS takes no argument")
		return false
	case c.session.TLS != nil:
		c.fault(503, smtp.EnhancedCode{5, 5, 1}, "TLS is on")
		return false
	case c.srv.tls == nil:
		c.fault(502, smtp.EnhancedCode{5, 5, 1}, "STARTTLS is not offered")
		return false
	case c.r != c.w:
		c.log.Info("closed: commands in clear text behind STARTTLS")
		c.answer(421, smtp.EnhancedCode{4, 7, 0}, "Nothing may follow STARTTLS")
		c.closing = true
		return false
	}
	c.answer(220, smtp.EnhancedCode{2, 0, 0}, "Ready for TLS")
	if c.flush() != nil {
		c.closing = true
		return false
	}
	c.abort()
	c.SetDeadline(time.Now().Add(handshakeTimeout))
	over := tls.Server(c.Conn, c.srv.tls)
	ctx, cancel := context.WithTimeout(c.ctx, handshakeTimeout)
	defer cancel()
	if err := over.HandshakeContext(ctx); err != nil {
		c.log.Info("closed: TLS handshake failed", "err", err)
		c.closing = true
		return false
	}
	c.peer = over
	c.session.TLS = describeTLS(over.ConnectionState())
	c.session.Client.Helo, c.session.Client.ESMTP = "", false
	c.current = nil
	return true
}
