package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive/bundle"
	"github.com/holdfast-archive/holdfast/web"
)

func exportCommand(o *options) *cobra.Command {
	var to, zone, first, matter, withhold string
	var custodians []string
	var fold, noBOM bool
	cmd := &cobra.Command{
		Use:   "export [QUERY] --to FOLDER",
		Short: "Write what a query finds to a folder, as evidence that a stranger can verify",
		Long: `Write an evidence bundle (BagIt): each message as it was received, attachments, text, an mbox, a Concordance load file and a table, what
the archive saw of each message, and for each a proof that it stood in the ledger. The export is an act in the ledger before the first byte is
written. FOLDER must not exist; until the bundle is whole it is called FOLDER.part, and the same command goes on there after it was cut off.
Beside a running server it is the server that writes, with its own rights.

--withhold names a file with a line "ID ground" for each record that is privileged: it gets a number and a line in the privilege log.
Exit code 1: written, but some record could not be read; data/decisions.csv names it.`,
		Example: `  holdfast export 'from:acme.example received:2026' --to /srv/exports/acme
  holdfast export --matter 'Doe v. Acme' --first ACME-000001 --fold-duplicates --withhold privileged.txt --to acme 'merger'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usage(errors.New("export: --to is missing: where shall the bundle go?"))
			}
			v := url.Values{"q": {strings.Join(args, " ")}, "tz": {zone}, "first": {first}, "matter": {matter}, "custodian": custodians}
			for key, path := range map[string]string{"to": to, "withhold": withhold} {
				if path == "" {
					continue
				}
				abs, err := filepath.Abs(path)
				if err != nil {
					return err
				}
				v.Set(key, abs)
			}
			if fold {
				v.Set("fold", "1")
			}
			if noBOM {
				v.Set("bom", "0")
			}
			cfg, err := loadConfig(o.config)
			if err != nil {
				return err
			}
			c, err := connect(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			p := newProgress(os.Stderr)
			var res bundle.Result
			err = c.stream(cmd.Context(), "/exports", v, p.show, &res)
			p.end()
			if err = errors.Join(exitOf(err), c.close()); err != nil {
				return err
			}
			return printExport(cmd.OutOrStdout(), &res, o.json)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the folder to be made")
	cmd.Flags().StringVar(&zone, "tz", "UTC", "time zone of dates in the query")
	cmd.Flags().StringVar(&first, "first", "HF00000001", "the first number")
	cmd.Flags().StringVar(&matter, "matter", "", "name of the case, for the bundle's papers")
	cmd.Flags().StringArrayVar(&custodians, "custodian", nil, `a custodian: "Name: address, address"; may be repeated`)
	cmd.Flags().BoolVar(&fold, "fold-duplicates", false, "name messages of the same bytes as one before, and don't give them again")
	cmd.Flags().StringVar(&withhold, "withhold", "", "file that lists what is privileged")
	cmd.Flags().BoolVar(&noBOM, "no-bom", false, "the load file without a byte order mark")
	return addJSON(cmd, o)
}

func printExport(w io.Writer, r *bundle.Result, asJSON bool) (err error) {
	if asJSON {
		err = json.NewEncoder(w).Encode(r)
	} else {
		numbers := ""
		if r.First != "" {
			numbers = fmt.Sprintf(", %s to %s", r.First, r.Last)
		}
		_, err = fmt.Fprintf(w, "%d found: %d given%s, %d duplicates, %d withheld, %d envelopes, %d unreadable; %d not archived yet, %d not fully searched\n%s\n",
			r.Counts.Hits, r.Counts.Produced, numbers, r.Counts.Duplicates, r.Counts.Withheld, r.Counts.Envelopes, r.Counts.Unreadable, r.Pending, r.Unsure, r.Bundle)
	}
	if err == nil && r.Counts.Unreadable > 0 {
		return exitCode{code: exitWanted}
	}
	return err
}

func bundleCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bundle",
		Short:   "Verify an evidence bundle",
		Example: "  holdfast bundle verify --key ledger.pub /media/usb/acme",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(bundleVerifyCommand(o))
	return cmd
}

func bundleVerifyCommand(o *options) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "verify FOLDER",
		Short: "Check every file of a bundle, offline",
		Long: `Check a bundle with nothing but its files and the archive's public key (ledger.pub): no archive, no configuration, no network. It names every
file that is missing, altered or was added, and says of how many messages the ledger has entered these very bytes. --key takes the key or a
file with it; without one the key in the bundle is used, which shows damage but not a forger.
Exit code 0: all well; 1: something is wrong, each named; 2: could not tell.`,
		Example: "  holdfast bundle verify --key ledger.pub /media/usb/acme",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if text, err := os.ReadFile(key); err == nil {
				key = string(text)
			}
			root, err := os.OpenRoot(args[0])
			if err != nil {
				return err
			}
			defer root.Close()
			p := newProgress(os.Stderr)
			report, err := bundle.Verify(cmd.Context(), root.FS(), bundle.VerifyOptions{Key: key, Progress: func(done, total int64) {
				p.show(web.Progress{Step: "verify", Done: done, Total: total, Unit: "bytes"})
			}})
			p.end()
			if err != nil {
				return err
			}
			if o.json {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			} else {
				err = printBundle(cmd.OutOrStdout(), report)
			}
			if err == nil && !report.OK {
				return exitCode{code: exitWanted}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the archive's public key, or a file with it")
	return addJSON(cmd, o)
}

func printBundle(w io.Writer, r *bundle.Report) error {
	for _, list := range []struct {
		name  string
		items []bundle.Finding
	}{{"ALTERED", r.Altered}, {"MISSING", r.Missing}, {"ADDED", r.Added}} {
		for _, f := range list.items {
			fmt.Fprintf(w, "%s %q: %s\n", list.name, f.File, f.What)
		}
	}
	verdict := "all well"
	if !r.OK {
		verdict = fmt.Sprintf("FOUND WANTING, %d altered, %d missing, %d added", len(r.Altered), len(r.Missing), len(r.Added))
	}
	_, err := fmt.Fprintf(w, "%s: %d files, %d bytes, %d records, %d of them with the bytes that the ledger has entered, %d proofs; archive %s\n",
		verdict, r.Files, r.Bytes, r.Records, r.Messages, r.Proofs, r.Archive)
	if err == nil && r.Key != "" {
		trust := "the key that you gave"
		if !r.Trusted {
			trust = "the bundle's own word: give the archive's key with --key to know who made this"
		}
		_, err = fmt.Fprintf(w, "key %s, %s\n", r.Key, trust)
	}
	return err
}
