package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/search/matter"
)

func matterCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "matter",
		Short: "Legal cases: custodians, saved searches, notes and reviews",
		Long: `A matter is a legal case. Its members see and change it; who creates it is the first. Each change is an act in the ledger. Holds and tags
belong to a matter: see holdfast hold and holdfast tag.`,
		Example: "  holdfast matter create 'Smith v. Acme'\n  holdfast matter show 'Smith v. Acme'",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		matterCreateCommand(o), matterListCommand(o), matterShowCommand(o), matterMemberCommand(o), matterCustodianCommand(o),
		matterSearchCommand(o), matterNoteCommand(o), matterReviewCommand(o),
	)
	return cmd
}

// change asks for a change of a matter.
func change(cmd *cobra.Command, o *options, name, do string, order matterOrder) error {
	return wish(cmd, o, matterPath(name)+"/"+do, order, order.Query)
}

func matterPath(name string) string { return "/matters/" + name }

func matterCreateCommand(o *options) *cobra.Command {
	var description string
	cmd := &cobra.Command{
		Use:     "create NAME",
		Short:   "Make a matter; you are its first member",
		Example: "  holdfast matter create 'Smith v. Acme' --description 'about the merger'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return wish(cmd, o, "/matters", map[string]string{"name": args[0], "description": description}, "")
		},
	}
	cmd.Flags().StringVar(&description, "description", "", "what it is about")
	return addJSON(cmd, o)
}

func matterListCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:     "list",
		Short:   "List the matters that you are a member of",
		Example: "  holdfast matter list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []matterView
			if err := ask(cmd, o, "/matters", nil, nil, "", &list); err != nil {
				return err
			}
			if o.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(list)
			}
			for _, m := range list {
				fmt.Fprintf(cmd.OutOrStdout(), "%s  since %s, holds: %s\n", m.Name, m.At.Format("2006-01-02"), strings.Join(m.Holds, ", "))
			}
			return nil
		},
	}, o)
}

func matterShowCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:     "show NAME",
		Short:   "Show a matter: members, custodians, searches, holds, tags, reviews and notes",
		Example: "  holdfast matter show 'Smith v. Acme' --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var m matterView
			if err := ask(cmd, o, matterPath(args[0]), nil, nil, "", &m); err != nil {
				return err
			}
			if o.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(m)
			}
			printMatter(cmd.OutOrStdout(), &m)
			return nil
		},
	}, o)
}

func printMatter(w io.Writer, m *matterView) {
	fmt.Fprintf(w, "%s\n  since %s, by %s\n", m.Name, m.At.Format("2006-01-02"), m.By.ID)
	if m.Description != "" {
		fmt.Fprintf(w, "  %s\n", short(m.Description, 500))
	}
	fmt.Fprintf(w, "  members: %s\n", strings.Join(m.Members, ", "))
	for _, c := range m.Custodians {
		fmt.Fprintf(w, "  custodian %s: %s\n", c.Name, strings.Join(addressesForPeople(c.Addresses), ", "))
	}
	for _, s := range m.Searches {
		fmt.Fprintf(w, "  search %s: %s\n", s.Name, short(s.Query, 200))
	}
	for _, h := range m.Holds {
		fmt.Fprintf(w, "  hold %s\n", h)
	}
	for _, tag := range slices.Sorted(maps.Keys(m.Tags)) {
		fmt.Fprintf(w, "  tag %s: %d messages\n", tag, m.Tags[tag])
	}
	for _, r := range slices.Sorted(maps.Keys(m.Reviews)) {
		fmt.Fprintf(w, "  %s: %d messages\n", r, m.Reviews[r])
	}
	for _, n := range m.Notes {
		fmt.Fprintf(w, "  note on %s, by %s on %s: %s\n", n.Record, n.By.ID, n.At.Format("2006-01-02"), short(n.Text, 500))
	}
}

func addressesForPeople(list []matter.Address) (out []string) {
	for _, a := range list {
		text := a.Address
		if !a.From.IsZero() {
			text += " from " + a.From.Format("2006-01-02")
		}
		if !a.Before.IsZero() {
			text += " before " + a.Before.Format("2006-01-02")
		}
		out = append(out, text)
	}
	return out
}

func matterMemberCommand(o *options) *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:     "member MATTER WHO",
		Short:   "Let somebody see and change a matter, or no longer",
		Example: "  holdfast matter member 'Smith v. Acme' uid:1001",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd, o, args[0], "member", matterOrder{Name: args[1], Remove: remove})
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "no longer")
	return addJSON(cmd, o)
}

func matterCustodianCommand(o *options) *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "custodian MATTER NAME {ADDRESS[,FROM[,BEFORE]]... | --remove}",
		Short: "Add a person with all addresses, each for the time that it was that person's",
		Long: `Add a person, or set the addresses of one anew. An address may be followed by the day from which on it was that person's, and the day
before which. A hold keeps the addresses with which it was placed: where a custodian has new ones, place another.`,
		Example: "  holdfast matter custodian 'Smith v. Acme' 'Ada Byron' ada@acme.example ceo@acme.example,2020-01-01,2022-07-01",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			order := matterOrder{Name: args[1], Remove: remove}
			for _, text := range args[2:] {
				a, err := parseCustodianAddress(text)
				if err != nil {
					return usage(err)
				}
				order.Addresses = append(order.Addresses, a)
			}
			if remove == (len(order.Addresses) > 0) {
				return usage(errors.New("custodian: addresses, or --remove"))
			}
			return change(cmd, o, args[0], "custodian", order)
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "take the person out of the matter; holds stay")
	return addJSON(cmd, o)
}

