package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/retention"
	"github.com/holdfast-archive/holdfast/retention/sweep"
)

func purgeCommands(o *options) []*cobra.Command {
	return []*cobra.Command{planCommand(o), plansCommand(o), approveCommand(o), purgeCommand(o), certificateCommand(o)}
}

// shown prints an answer as JSON, or for people.
func shown[T any](cmd *cobra.Command, o *options, path string, v url.Values, order any, people func(w io.Writer, answer T) error) error {
	var answer T
	if err := ask(cmd, o, path, v, order, "", &answer); err != nil {
		return err
	}
	if o.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(answer)
	}
	return people(cmd.OutOrStdout(), answer)
}

func planCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:   "plan",
		Short: "Say what is due to be destroyed, and why",
		Long: `Decide on every record in the packs that are due, read from the packs themselves, and keep the plan: what goes, by what its time is over,
and what is spared by what. Nothing is destroyed. The plan is good until policies, holds or erasures change; its hash is what an approval is
bound to.`,
		Example: "  holdfast retention plan\n  holdfast retention plan --json > plan.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return shown(cmd, o, "/purge/plan", nil, struct{}{}, func(w io.Writer, p planned) error { return printPlan(w, &p) })
		},
	}, o)
}

func printPlan(w io.Writer, p *planned) error {
	fmt.Fprintf(w, "plan %s\n", p.Hash)
	fmt.Fprintf(w, "%d records in %d packs are due, %d bytes of messages; %d that lie beside them are moved\n", p.Records, len(p.Packs), p.Bytes, p.Moved)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range p.Due {
		fmt.Fprintf(t, "  due by\t%s\t%d records\n", c.By, c.Records)
	}
	for _, c := range p.Spared {
		until := ""
		if !c.Until.IsZero() {
			until = "until " + c.Until.Format("2006-01-02")
		}
		fmt.Fprintf(t, "  spared by\t%s\t%d records\t%s\n", c.By, c.Records, until)
	}
	return t.Flush()
}

func plansCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:     "plans",
		Short:   "List the last plans, and who approved them",
		Example: "  holdfast retention plans",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return shown(cmd, o, "/purge/plans", nil, nil, func(w io.Writer, list []*retention.PlanDoc) error {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				for _, p := range list {
					state := "not approved"
					if p.Approved != nil {
						state = fmt.Sprintf("approved by %s on %s: %s", p.Approved.By.ID, p.Approved.At.Format("2006-01-02"), short(p.Approved.Reason, 60))
					}
					fmt.Fprintf(t, "%s\t%s\tby %s on %s\t%d records\t%s\n", p.Plan, p.Log, p.By.ID, p.At.Format("2006-01-02"), p.Records, state)
				}
				return t.Flush()
			})
		},
	}, o)
}

func approveCommand(o *options) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "approve HASH --reason WHY",
		Short: "Approve the plan of this hash",
		Long: `Approve a plan that somebody else made, or the schedule, by its hash or the beginning of it. With retention.four_eyes nothing is destroyed
without. A plan since which policies, holds or erasures have changed can't be approved.`,
		Example: "  holdfast retention approve 3f9a0c2d --reason 'looked through, ticket 4711'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return wish(cmd, o, "/purge/approve", purgeOrder{args[0], reason}, "")
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return addJSON(cmd, o)
}

func purgeCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:     "purge [HASH]",
		Aliases: []string{"run"},
		Short:   "Destroy what a plan says",
		Long: `Destroy what the plan of this hash says, by default the newest. What an earlier run left undone is destroyed first. A plan that has gone
stale is refused, and with retention.four_eyes one that nobody approved. What was destroyed can't be had back.`,
		Example: "  holdfast retention purge\n  holdfast retention purge 3f9a0c2d",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			order := purgeOrder{}
			if len(args) > 0 {
				if order.Plan = args[0]; order.Plan == "" {
					return usage(errors.New("purge: which plan?"))
				}
			}
			return shown(cmd, o, "/purge", nil, order, printCertificates)
		},
	}, o)
}

func certificateCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:     "certificate [ACT]",
		Short:   "Print what was destroyed, when and by whom",
		Example: "  holdfast retention certificate\n  holdfast retention certificate 01KAT3Q0V5X8J2M4N6P7R9S1TC > certificate.txt",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v := url.Values{}
			if len(args) > 0 {
				v.Set("act", args[0])
			}
			return shown(cmd, o, "/purge/certificates", v, nil, printCertificates)
		},
	}, o)
}

func printCertificates(w io.Writer, list []certificate) error {
	for i, c := range list {
		if i > 0 {
			fmt.Fprint(w, "\n\f\n")
		}
		if err := sweep.WriteCertificate(w, c.Archive, c.DestroyedDoc); err != nil {
			return err
		}
	}
	return nil
}

func eraseCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "erase",
		Short: "Requests to erase, as by GDPR article 17",
		Long: `A request is recorded with what its query finds, and granted or refused on a ground; each is an act. What was granted goes with the next
purge, whatever the policies say; a hold keeps it, and a lock of the store until it is over.`,
		Example: "  holdfast erase list",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(eraseAskCommand(o), eraseDecideCommand(o, "grant", true), eraseDecideCommand(o, "refuse", false), eraseListCommand(o))
	return cmd
}

func eraseAskCommand(o *options) *cobra.Command {
	var e erasureOrder
	cmd := &cobra.Command{
		Use:     "ask NAME --query QUERY --reason WHY",
		Short:   "Record a request, with what it is about",
		Example: `  holdfast erase ask r-17 --query 'participants:kim@example.org' --reason 'letter of 3 March'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if e.Query == "" {
				return usage(errors.New("ask: --query is missing"))
			}
			e.Name = args[0]
			return wishFor(cmd, o, "/erasures", e, e.Query, "found")
		},
	}
	cmd.Flags().StringVar(&e.Query, "query", "", "which mail")
	cmd.Flags().StringVar(&e.Reason, "reason", "", "who asked, and when")
	return addJSON(cmd, o)
}

func eraseDecideCommand(o *options, name string, grant bool) *cobra.Command {
	var ground string
	what := map[bool]string{true: "Have what a request found destroyed by the next purge", false: "Refuse a request"}
	cmd := &cobra.Command{
		Use:     name + " NAME --ground GROUND",
		Short:   what[grant],
		Long:    what[grant] + ". The ground is recorded. With retention.four_eyes somebody else decides than who recorded the request.",
		Example: map[bool]string{true: "  holdfast erase grant r-17 --ground 'GDPR 17 (1) b'", false: "  holdfast erase refuse r-17 --ground 'GDPR 17 (3) b: kept by HGB 257'"}[grant],
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return wish(cmd, o, "/erasures/decide", map[string]any{"name": args[0], "grant": grant, "ground": ground}, "")
		},
	}
	cmd.Flags().StringVar(&ground, "ground", "", "on what ground")
	return addJSON(cmd, o)
}

func eraseListCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:     "list",
		Short:   "List the requests, and what has become of what they found",
		Example: "  holdfast erase list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return shown(cmd, o, "/erasures", nil, nil, func(w io.Writer, list []erasure) error {
				for i := range list {
					printErasure(w, &list[i])
				}
				return nil
			})
		},
	}, o)
}

func printErasure(w io.Writer, e *erasure) {
	state := "not decided"
	if d := e.Decided; d != nil {
		state = map[bool]string{true: "granted", false: "refused"}[d.Grant] + fmt.Sprintf(" by %s on %s: %s", d.By.ID, d.At.Format("2006-01-02"), short(d.Ground, 60))
	}
	fmt.Fprintf(w, "%s  by %s on %s: %s; %s\n", e.Name, e.By.ID, e.At.Format("2006-01-02"), short(e.Reason, 60), state)
	fmt.Fprintf(w, "  %d found, %d destroyed", e.Found, e.Gone)
	if e.Held > 0 {
		fmt.Fprintf(w, ", %d held", e.Held)
	}
	if e.Locked > 0 {
		fmt.Fprintf(w, ", %d locked in the store until %s", e.Locked, e.Until.Format(time.DateOnly))
	}
	fmt.Fprintln(w)
}
