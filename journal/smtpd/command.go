package smtpd

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// do answers one command.
func (c *conn) do(line []byte) {
	verb, arg, _ := strings.Cut(string(line), " ")
	verb, arg = strings.ToUpper(verb), strings.Trim(arg, " ")
	if !isASCII(arg) && (!utf8.ValidString(arg) || strings.ContainsFunc(arg, unicode.IsControl)) {
		c.fault(500, enhanced{5, 5, 2}, "Not printable UTF-8")
		return
	}
	switch verb {
	case "HELO", "EHLO":
		c.doHello(verb, arg)
	case "MAIL":
		c.doMail(arg)
	case "RCPT":
		c.doRcpt(arg)
	case "DATA":
		c.doData(arg)
	case "BDAT":
		c.doChunk(arg)
	case "RSET", "QUIT":
		if arg != "" {
			c.fault(501, enhanced{5, 5, 4}, verb+" takes no argument")
		} else if verb == "RSET" {
			c.abort()
			c.answer(250, enhanced{2, 0, 0}, "OK")
			c.idles()
		} else {
			c.answer(221, enhanced{2, 0, 0}, "Bye")
			c.closing = true
		}
	case "NOOP":
		c.answer(250, enhanced{2, 0, 0}, "OK")
		c.idles()
	case "VRFY":
		c.answer(252, enhanced{2, 5, 0}, "Send mail and see")
		c.idles()
	case "HELP":
		c.answer(214, enhanced{2, 0, 0}, "See RFC 5321")
		c.idles()
	case "STARTTLS":
		c.doStartTLS(arg)
	case "AUTH":
		c.doAuth(arg)
	case "XCLIENT":
		c.doXClient(arg)
	case "XFORWARD":
		c.doXForward(arg)
	case "EXPN", "TURN", "ETRN":
		c.fault(502, enhanced{5, 5, 1}, verb+" is not offered")
	case "GET", "POST", "PUT", "CONNECT": // a browser that was told to talk to us
		c.answer(421, enhanced{4, 7, 0}, "This is not a web server")
		c.closing = true
	default:
		c.fault(500, enhanced{5, 5, 2}, "Command not known")
	}
}

func (c *conn) doHello(verb, arg string) {
	if arg == "" || len(arg) > 255 || strings.Contains(arg, " ") || !isASCII(arg) {
		c.fault(501, enhanced{5, 5, 4}, verb+" takes one name")
		return
	}
	c.abort()
	c.session.Client.Helo, c.session.Client.ESMTP = arg, verb == "EHLO"
	c.current = nil
	text := c.srv.cfg.Hostname
	if verb == "EHLO" {
		text = strings.Join(append([]string{text}, c.capabilities()...), "\n")
	}
	c.respond(&reply{code: 250, text: text})
	c.idles()
}

// capabilities is what EHLO names, after our name. All of it is done in this package.
func (c *conn) capabilities() []string {
	l := &c.srv.cfg.Limits
	list := []string{
		"PIPELINING", fmt.Sprintf("SIZE %d", l.MessageSize), "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING",
		fmt.Sprintf("LIMITS RCPTMAX=%d", l.Recipients),
	}
	if c.srv.tls != nil && c.session.TLS == nil {
		list = append(list, "STARTTLS")
	}
	if c.offersAuth() {
		list = append(list, "AUTH PLAIN LOGIN")
	}
	if c.xclient {
		list = append(list, xclientAttributes, xforwardAttributes)
	}
	return list
}