func parseCustodianAddress(text string) (a matter.Address, err error) {
	parts := strings.Split(text, ",")
	a.Address = parts[0]
	for i, at := range []*time.Time{&a.From, &a.Before} {
		if len(parts) > i+1 && parts[i+1] != "" {
			if *at, err = time.Parse("2006-01-02", parts[i+1]); err != nil {
				return a, fmt.Errorf("%q: %q is not a day such as 2026-11-25", text, parts[i+1])
			}
		}
	}
	if len(parts) > 3 {
		return a, fmt.Errorf("%q: an address, and at most two days", text)
	}
	return a, nil
}

func matterSearchCommand(o *options) *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:     "search MATTER NAME {QUERY | --remove}",
		Short:   "Keep a query under a name",
		Example: "  holdfast matter search 'Smith v. Acme' first 'subject:merger sent:2025'",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if remove == (len(args) > 2) {
				return usage(errors.New("search: a query, or --remove"))
			}
			return change(cmd, o, args[0], "search", matterOrder{Name: args[1], Query: strings.Join(args[2:], " "), Remove: remove})
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "forget it")
	return addJSON(cmd, o)
}

func matterNoteCommand(o *options) *cobra.Command {
	return addJSON(&cobra.Command{
		Use:     "note MATTER ID TEXT",
		Short:   "Write a note on a message",
		Example: "  holdfast matter note 'Smith v. Acme' 01KAT3Q0V5X8J2M4N6P7R9S1TC 'the first mention of the price'",
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args[1:2])
			if err != nil {
				return usage(err)
			}
			return change(cmd, o, args[0], "note", matterOrder{IDs: ids, Text: args[2]})
		},
	}, o)
}

func matterReviewCommand(o *options) *cobra.Command {
	var was string
	cmd := &cobra.Command{
		Use:   "review MATTER {relevant | not-relevant | privileged | needs-a-look | none} ID...",
		Short: "Say what was found of messages",
		Long: `Say what was found of messages. A review that is there already is named by --was; where another is in force meanwhile nothing is changed,
on none of them.`,
		Example: "  holdfast matter review 'Smith v. Acme' privileged --was needs-a-look 01KAT3Q0V5X8J2M4N6P7R9S1TC",
		Args:    cobra.MinimumNArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args[2:])
			if err != nil {
				return usage(err)
			}
			return change(cmd, o, args[0], "review", matterOrder{Review: matter.Review(args[1]), Was: matter.Review(was), IDs: ids})
		},
	}
	cmd.Flags().StringVar(&was, "was", string(matter.None), "the review that this one replaces")
	return addJSON(cmd, o)
}

func parseIDs(texts []string) (ids []record.ID, err error) {
	for _, s := range texts {
		id, err := record.ParseID(s)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func tagCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tag",
		Short:   "Add tags to messages, and take them away",
		Long:    "Tags belong to a matter. A message is not changed by one: tags are acts in the ledger. tag:NAME finds the messages of a tag.",
		Example: "  holdfast tag add hot --matter 'Smith v. Acme' 'subject:merger from:ada@acme.example'",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(tagChangeCommand(o, false), tagChangeCommand(o, true))
	return cmd
}

func tagChangeCommand(o *options, remove bool) *cobra.Command {
	var name, zone string
	var named []string
	use, what, done := "add", "Add a tag to the messages that a query finds, in one act", "tagged"
	if remove {
		use, what, done = "remove", "Take a tag from the messages that a query finds, in one act", "no longer tagged"
	}
	cmd := &cobra.Command{
		Use:     use + " TAG --matter M {QUERY | --id ID...}",
		Short:   what,
		Example: "  holdfast tag " + use + " hot --matter 'Smith v. Acme' 'subject:merger'\n  holdfast tag " + use + " hot --matter 'Smith v. Acme' --id 01KAT3Q0V5X8J2M4N6P7R9S1TC",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(named)
			if err != nil {
				return usage(err)
			}
			if (len(args) > 1) == (len(ids) > 0) {
				return usage(fmt.Errorf("%s: a query, or --id; an empty query in quotes is every message", use))
			}
			order := matterOrder{Name: args[0], Query: strings.Join(args[1:], " "), Zone: zone, IDs: ids, Remove: remove}
			return wishFor(cmd, o, matterPath(name)+"/tag", order, order.Query, done)
		},
	}
	cmd.Flags().StringVar(&name, "matter", "", "the matter that the tag belongs to")
	cmd.Flags().StringSliceVar(&named, "id", nil, "these messages")
	cmd.Flags().StringVar(&zone, "tz", "UTC", "time zone of dates in the query")
	return addJSON(cmd, o)
}
