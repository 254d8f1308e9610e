package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/search"
)

func searchCommand(o *options) *cobra.Command {
	var limit int
	var sort, zone, after string
	var count, page, fold, unsure bool
	var facets []string
	cmd := &cobra.Command{
		Use:   "search [QUERY]",
		Short: "Find records",
		Long: `Find records by a query: words, "phrases", AND OR NOT and parentheses, fields such as from: to: rcpt: subject: sent: received:
size: hasattachment: msgid: sha256:, prefix*, wo?d, W/5. The whole language is in the manual. The search is an act in the ledger before it is carried out.`,
		Example: `  holdfast search 'merger plan'
  holdfast search 'from:acme.example sent:2026-03 hasattachment:yes' --json
  holdfast search 'subject:"second draft" OR subject:timetable' --count
  holdfast search 'subject:merger' --facets sender,month`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(o.config)
			if err != nil {
				return err
			}
			c, err := connect(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			query, path := strings.Join(args, " "), "/search"
			v := url.Values{"q": {query}, "limit": {strconv.Itoa(limit)}, "sort": {sort}, "after": {after}, "tz": {zone}}
			if count {
				v.Set("count", "1")
			}
			if page {
				v.Set("page", "1")
			}
			if fold {
				v.Set("fold", "1")
			}
			if unsure {
				v.Set("not_fully_searched", "1")
			}
			if len(facets) > 0 {
				path = "/facets"
				if !cmd.Flags().Changed("limit") {
					v.Del("limit")
				}
				if facets[0] != "all" {
					v["facet"] = facets
				}
			}
			body, err := c.do(cmd.Context(), http.MethodGet, path, v, nil)
			if err != nil {
				var p *problemError
				if errors.As(err, &p) && p.Pos != nil {
					fmt.Fprintln(os.Stderr, underline(query, p.Problem))
				}
				return errors.Join(exitOf(err), c.close())
			}
			if path == "/facets" {
				err = printFacets(cmd.OutOrStdout(), body, o.json)
			} else {
				err = printResult(cmd.OutOrStdout(), body, o.json, count)
			}
			return errors.Join(err, body.Close(), c.close())
		},
	}
	cmd.Flags().IntVar(&limit, "limit", search.DefaultLimit, "hits to print")
	cmd.Flags().StringVar(&sort, "sort", "-received", "order: received, sent or size, with - before it for the largest first")
	cmd.Flags().BoolVar(&count, "count", false, "print the number of hits only")
	cmd.Flags().BoolVar(&page, "page", false, "print the hits as soon as they are known, without counting all others")
	cmd.Flags().BoolVar(&fold, "fold", false, "print records of the same message, byte for byte, as one")
	cmd.Flags().StringSliceVar(&facets, "facets", nil, "print how the hits spread: all, or some of sender, domain, recipient, month, day, direction, filetype, spf, dkim, dmarc")
	cmd.Flags().BoolVar(&unsure, "not-fully-searched", false, "list what the query can't say, since some of it could not be read")
	cmd.Flags().StringVar(&zone, "tz", "UTC", "time zone of dates in the query")
	cmd.Flags().StringVar(&after, "after", "", "the page that follows: next of the page before")
	return addJSON(cmd, o)
}

