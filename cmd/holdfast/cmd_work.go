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

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/journal"
	"github.com/holdfast-archive/holdfast/web"
)

func importCommand(o *options) *cobra.Command {
	var reports []string
	cmd := &cobra.Command{
		Use:   "import PATH...",
		Short: "Take .eml files, mbox files and Maildirs into the archive",
		Long: `Take messages into the archive: .eml files, folders of them, mbox files and Maildirs. The bytes of a message are kept as they stand in
its file (in an mbox without the From_ line and with >From lines unquoted, mboxrd). Each import is an act in the ledger.

--reports names the formats of journal reports that count: sender and recipients of such a message are then those that the report names.
Use it for what a journal mailbox received, never for mail that anybody could have written.`,
		Example: "  holdfast import old.mbox\n  holdfast import ~/Maildir exported/*.eml\n  holdfast import --reports exchange journal-mailbox/*.eml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := journal.CheckReportFormats(reports); err != nil {
				return usage(fmt.Errorf("import: --reports: %w", err))
			}
			for _, path := range args {
				if !exists(path) {
					return usage(fmt.Errorf("import: %s does not exist", path))
				}
			}
			cfg, err := loadConfig(o.config)
			if err != nil {
				return err
			}
			c, err := connect(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, c.close()) }()
			session, err := beginImport(cmd, c, args, reports)
			if err != nil {
				return err
			}
			p := newProgress(os.Stderr)
			var done, failed int64
			for m, merr := range journal.Messages(args...) {
				if cmd.Context().Err() != nil {
					return cmd.Context().Err()
				}
				id := ""
				if merr == nil {
					id, merr = importOne(cmd, c, session, m)
				}
				if merr != nil {
					failed++
					fmt.Fprintln(os.Stderr, "holdfast: import:", merr)
					continue
				}
				done++
				if o.json {
					json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"id": id, "origin": m.Origin})
				}
				p.show(web.Progress{Step: "import", Done: done, Unit: "messages"})
			}
			p.end()
			if !o.json {
				fmt.Fprintf(cmd.OutOrStdout(), "%d imported, %d failed\n", done, failed)
			}
			if failed > 0 {
				return exitCode{code: exitFailed, err: fmt.Errorf("%d of %d messages not imported", failed, done+failed)}
			}
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&reports, "reports", nil, "formats of journal reports that count: exchange, google, zimbra, domino, x_envelope, encoded_address")
	return addJSON(cmd, o)
}

// beginImport has the act of this import written down and gives its name.
func beginImport(cmd *cobra.Command, c *client, paths, reports []string) (string, error) {
	body, err := c.do(cmd.Context(), http.MethodPost, "/imports", url.Values{"path": paths, "report": reports}, nil)
	if err != nil {
		return "", err
	}
	defer body.Close()
	var out struct{ Import string }
	err = json.NewDecoder(body).Decode(&out)
	return out.Import, err
}

// importOne hands one message over and gives its id.
func importOne(cmd *cobra.Command, c *client, session string, m journal.Message) (string, error) {
	r, err := m.Open()
	if err != nil {
		return "", fmt.Errorf("%s: %w", m.Origin, err)
	}
	defer r.Close()
	body, err := c.do(cmd.Context(), http.MethodPost, "/imports/"+session, url.Values{"origin": {m.Origin}}, r)
	if err != nil {
		return "", fmt.Errorf("%s: %w", m.Origin, err)
	}
	defer body.Close()
	var out struct{ ID string }
	err = json.NewDecoder(body).Decode(&out)
	return out.ID, err
}

func verifyCommand(o *options) *cobra.Command {
	var full bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that nothing in the archive was altered and nothing is missing",
		Long: `Read every object of the archive and check it against the ledger. --full also opens each pack and checks each record in it, for which
the identity in keys_dir is needed where packs are encrypted. The ledger is held against all anchors too, those in the second place
included. Writes and repairs nothing in the archive.
Exit code 0: all well; 1: something altered or missing, each named; 2: could not tell.`,
		Example: "  holdfast verify\n  holdfast verify --full --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(o.config)
			if err != nil {
				return err
			}
			p := newProgress(os.Stderr)
			report, err := verifyArchive(cmd.Context(), cfg, full, p.show)
			p.end()
			if err != nil {
				return err
			}
			if o.json {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			} else {
				err = printVerified(cmd.OutOrStdout(), report)
			}
			if err == nil && !report.OK {
				return exitCode{code: exitWanted}
			}
			if err == nil && report.Anchors != nil {
				return reached(report.Anchors.Unreachable)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&full, "full", false, "open each pack and check each record")
	return addJSON(cmd, o)
}

func printVerified(w io.Writer, v *verified) error {
	if err := printReport(w, v.Report); err != nil || v.Anchors == nil || v.Anchors.Anchors == 0 && v.Anchors.OK {
		return err
	}
	return printAnchors(w, v.Anchors)
}

func printReport(w io.Writer, r *archive.Report) error {
	for _, list := range []struct {
		name  string
		items []archive.Finding
	}{{"ALTERED", r.Altered}, {"MISSING", r.Missing}, {"UNACCOUNTED", r.Unaccounted}, {"orphan", r.Orphans}, {"behind", r.Behind}} {
		for _, f := range list.items {
			fmt.Fprintf(w, "%s %s: %s\n", list.name, f.Key, f.What)
		}
	}
	verdict := "all well"
	if !r.OK {
		verdict = fmt.Sprintf("FOUND WANTING, %d altered, %d missing, %d unaccounted for", len(r.Altered), len(r.Missing), len(r.Unaccounted))
	}
	_, err := fmt.Fprintf(w, "%s: %d entries, %d records (messages and acts) in %d packs, %d bytes stored", verdict, r.Entries, r.Records, r.Packs, r.Bytes)
	if err == nil && r.Full {
		_, err = fmt.Fprintf(w, ", %d bytes of mail", r.Raw)
	}
	if err == nil {
		_, err = fmt.Fprintf(w, ", %d purged\n", r.Purged)
	}
	return err
}

func rebuildCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Build index and local state again from the archive and the keys",
		Long: `Build what is derived again: the catalog from the ledger, the index from the packs. Beside a running server the old index serves until
the new one has caught up. One that was interrupted goes on where it was, also by itself when the server starts. On a node that lost its data_dir this is the whole of the recovery: store and keys are enough.`,
		Example: "  holdfast rebuild",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(o.config)
			if err != nil {
				return err
			}
			c, err := connect(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			p := newProgress(os.Stderr)
			var result map[string]any
			err = c.stream(cmd.Context(), "/rebuild", nil, p.show, &result)
			p.end()
			if err == nil && o.json {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(result)
			} else if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSuffix("rebuilt: "+p.sum(), ": "))
			}
			return errors.Join(err, c.close())
		},
	}
	return addJSON(cmd, o)
}