func (c *conn) doMail(arg string) {
	cfg := &c.srv.cfg
	switch {
	case c.session.Client.Helo == "":
		c.fault(503, enhanced{5, 5, 1}, "Say EHLO first")
		return
	case c.tx != nil:
		c.fault(503, enhanced{5, 5, 1}, "There was a MAIL before: RSET first")
		return
	case cfg.TLS.Required && c.session.TLS == nil:
		c.fault(530, enhanced{5, 7, 0}, "Must issue a STARTTLS command first")
		return
	case !c.authorised() && !c.srv.policy.takesOthers:
		c.deny()
		return
	}
	from, params, bad := parseMail(arg, c.srv.users != nil)
	if bad != nil {
		c.faultError(bad)
		return
	}
	if params.Size > cfg.Limits.MessageSize {
		c.refused(fmt.Errorf("declared size %d: %w", params.Size, ErrTooBig))
		return
	}
	if !c.srv.limiter.allow(c.client, newMessage) {
		c.log.Warn("deferred: over message_rate")
		c.answer(450, enhanced{4, 7, 1}, "Error: too much mail from "+c.session.Client.Address)
		return
	}
	c.mail(from, params)
}

// deny refuses a client that may not send at all.
func (c *conn) deny() {
	c.log.Info("refused: the client may not send mail here")
	if c.srv.users != nil {
		c.fault(530, enhanced{5, 7, 0}, "Authentication required")
		return
	}
	c.fault(554, enhanced{5, 7, 1}, "No mail is taken from your network")
}

func (c *conn) doRcpt(arg string) {
	if c.tx == nil {
		c.fault(503, enhanced{5, 5, 1}, "MAIL comes first")
		return
	}
	to, bad := parseRcpt(arg, c.utf8)
	if bad != nil {
		c.faultError(bad)
		return
	}
	switch {
	case !c.authorised() && !c.srv.policy.serves(to):
		c.log.Info("refused: relay access denied", "from", c.from.Address, "to", to.Address)
		c.fault(554, enhanced{5, 7, 1}, "<"+to.Address+">: Relay access denied")
	case c.rcpts >= c.srv.cfg.Limits.Recipients:
		c.answer(452, enhanced{4, 5, 3}, "Error: too many recipients")
	case !c.srv.limiter.allow(c.client, newRecipient):
		c.log.Warn("deferred: over recipient_rate")
		c.answer(450, enhanced{4, 7, 1}, "Error: too many recipients from "+c.session.Client.Address)
	default:
		c.rcpt(to)
	}
}

func (c *conn) doData(arg string) {
	if arg != "" {
		c.fault(501, enhanced{5, 5, 4}, "DATA takes no argument")
		return
	}
	if !c.hasRecipients() {
		return
	}
	c.respond(&reply{code: 354, text: "Go ahead, and end with <CR><LF>.<CR><LF>"})
	c.flush() // an error shows when the reply is written
	c.message(&dotted{c: c, unstuffer: newUnstuffer()})
}

// hasRecipients answers where there is nobody to take a message for.
func (c *conn) hasRecipients() bool {
	switch {
	case c.tx == nil:
		c.fault(503, enhanced{5, 5, 1}, "MAIL and RCPT come first")
	case c.rcpts == 0:
		c.fault(554, enhanced{5, 5, 1}, "No valid recipients")
	}
	return c.rcpts > 0
}

// doStartTLS does the handshake (RFC 3207). Afterwards the client is one that we know nothing of. What it sent in clear text behind
// STARTTLS, and a handshake that fails, end the connection.
func (c *conn) doStartTLS(arg string) {
	switch {
	case arg != "":
		c.fault(501, enhanced{5, 5, 4}, "STARTTLS takes no argument")
		return
	case c.session.TLS != nil:
		c.fault(503, enhanced{5, 5, 1}, "TLS is on")
		return
	case c.srv.tls == nil:
		c.fault(502, enhanced{5, 5, 1}, "STARTTLS is not offered")
		return
	case c.r != c.w:
		c.log.Info("closed: commands in clear text behind STARTTLS")
		c.answer(421, enhanced{4, 7, 0}, "Nothing may follow STARTTLS")
		c.closing = true
		return
	}
	c.answer(220, enhanced{2, 0, 0}, "Ready for TLS")
	if c.flush() != nil {
		c.closing = true
		return
	}
	c.abort()
	if err := c.secure(); err != nil {
		c.log.Info("closed: TLS", "err", err)
		c.closing = true
		c.out = nil
		return
	}
	c.session.Client.Helo, c.session.Client.ESMTP = "", false
	c.session.Auth = nil
	c.current = nil
}
