package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/journal/queue"
)

func queueCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "Look at the mail that waits to be delivered, and change what becomes of it",
		Long: `The mail of listeners in mode queue that is not delivered yet. What is shown and what is changed is an act in the ledger first.
Works beside a running server, and without one.`,
		Example: "  holdfast queue list\n  holdfast queue retry --domain dest.example",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		queueListCommand(o), queueShowCommand(o),
		queueChangeCommand(o, queue.Retry, "Try deferred messages now", "", "  holdfast queue retry --domain dest.example\n  holdfast queue retry --all"),
		queueChangeCommand(o, queue.Hold, "Keep messages from being tried, until they are released",
			"A message on hold does not expire.", "  holdfast queue hold 01KKNG8HG0B7W3Q8X0Y6Z5T4V2"),
		queueChangeCommand(o, queue.Release, "End the hold of messages, and try them", "", "  holdfast queue release --all"),
		queueDropCommand(o), queueRecoverCommand(o),
	)
	return cmd
}

// which are the flags and arguments that say which messages are meant.
type which struct {
	all    bool
	domain string
}

func (s *which) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.domain, "domain", "", "those with a recipient at this domain who waits")
}

func (s *which) values(ids []string) url.Values {
	v := url.Values{"id": ids}
	if s.all {
		v.Set("all", "1")
	}
	if s.domain != "" {
		v.Set("domain", s.domain)
	}
	return v
}

// askQueue sends a request to the queue and hands the answer to use.
func askQueue(cmd *cobra.Command, o *options, method, path string, v url.Values, use func(io.Reader) error) error {
	cfg, err := loadConfig(o.config)
	if err != nil {
		return err
	}
	c, err := connect(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	body, err := c.do(cmd.Context(), method, path, v, nil)
	if err != nil {
		return errors.Join(exitOf(err), c.close())
	}
	err = use(body)
	return errors.Join(err, body.Close(), c.close())
}

func queueListCommand(o *options) *cobra.Command {
	sel := &which{all: true}
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the messages that wait, the oldest first",
		Long:    "List the messages that wait, the oldest first. With --json one JSON object a line.",
		Example: "  holdfast queue list\n  holdfast queue list --domain dest.example --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sel.all = sel.domain == ""
			return askQueue(cmd, o, http.MethodGet, "/queue", sel.values(nil), func(r io.Reader) error {
				return printQueue(cmd.OutOrStdout(), r, o.json, "in the queue")
			})
		},
	}
	sel.flags(cmd)
	return addJSON(cmd, o)
}

func printQueue(w io.Writer, r io.Reader, asJSON bool, what string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	enc, n := json.NewEncoder(w), 0
	for dec := json.NewDecoder(r); ; n++ {
		var line queueLine
		err := dec.Decode(&line)
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case err != nil:
			return fmt.Errorf("the server went away in the middle: %w", err)
		case line.Error != nil:
			return &problemError{*line.Error}
		case line.Message == nil:
			return errors.New("the server sent what is no message")
		case asJSON:
			if err := enc.Encode(line.Message); err != nil {
				return err
			}
		default:
			printQueued(t, line.Message)
		}
	}
	if asJSON {
		return nil
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, n, what)
	return err
}

func printQueued(w io.Writer, m *queue.Message) {
	next := ""
	if !m.Next.IsZero() {
		next = ", next try " + m.Next.Local().Format("2006-01-02 15:04:05")
	}
	fmt.Fprintf(w, "%s\t%s%s\t%s\t%d bytes\tfrom <%s>\n", m.ID, m.State, next, (time.Duration(m.AgeSeconds) * time.Second).String(), m.Size, short(m.From, 60))
	for i, r := range m.Recipients {
		if i == 20 {
			fmt.Fprintf(w, "  and %d more recipients\n", len(m.Recipients)-i)
			break
		}
		fmt.Fprintf(w, "  %s", short(r.Address, 100))
		if r.Attempts > 0 {
			fmt.Fprintf(w, ": %s", short(lastWord(r), 200))
		}
		fmt.Fprintln(w)
	}
}

func lastWord(r queue.Recipient) string {
	reply := r.Text
	if r.Code != 0 {
		reply = strings.Join(strings.Fields(fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text)), " ")
	}
	if r.NextHop != "" {
		reply = r.NextHop + ": " + reply
	}
	return strings.ReplaceAll(reply, "\n", " / ")
}

func queueShowCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show what became of each recipient of a message, and what was tried",
		Example: "  holdfast queue show 01KKNG8HG0B7W3Q8X0Y6Z5T4V2",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askQueue(cmd, o, http.MethodGet, "/queue/"+url.PathEscape(args[0]), nil, func(r io.Reader) error {
				w := cmd.OutOrStdout()
				if o.json {
					_, err := io.Copy(w, r)
					return err
				}
				var m queue.Message
				if err := json.NewDecoder(r).Decode(&m); err != nil {
					return err
				}
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				printQueued(t, &m)
				for _, e := range m.History {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", e.Time.Local().Format("2006-01-02 15:04:05"), e.Outcome, e.NextHop, short(e.Text, 200))
				}
				return t.Flush()
			})
		},
	}
	return addJSON(cmd, o)
}

func queueChangeCommand(o *options, do, what, more, example string) *cobra.Command {
	sel := &which{}
	cmd := &cobra.Command{
		Use:     do + " {ID... | --domain D | --all}",
		Short:   what,
		Long:    strings.TrimSpace(what + ". " + more),
		Example: example,
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeQueue(cmd, o, do, sel.values(args))
		},
	}
	cmd.Flags().BoolVar(&sel.all, "all", false, "all messages")
	sel.flags(cmd)
	return addJSON(cmd, o)
}

func queueDropCommand(o *options) *cobra.Command {
	var reason string
	var bounce bool
	cmd := queueChangeCommand(o, queue.Drop, "Take messages out of the queue: they are not delivered any more", `The archive keeps them, and
has in writing who dropped them and why.`, `  holdfast queue drop --reason "sent by mistake" 01KKNG8HG0B7W3Q8X0Y6Z5T4V2`)
	inner := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(reason) == "" {
			return usage(errors.New("drop: --reason is missing"))
		}
		return inner(cmd, args)
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; stands in the ledger's act, and in the record")
	cmd.Flags().BoolVar(&bounce, "bounce", false, "tell the senders that their mail was not delivered")
	return cmd
}

func queueRecoverCommand(o *options) *cobra.Command {
	sel := &which{}
	var since string
	var again bool
	cmd := &cobra.Command{
		Use:   "recover [--again {ID... | --all}]",
		Short: "Find mail in the archive that a lost node did not deliver, and put it back",
		Long: `After a lost node: list the messages of mode queue in the archive of whose delivery there is no last word, and which are neither in the
queue nor in the spool. --again puts them back into the queue. Some of them may have been delivered without the archive having heard of it.`,
		Example: "  holdfast queue recover\n  holdfast queue recover --since 2026-11-20 --again --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			v := sel.values(args)
			if again == (len(args) == 0 && !sel.all) {
				return usage(errors.New("recover: which messages? --again with ID or --all; without it nothing is put back"))
			}
			if since != "" {
				v.Set("since", since)
			}
			if again {
				v.Set("again", "1")
				return changeQueue(cmd, o, "recover", v)
			}
			return askQueue(cmd, o, http.MethodPost, "/queue/recover", v, func(r io.Reader) error {
				return printQueue(cmd.OutOrStdout(), r, o.json, "to be recovered")
			})
		},
	}
	cmd.Flags().BoolVar(&again, "again", false, "put them back into the queue")
	cmd.Flags().BoolVar(&sel.all, "all", false, "all that are listed without --again")
	cmd.Flags().StringVar(&since, "since", "", "received since this day (2026-11-20); the default is 30 days ago")
	return addJSON(cmd, o)
}

// changeQueue asks for a change. What could not be changed makes it fail.
func changeQueue(cmd *cobra.Command, o *options, do string, v url.Values) error {
	if len(v) == 1 && len(v["id"]) == 0 {
		return usage(fmt.Errorf("%s: which messages? ID, --domain or --all", do))
	}
	if f := cmd.Flags().Lookup("reason"); f != nil {
		v.Set("reason", f.Value.String())
	}
	if f := cmd.Flags().Lookup("bounce"); f != nil && f.Value.String() == "true" {
		v.Set("bounce", "1")
	}
	var done queueDone
	err := askQueue(cmd, o, http.MethodPost, "/queue/"+do, v, func(r io.Reader) error {
		return json.NewDecoder(r).Decode(&done)
	})
	if err != nil {
		return err
	}
	if o.json {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(done)
	} else {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d messages\n", do, done.Done)
	}
	if err == nil && done.Error != "" {
		fmt.Fprintln(os.Stderr, "holdfast:", done.Error)
		return exitCode{code: exitFailed}
	}
	return err
}
