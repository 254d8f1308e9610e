package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/retention"
)

// ask sends a question or a wish, v as query or order as JSON, and decodes the answer into it. query is the one that a fault may be in.
func ask(cmd *cobra.Command, o *options, path string, v url.Values, order any, query string, answer any) (err error) {
	cfg, err := loadConfig(o.config)
	if err != nil {
		return err
	}
	c, err := connect(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	method, text := http.MethodGet, io.Reader(nil)
	if order != nil {
		wish, err := json.Marshal(order)
		if err != nil {
			return err
		}
		method, text = http.MethodPost, bytes.NewReader(wish)
	}
	got, err := c.do(cmd.Context(), method, path, v, text)
	if err != nil {
		var p *problemError
		if errors.As(err, &p) && p.Pos != nil {
			fmt.Fprintln(os.Stderr, underline(query, p.Problem))
		}
		return exitOf(err)
	}
	defer got.Close()
	return json.NewDecoder(got).Decode(answer)
}

// wish has something done, and says which act that is.
func wish(cmd *cobra.Command, o *options, path string, order any, query string) error {
	var d done
	if err := ask(cmd, o, path, nil, order, query, &d); err != nil {
		return err
	}
	if o.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(d)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: act %s\n", d.Kind, d.Act)
	return err
}

func retentionCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retention",
		Short: "How long mail is kept, and why",
		Long: `Policies say how long the mail that matches a query is kept; of those that match a message the longest counts, and retention.default
where none does. Each change is an act in the ledger, with author and reason.`,
		Example: "  holdfast retention check 'from:acme.example subject:contract'",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	policy := &cobra.Command{
		Use:     "policy",
		Short:   "List, set and remove policies",
		Example: "  holdfast retention policy list",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	policy.AddCommand(policySetCommand(o), policyListCommand(o), policyRemoveCommand(o))
	cmd.AddCommand(policy, retentionCheckCommand(o), retentionLocksCommand(o))
	cmd.AddCommand(purgeCommands(o)...)
	return cmd
}

func policySetCommand(o *options) *cobra.Command {
	var p policyOrder
	var template string
	cmd := &cobra.Command{
		Use:   "set NAME --query QUERY {--keep 7y | --template 7y} --reason WHY",
		Short: "Add a policy, or change the one of this name",
		Long: `Add a policy, or change the one of this name. The query may not have relative dates, nor hold, matter, tag, policy or expires. A
longer policy counts at once, for old mail too; a shorter one never beats the lock of what is stored already.`,
		Example: `  holdfast retention policy set contracts --query 'subject:contract OR attachment:contract' --keep 10y --start year-end --reason 'AO 147'
  holdfast retention policy set newsletters --query 'list:news.example' --keep 90d --reason 'nobody needs them'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("query") {
				return usage(errors.New("set: --query is missing; --query '' is every message"))
			}
			d := retention.Declared{Keep: p.Keep, Template: template}
			if cmd.Flags().Changed("start") {
				d.Start = p.Start
			}
			d, err := d.FromTemplate()
			if err != nil {
				return usage(fmt.Errorf("--template %w", err))
			}
			p.Name, p.Keep, p.Start = args[0], d.Keep, d.Start
			return wish(cmd, o, "/policies", p, p.Query)
		},
	}
	cmd.Flags().StringVar(&p.Query, "query", "", "which mail")
	cmd.Flags().StringVar(&p.Keep, "keep", "", "how long: 7y, 18m, 90d or forever")
	cmd.Flags().StringVar(&p.Start, "start", "receipt", "from when on: receipt, date (of the message), year-end (of the year of receipt)")
	cmd.Flags().StringVar(&template, "template", "", "take --keep and --start from a template; to be confirmed with counsel")
	cmd.Flags().StringVar(&p.Reason, "reason", "", "why")
	return addJSON(cmd, o)
}

func policyListCommand(o *options) *cobra.Command {
	var templates bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the policies in force",
		Example: "  holdfast retention policy list --templates",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list policyList
			if err := ask(cmd, o, "/policies", nil, nil, "", &list); err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if o.json {
				return json.NewEncoder(w).Encode(list)
			}
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			if templates {
				for _, p := range list.Templates {
					fmt.Fprintf(t, "%s\t%s from %s\t%s\n", p.Name, p.Keep, p.Start, p.Note)
				}
				return t.Flush()
			}
			for _, p := range list.Policies {
				fmt.Fprintf(t, "%s\t%s from %s\t%s\tby %s on %s: %s\n", p.Name, p.Keep, p.Start, queryForPeople(p.Query), p.By.ID, p.At.Format("2006-01-02"), short(p.Reason, 80))
			}
			fmt.Fprintf(t, "%s\t%s from receipt\twhat no policy matches\tby retention.default\n", retention.DefaultName, list.Default)
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&templates, "templates", false, "show policies to begin with, to be confirmed with counsel")
	return addJSON(cmd, o)
}

func queryForPeople(q string) string {
	if q == "" {
		return "every message"
	}
	return short(q, 100)
}

func policyRemoveCommand(o *options) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "remove NAME --reason WHY",
		Short:   "Take a policy out of force",
		Example: "  holdfast retention policy remove newsletters --reason 'kept like all other mail from now on'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return wish(cmd, o, "/policies/remove", map[string]string{"name": args[0], "reason": reason}, "")
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return addJSON(cmd, o)
}

func retentionCheckCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:   "check {QUERY | ID}",
		Short: "Say what would become of messages today, and why",
		Long: `Decide on one message, or on the first fifty that a query finds, as it is decided before anything is destroyed: on the record itself, read
from its pack. Nothing is changed. What could not be read far enough to say counts as a match, and is marked (unsure).`,
		Example: "  holdfast retention check 01KAT3Q0V5X8J2M4N6P7R9S1TC\n  holdfast retention check 'from:acme.example' --json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := strings.Join(args, " ")
			var found checks
			if err := ask(cmd, o, "/retention", url.Values{"q": {query}}, nil, query, &found); err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if o.json {
				return json.NewEncoder(w).Encode(found)
			}
			for _, c := range found.Records {
				printChecked(w, &c)
			}
			_, err := fmt.Fprintf(w, "%d found, %d shown\n", found.Total, len(found.Records))
			return err
		},
	}, o)
}

// printChecked says what becomes of a record and, in a line each, why.
func printChecked(w io.Writer, c *checked) {
	fmt.Fprintf(w, "%s  %s  %s: ", c.ID, c.Received.Format("2006-01-02"), short(c.Subject, 60))
	switch {
	case c.Error != "":
		fmt.Fprintf(w, "kept, for it can't be read: %s\n", c.Error)
		return
	case c.Forever:
		fmt.Fprintln(w, "kept for ever")
	case !c.Keep:
		fmt.Fprintf(w, "may be destroyed since %s\n", c.Until.Format("2006-01-02"))
	default:
		fmt.Fprintf(w, "kept until %s\n", c.Until.Format("2006-01-02"))
	}
	for _, h := range c.Holds {
		fmt.Fprintf(w, "  hold %s of matter %s, until it is released%s\n", h.Name, h.Matter, unsure(h))
	}
	for _, p := range c.Policies {
		until := "for ever"
		if !p.Forever {
			until = "until " + p.Until.Format("2006-01-02")
		}
		fmt.Fprintf(w, "  policy %s, %s%s\n", p.Name, until, unsure(p))
	}
}

func unsure(r retention.Reason) string {
	if r.Unsure {
		return " (unsure: some of the message could not be read, and it might match)"
	}
	return ""
}
