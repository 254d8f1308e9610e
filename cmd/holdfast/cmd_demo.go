package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/mail"
	netsmtp "net/smtp"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive"
)

//go:embed samples/*.eml
var samples embed.FS

func demoCommand(o *options) *cobra.Command {
	var mailDir, dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "All of it on this machine: a destination, the relay, the archive, the web page, real mail sent through",
		Long: `Start a destination, the relay in front of it, an archive on local disk with its index, and the web page; send sample mail in several
languages through the relay, say what happened and where to look, and stay up until interrupted. Everything is on loopback and in one folder.`,
		Example: "  holdfast demo\n  holdfast demo --mail ~/exported-mail",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.config != "" {
				return usage(errors.New("demo has a configuration of its own; --config does not go with it"))
			}
			return runDemo(cmd, dir, mailDir)
		},
	}
	cmd.Flags().StringVar(&mailDir, "mail", "", "send the .eml files of this folder instead of the samples")
	cmd.Flags().StringVar(&dir, "dir", "", "folder for everything (default: a new one under the system's temporary folder, removed at the end)")
	return cmd
}

func runDemo(cmd *cobra.Command, dir, mailDir string) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	var mails fs.FS = samples
	if mailDir != "" {
		if !exists(mailDir) {
			return usage(fmt.Errorf("--mail %s: no such folder", mailDir))
		}
		mails = os.DirFS(mailDir)
	}
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "holdfast-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	dest, err := startDestination()
	if err != nil {
		return err
	}
	defer dest.close()
	cfg, err := demoConfig(dir, dest.addr)
	if err != nil {
		return err
	}
	if !exists(cfg.DataDir) {
		if _, err := initArchive(cmd, cfg, archive.InitOptions{}); err != nil {
			return err
		}
	}
	s, err := startServer(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "destination  %s   takes all mail and throws it away\nrelay        %s   passes it on, and keeps it\narchive      %s\n\n", dest.addr, s.mail.addrs[0], cfg.Archive.Store)
	sent, err := sendAll(ctx, out, mails, s.mail.addrs[0].String())
	if err != nil {
		return errors.Join(err, s.stop())
	}
	if err := s.node.settled(ctx); err != nil {
		return errors.Join(err, s.stop())
	}
	page := "http://" + s.web
	fmt.Fprintf(out, "\n%d messages sent, %d delivered to the destination, all of them in the archive (entry %d of its ledger) and indexed.\n\n", sent, dest.taken.Load(), s.node.archive.Size("")-1)
	fmt.Fprintf(out, "Look at   %s/\n", page)
	fmt.Fprintf(out, "Try       %s/?q=%s\n\n", page, url.QueryEscape("merger plan"))
	fmt.Fprintf(out, "In another terminal:\n  holdfast search --config %[1]s 'from:acme.example hasattachment:yes'\n  holdfast verify --full --config %[1]s\n\nCtrl-C ends it.\n", cfg.file)
	return s.wait(ctx)
}

// demoConfig writes a configuration into dir, so that other commands work beside the demo.
func demoConfig(dir, nextHop string) (*config, error) {
	relay, err := freeAddress("127.0.0.1:2525")
	if err != nil {
		return nil, err
	}
	page, err := freeAddress("127.0.0.1:8080")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "holdfast.yaml")
	text := fmt.Sprintf(`node: demo
data_dir: ./data
listeners:
  - {name: relay, address: %q, mode: relay, next_hop: %q, trusted_networks: [127.0.0.0/8]}
archive: {seal_after: 1s}
web: {address: %q}
log: {level: warn}
`, relay, nextHop, page)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return loadConfig(file)
}

// freeAddress gives the address, or another port where it is taken.
func freeAddress(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", err
		}
	}
	return l.Addr().String(), l.Close()
}

// sendAll sends every message of a folder through the relay, as its own From and To say.
func sendAll(ctx context.Context, out io.Writer, mails fs.FS, relay string) (sent int, err error) {
	c, err := netsmtp.Dial(relay)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.Hello("demo.example"); err != nil {
		return 0, err
	}
	err = fs.WalkDir(mails, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".eml") {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		text, err := fs.ReadFile(mails, path)
		if err != nil {
			return err
		}
		from, to := addresses(text)
		if err := sendOne(c, from, to, text); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		sent++
		if sent <= 20 {
			fmt.Fprintf(out, "sent  %-34s %s → %s\n", filepath.Base(path), from, strings.Join(to, ", "))
		}
		return nil
	})
	if err == nil {
		err = c.Quit()
	}
	return sent, err
}

func sendOne(c *netsmtp.Client, from string, to []string, text []byte) error {
	if err := c.Mail(from); err != nil {
		return err
	}
	for _, rcpt := range to {
		if err := c.Rcpt(rcpt); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return w.Close()
}

// addresses makes an envelope out of a header. What it can't read becomes a placeholder: it is a demo.
func addresses(text []byte) (from string, to []string) {
	from, to = "sender@demo.example", nil
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return from, []string{"recipient@demo.example"}
	}
	if list, err := m.Header.AddressList("From"); err == nil {
		from = list[0].Address
	}
	for _, field := range []string{"To", "Cc", "Bcc"} {
		list, _ := m.Header.AddressList(field)
		for _, a := range list {
			to = append(to, a.Address)
		}
	}
	if len(to) == 0 {
		to = []string{"recipient@demo.example"}
	}
	return from, to
}

// destination is an SMTP server that takes everything and keeps nothing.
type destination struct {
	addr  string
	taken atomic.Int64
	srv   *smtp.Server
}

func startDestination() (*destination, error) {
	l, err := net.Listen("tcp", "127.0.0.1:2600")
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	d := &destination{addr: l.Addr().String()}
	d.srv = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return sink{d}, nil }))
	d.srv.Domain, d.srv.EnableSMTPUTF8 = "destination.example", true
	d.srv.MaxMessageBytes, d.srv.MaxRecipients, d.srv.MaxLineLength = 100<<20, 1000, 1<<20
	d.srv.ReadTimeout, d.srv.WriteTimeout = 5*time.Minute, time.Minute
	d.srv.ErrorLog = log.New(io.Discard, "", 0)
	go d.srv.Serve(l)
	return d, nil
}

func (d *destination) close() { d.srv.Close() }

// sink is one session of the destination.
type sink struct{ d *destination }

func (sink) Reset()                               {}
func (sink) Logout() error                        { return nil }
func (sink) Mail(string, *smtp.MailOptions) error { return nil }
func (sink) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s sink) Data(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	s.d.taken.Add(1)
	return nil
}
