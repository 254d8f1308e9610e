package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/retention"
)

func holdCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hold",
		Short: "Keep mail that is in dispute until it is released",
		Long: `A hold belongs to a matter, and keeps what its custodians sent and received, what its query matches, or what both do: mail that is there
and mail that arrives later. It beats every policy. Once applied to a message it stays until it is released.`,
		Example: "  holdfast hold list",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(holdPlaceCommand(o), holdListCommand(o), holdReleaseCommand(o))
	return cmd
}

func holdPlaceCommand(o *options) *cobra.Command {
	var h holdOrder
	cmd := &cobra.Command{
		Use:   "place NAME --matter M {--custodian C | --query QUERY} --reason WHY",
		Short: "Place a hold, and apply it to all that is there",
		Long: `Place a hold. With custodians and a query it holds what both match. The query may have no relative dates, nor hold, matter, tag, policy
or expires. What could not be read far enough to say whether it matches is held too.`,
		Example: `  holdfast hold place smith-1 --matter 'Smith v. Acme' --custodian 'Ada Byron' --query 'sent:2025-01..2025-06' --reason 'letter of 3 March'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h.Name = args[0]
			return wishFor(cmd, o, "/holds", h, h.Query, "held")
		},
	}
	cmd.Flags().StringVar(&h.Matter, "matter", "", "the matter that it belongs to")
	cmd.Flags().StringArrayVar(&h.Custodians, "custodian", nil, "a custodian of the matter; more than once for several")
	cmd.Flags().StringVar(&h.Query, "query", "", "which mail")
	cmd.Flags().StringVar(&h.Reason, "reason", "", "why")
	return addJSON(cmd, o)
}

// wishFor has something done that is about records, and says about how many.
func wishFor(cmd *cobra.Command, o *options, path string, order any, query, what string) error {
	var d held
	if err := ask(cmd, o, path, nil, order, query, &d); err != nil {
		return err
	}
	if o.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(d)
	}
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s: act %s, %d %s\n", d.Kind, d.Act, d.Records, what)
	if len(d.Late) > 0 {
		fmt.Fprintf(w, "too late for %d of them, which were being destroyed by then:\n", len(d.Late))
	}
	for _, id := range d.Late {
		fmt.Fprintf(w, "  %s\n", id)
	}
	return nil
}

func holdListCommand(o *options) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the holds in force",
		Example: "  holdfast hold list --all --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []retention.HoldDoc
			if err := ask(cmd, o, "/holds", nil, nil, "", &list); err != nil {
				return err
			}
			shown := list[:0]
			for _, h := range list {
				if all || h.Released == nil {
					shown = append(shown, h)
				}
			}
			if o.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(shown)
			}
			return printHolds(cmd.OutOrStdout(), shown)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "released ones too")
	return addJSON(cmd, o)
}

func printHolds(w io.Writer, list []retention.HoldDoc) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, h := range list {
		state := fmt.Sprintf("%d held", h.Records)
		switch {
		case h.Released != nil:
			state = fmt.Sprintf("released by %s on %s: %s", h.Released.By.ID, h.Released.At.Format("2006-01-02"), short(h.Released.Reason, 60))
		case h.Asked != nil:
			state += fmt.Sprintf(", %s asks to release it: %s", h.Asked.By.ID, short(h.Asked.Reason, 60))
		}
		fmt.Fprintf(t, "%s\tmatter %s\tby %s on %s: %s\t%s\t%s\n", h.Name, h.Matter, h.By.ID, h.At.Format("2006-01-02"), short(h.Reason, 60), state, queryForPeople(h.Query))
	}
	return t.Flush()
}

func holdReleaseCommand(o *options) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "release NAME --reason WHY",
		Short: "End a hold: its messages are kept by the policies again",
		Long: `End a hold that you placed. With retention.four_eyes it takes two persons, whoever placed it: the first asks, and another confirms by the
same command. Nothing is destroyed by that.`,
		Example: "  holdfast hold release smith-1 --reason 'settled on 4 May'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return usage(errors.New("release: which hold?"))
			}
			return wish(cmd, o, "/holds/release", map[string]string{"name": args[0], "reason": reason}, "")
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return addJSON(cmd, o)
}
