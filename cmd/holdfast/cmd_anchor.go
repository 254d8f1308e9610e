package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/anchor"
	"github.com/holdfast-archive/holdfast/archive/object"
)

func anchorCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "anchor",
		Short: "Checkpoints of the ledger, stamped and in a second place",
		Long: `An anchor has the signed checkpoints of all logs at one time. It is stamped by the time-stamp authority (RFC 3161) and put to the second
place that the configuration names, so that nobody can rewrite the ledger afterwards, the holder of its key included. A server makes one
each hour (anchor.every). These commands need the store and the keys alone, and work beside a server and without one.`,
		Example: "  holdfast anchor check\n  holdfast anchor list --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(anchorListCommand(o), anchorCheckCommand(o), anchorNowCommand(o))
	return cmd
}

// withAnchors is a command over the anchors that there are, in the archive and in the second place.
func withAnchors(o *options, do func(*cobra.Command, anchor.CheckOptions) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) (err error) {
		cfg, err := loadConfig(o.config)
		if err != nil {
			return err
		}
		check, done, err := openAnchors(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		return do(cmd, check)
	}
}

func anchorListCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:     "list",
		Short:   "Which anchors there are, where, and when they were stamped",
		Example: "  holdfast anchor list",
		Args:    cobra.NoArgs,
		RunE: withAnchors(o, func(cmd *cobra.Command, check anchor.CheckOptions) error {
			list, away, err := anchor.List(cmd.Context(), check)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if o.json {
				return json.NewEncoder(out).Encode(map[string]any{"anchors": list, "unreachable": away})
			}
			for _, a := range list {
				stamped := "not stamped"
				if !a.Stamped.IsZero() {
					stamped = fmt.Sprintf("stamped %s by %s", a.Stamped.Format(time.RFC3339), a.Authority)
				}
				var logs []string
				for _, l := range a.Logs {
					logs = append(logs, fmt.Sprintf("%s %d", l.Log, l.Entries))
				}
				fmt.Fprintf(out, "%s  %s  %s, in %s\n", a.Key, strings.Join(logs, ", "), stamped, strings.Join(a.Places, " and "))
			}
			return reached(away)
		}),
	}, o)
}

// reached is an error where a place could not be asked.
func reached(away []string) error {
	if len(away) == 0 {
		return nil
	}
	return fmt.Errorf("could not tell: %s", strings.Join(away, "; "))
}

func anchorCheckCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:   "check",
		Short: "Hold the ledger of today against all anchors",
		Long: `Read all anchors in the archive and in the second place, verify their time stamps, and prove for each that the ledger of today goes on
from what it saw. A ledger that was rewritten or set back is named, and so is an anchor that was altered or is gone. verify does the same.
Exit code 0: all well; 1: something found; 2: could not tell.`,
		Example: "  holdfast anchor check --json",
		Args:    cobra.NoArgs,
		RunE: withAnchors(o, func(cmd *cobra.Command, check anchor.CheckOptions) error {
			r, err := anchor.Check(cmd.Context(), check)
			if err != nil {
				return err
			}
			if o.json {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			} else {
				err = printAnchors(cmd.OutOrStdout(), r)
			}
			if err == nil && !r.OK {
				return exitCode{code: exitWanted}
			}
			return errors.Join(err, reached(r.Unreachable))
		}),
	}, o)
}

func printAnchors(w io.Writer, r *anchor.Report) error {
	for _, f := range r.Findings {
		kind := f.Kind
		if kind != anchor.KindBehind {
			kind = strings.ToUpper(kind)
		}
		fmt.Fprintf(w, "%s %s in %s: %s\n", kind, f.Key, f.Place, f.What)
	}
	verdict := "the ledger goes on from all of them"
	if !r.OK {
		verdict = "FOUND WANTING"
	}
	_, err := fmt.Fprintf(w, "anchors: %d, %d stamped: %s\n", r.Anchors, r.Stamped, verdict)
	return err
}

func anchorNowCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:     "now",
		Short:   "Make an anchor now",
		Long:    `Make an anchor of what the ledger has now, unless the last has all of it; have it stamped, and put it to the second place.`,
		Example: "  holdfast anchor now",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			cfg, err := loadConfig(o.config)
			if err != nil {
				return err
			}
			keys, err := archive.LoadKeys(cfg.KeysDir)
			if err != nil {
				return err
			}
			store, err := object.Open(cmd.Context(), cfg.Archive.Store, cfg.storeOptions(nil))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			if !cfg.Anchor.Enabled() {
				fmt.Fprintln(os.Stderr, "holdfast: neither anchor.store nor anchor.authority is set: this anchor stays in the archive, where its operator can take it away")
			}
			m, err := anchorMaker(cmd.Context(), cfg, store, keys, anchor.Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, m.Close()) }()
			a, err := m.Make(cmd.Context())
			if a == nil {
				return err
			}
			if o.json {
				return errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"key": a.Key, "sha256": a.SHA256, "time": a.Time}))
			}
			fmt.Fprintln(cmd.OutOrStdout(), a.Key)
			return err
		},
	}, o)
}