func printResult(w io.Writer, body io.Reader, asJSON, count bool) error {
	if asJSON {
		_, err := io.Copy(w, body)
		return err
	}
	var res search.Result
	if err := json.NewDecoder(body).Decode(&res); err != nil {
		return err
	}
	if count {
		if len(res.Missing) > 0 {
			fmt.Fprintln(os.Stderr, "holdfast: search:", missingText(res.Missing))
		}
		_, err := fmt.Fprintln(w, res.Total)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, h := range res.Hits {
		pending := ""
		if h.Pending {
			pending = "  pending"
		}
		if len(h.Reports) > 0 {
			pending += fmt.Sprintf("  %d reports", len(h.Reports))
		}
		if len(h.Same) > 0 {
			pending += fmt.Sprintf("  and %d the same", len(h.Same))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d%s\n", h.ID, h.Received.Local().Format("2006-01-02 15:04"), short(strings.Join(h.From, ", "), 32), short(h.Subject, 60), h.Size, pending)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, hint := range res.Hints {
		fmt.Fprintln(w, "hint:", hint)
	}
	total := fmt.Sprint(res.Total)
	if res.Uncounted {
		total = fmt.Sprint(len(res.Hits), " or more")
	}
	return printSum(w, total, res.Query, res.NotSearched, res.Missing, res.CompleteThrough)
}

// printSum prints what is true of all that was found.
func printSum(w io.Writer, total, read string, unsure uint64, missing []string, complete []search.Through) error {
	through := make([]string, len(complete))
	for i, c := range complete {
		through[i] = fmt.Sprintf("entry %d of %s", c.Seq, c.Log)
		if !c.Time.IsZero() {
			through[i] += c.Time.Local().Format(", 2006-01-02 15:04:05")
		}
	}
	if read == "" {
		read = "every message"
	}
	if unsure > 0 {
		if _, err := fmt.Fprintf(w, "%d not fully searched: some of each could not be read, and what is missing might match (--not-fully-searched)\n", unsure); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		if _, err := fmt.Fprintln(w, missingText(missing)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s found, read as: %s; complete through %s\n", total, read, strings.Join(through, "; "))
	return err
}

// printFacets prints how hits spread.
func printFacets(w io.Writer, body io.Reader, asJSON bool) error {
	if asJSON {
		_, err := io.Copy(w, body)
		return err
	}
	var res search.Facets
	if err := json.NewDecoder(body).Decode(&res); err != nil {
		return err
	}
	for _, f := range index.Facets {
		spread := res.Facets[f]
		if len(spread.Values) == 0 {
			continue
		}
		fmt.Fprintf(w, "%s\n", f)
		for _, c := range spread.Values {
			fmt.Fprintf(w, "%12d  %s\n", c.N, short(c.Value, 80))
		}
		if spread.More > 0 {
			fmt.Fprintf(w, "              and %d more\n", spread.More)
		}
	}
	for _, hint := range res.Hints {
		fmt.Fprintln(w, "hint:", hint)
	}
	return printSum(w, fmt.Sprint(res.Total), res.Query, res.NotSearched, res.Missing, res.CompleteThrough)
}

// missingText says of which months a search could not see all.
func missingText(months []string) string {
	return "MISSING: the index of " + strings.Join(months, ", ") + " was damaged and is being made again from the archive: more mail of that time may match"
}

// short cuts a text for a column, and makes control characters harmless to a terminal.
func short(s string, n int) string {
	runes := []rune(s)
	if len(runes) > n {
		runes = append(runes[:n-1], '…')
	}
	for i, r := range runes {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			runes[i] = ' '
		}
	}
	return string(runes)
}

func getCommand(o *options) *cobra.Command {
	var eml, inner, envelope, text, auth, recheck bool
	var highlight, zone string
	cmd := &cobra.Command{
		Use:   "get ID",
		Short: "Print a record: the message, its envelope, its text, or what SPF, DKIM, DMARC and ARC said of it",
		Long: `Print a record. --eml (the default) gives the received bytes exactly; --inner those of the message that a journal report encloses;
--envelope what was seen of its way, with the delivery and the ledger entry; --text what a reader sees; --auth what SPF, DKIM, DMARC and ARC
said of it at receipt, with the DNS answers of that day; --highlight where the words of a query stand in it. --recheck makes these verdicts again, from those answers, the envelope and the
message alone: exit code 0 if they come out the same, 1 if not. The view is an act in the ledger before anything is shown.`,
		Example: "  holdfast get 01KAT3Q0V5X8J2M4N6P7R9S1TC > message.eml\n  holdfast get 01KAT3Q0V5X8J2M4N6P7R9S1TC --envelope | jq .envelope.rcpt\n" +
			"  holdfast get 01KAT3Q0V5X8J2M4N6P7R9S1TC --auth --recheck\n  holdfast get 01KAT3Q0V5X8J2M4N6P7R9S1TC --highlight 'merger W/5 plan'",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, auth := 0, auth || recheck
			for _, set := range []bool{eml, inner, envelope, text, auth, cmd.Flags().Changed("highlight")} {
				if set {
					chosen++
				}
			}
			path := "/eml"
			switch {
			case chosen > 1:
				return usage(errors.New("--eml, --inner, --envelope, --text, --auth and --highlight: one of them"))
			case cmd.Flags().Changed("highlight"):
				return printHighlight(cmd, o, args[0], highlight, zone)
			case auth:
				return printVerdicts(cmd, o, args[0], recheck)
			case inner:
				path = "/inner"
			case envelope:
				path = ""
			case text:
				path = "/text"
			}
			return download(cmd, o, args[0], path)
		},
	}
	cmd.Flags().BoolVar(&eml, "eml", false, "the received bytes (default)")
	cmd.Flags().BoolVar(&inner, "inner", false, "of a journal report: the bytes of the message that it encloses")
	cmd.Flags().BoolVar(&envelope, "envelope", false, "envelope, supplements and ledger entry, as JSON")
	cmd.Flags().BoolVar(&text, "text", false, "header and text, as a reader sees them")
	cmd.Flags().BoolVar(&auth, "auth", false, "SPF, DKIM, DMARC and ARC at receipt, with the DNS answers")
	cmd.Flags().StringVar(&highlight, "highlight", "", "where the words of a query stand in it")
	cmd.Flags().StringVar(&zone, "tz", "UTC", "time zone of dates in the query")
	cmd.Flags().BoolVar(&recheck, "recheck", false, "make these verdicts again from what is recorded, and compare")
	return addJSON(cmd, o)
}

// printHighlight prints where the words of a query stand, each between arrows.
func printHighlight(cmd *cobra.Command, o *options, idText, query, zone string) error {
	id, err := record.ParseID(idText)
	if err != nil {
		return usage(err)
	}
	cfg, err := loadConfig(o.config)
	if err != nil {
		return err
	}
	c, err := connect(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	body, err := c.do(cmd.Context(), http.MethodGet, "/records/"+id.String()+"/highlight", url.Values{"q": {query}, "tz": {zone}}, nil)
	if err != nil {
		var p *problemError
		if errors.As(err, &p) && p.Pos != nil {
			fmt.Fprintln(os.Stderr, underline(query, p.Problem))
		}
		return errors.Join(exitOf(err), c.close())
	}
	if o.json {
		_, err = io.Copy(cmd.OutOrStdout(), body)
	} else {
		var h search.Highlight
		if err = json.NewDecoder(body).Decode(&h); err == nil {
			err = writeHighlight(cmd.OutOrStdout(), &h)
		}
	}
	return errors.Join(err, body.Close(), c.close())
}

func writeHighlight(w io.Writer, h *search.Highlight) error {
	line := func(name string, list []search.Piece) {
		var b strings.Builder
		for _, p := range list {
			text := short(p.Text, len(p.Text)+1)
			if p.Marked {
				text = "»" + text + "«"
			}
			b.WriteString(text)
		}
		fmt.Fprintf(w, "%s: %s\n", name, strings.Join(strings.Fields(b.String()), " "))
	}
	line("Subject", h.Subject)
	for _, s := range h.Body {
		line("Text", s)
	}
	for _, s := range h.Attachments {
		line("Attachment", s)
	}
	_, err := fmt.Fprintf(w, "read as: %s; this record matches: %s\n", h.Query, h.Matches)
	return err
}

func proofCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:   "proof ID",
		Short: "Print the proof that a record is in the ledger",
		Long: `Print a C2SP tlog-proof: the record's entry, its inclusion proof and the signed checkpoint. Whoever has the archive's public key
(ledger.pub in keys_dir) can check it with any transparency-log library.`,
		Example: "  holdfast proof 01KAT3Q0V5X8J2M4N6P7R9S1TC > record.tlog-proof",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return download(cmd, o, args[0], "/proof") },
	}, o)
}

// download prints one part of a record.
func download(cmd *cobra.Command, o *options, idText, part string) error {
	id, err := record.ParseID(idText)
	if err != nil {
		return usage(err)
	}
	cfg, err := loadConfig(o.config)
	if err != nil {
		return err
	}
	c, err := connect(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	body, err := c.do(cmd.Context(), http.MethodGet, "/records/"+id.String()+part, nil, nil)
	if err != nil {
		return errors.Join(exitOf(err), c.close())
	}
	if o.json && part != "" { // what is not JSON by itself becomes a string in it; a message as base64, for it need not be UTF-8
		text, err := io.ReadAll(body)
		if err == nil {
			out := map[string]any{"id": id, strings.TrimPrefix(part, "/"): string(text)}
			if part == "/eml" || part == "/inner" {
				out = map[string]any{"id": id, strings.TrimPrefix(part, "/") + "_base64": text}
			}
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(out)
		}
		return errors.Join(err, body.Close(), c.close())
	}
	_, err = io.Copy(cmd.OutOrStdout(), body)
	return errors.Join(err, body.Close(), c.close())
}

// quietly bounds how often a plain line of progress is printed where there is no terminal.
const quietly = 15 * time.Second
