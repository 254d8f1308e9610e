package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive/replica"
	"github.com/holdfast-archive/holdfast/web"
)

func replicateCommand(o *options) *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "replicate",
		Short: "Bring the second copy up to date, or repair one from the other",
		Long: `Copy to replica.store what it lacks: packs first, then the ledger, each read back. A server does so all the time. What is cut off goes on
where it was. What was destroyed does not come back.

--repair reads both copies whole, and puts right in each what is altered or missing there and well in the other, by the ledger. Without a
server it also brings back an end of the ledger that the archive has lost, or all of the archive into an empty store.
Exit code 0: all done; 1: something could not be copied or repaired, each named; 2: it failed.`,
		Example: "  holdfast replicate\n  holdfast replicate --repair --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(o.config)
			if err != nil {
				return err
			}
			if cfg.Replica.Store == "" {
				return errNoReplica
			}
			r, err := runReplicate(cmd, cfg, repair)
			if err != nil {
				return err
			}
			if o.json {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			} else {
				err = printReplicated(cmd.OutOrStdout(), r)
			}
			if err == nil && !r.OK {
				return exitCode{code: exitWanted}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "read both copies, and repair one from the other")
	return addJSON(cmd, o)
}

// runReplicate asks the server, and without one does it in this process.
func runReplicate(cmd *cobra.Command, cfg *config, repair bool) (r *replica.Report, err error) {
	query := url.Values{}
	if repair {
		if lock, lerr := lockDataDir(cfg.DataDir); lerr == nil {
			defer lock.Close()
			p := newProgress(os.Stderr)
			defer p.end()
			return repairAlone(cmd.Context(), cfg, func(n uint64) { p.show(web.Progress{Step: "repair", Done: int64(n), Unit: "packs"}) })
		}
		query.Set("repair", "1")
	}
	c, err := connect(cmd.Context(), cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	body, err := c.do(cmd.Context(), http.MethodPost, "/replicate", query, nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return r, json.NewDecoder(body).Decode(&r)
}

func printReplicated(w io.Writer, r *replica.Report) error {
	for _, m := range r.Repaired {
		fmt.Fprintf(w, "repaired in the %s: %s (%s)\n", m.Store, m.Key, m.Was)
	}
	for _, f := range r.Faults {
		fmt.Fprintf(w, "FAULT %s: %s\n", f.Key, f.What)
	}
	_, err := fmt.Fprintf(w, "%d packs, %d commits and %d other objects copied, %d bytes; %d repaired, %d faults\n", r.Packs, r.Commits, r.Others, r.Bytes, len(r.Repaired), len(r.Faults))
	return err
}
