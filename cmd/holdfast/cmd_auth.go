package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/authres"
	"github.com/holdfast-archive/holdfast/web"
)

// printVerdicts prints the verdicts of a record and, if asked, makes them again and compares.
func printVerdicts(cmd *cobra.Command, o *options, idText string, recheck bool) error {
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
	return errors.Join(c.printVerdicts(cmd.Context(), cmd.OutOrStdout(), id, o.json, recheck), c.close())
}

func (c *client) printVerdicts(ctx context.Context, w io.Writer, id record.ID, asJSON, recheck bool) error {
	env, verdicts, err := c.verdictsOf(ctx, id)
	if err != nil {
		return err
	}
	var differences []string
	if recheck {
		body, err := c.do(ctx, http.MethodGet, "/records/"+id.String()+"/eml", nil, nil)
		if err != nil {
			return exitOf(err)
		}
		defer body.Close()
		now, err := authres.Recheck(ctx, verdicts, env, body)
		if err != nil {
			return err
		}
		differences = authres.Differences(verdicts, now)
	}
	if asJSON {
		out := map[string]any{"id": id, "auth": verdicts}
		if recheck {
			out["same"], out["differences"] = len(differences) == 0, append([]string{}, differences...)
		}
		err = json.NewEncoder(w).Encode(out)
	} else {
		err = printVerdictText(w, verdicts, recheck, differences)
	}
	if err == nil && len(differences) > 0 {
		return exitCode{exitWanted, nil}
	}
	return err
}

// verdictsOf fetches envelope and verdicts of a message.
func (c *client) verdictsOf(ctx context.Context, id record.ID) (*record.Envelope, *record.Verdicts, error) {
	body, err := c.do(ctx, http.MethodGet, "/records/"+id.String(), nil, nil)
	if err != nil {
		return nil, nil, exitOf(err)
	}
	defer body.Close()
	var stored web.RecordJSON
	if err := json.NewDecoder(body).Decode(&stored); err != nil {
		return nil, nil, err
	}
	for _, text := range stored.Supplements {
		var s record.Supplement
		if err := json.Unmarshal(text, &s); err != nil {
			return nil, nil, fmt.Errorf("%s: supplement: %w", id, err)
		}
		if s.Auth == nil {
			continue
		}
		env := &record.Envelope{}
		if err := json.Unmarshal(stored.Envelope, env); err != nil {
			return nil, nil, fmt.Errorf("%s: envelope: %w", id, err)
		}
		return env, s.Auth, nil
	}
	return nil, nil, fmt.Errorf("%s: no verdicts are recorded", id)
}

func printVerdictText(w io.Writer, v *record.Verdicts, recheck bool, differences []string) error {
	var b strings.Builder
	line := func(kind, result, about, reason string) {
		fmt.Fprintf(&b, "%-6s %-9s", kind, result)
		for _, s := range []string{about, reason} {
			if s != "" {
				fmt.Fprintf(&b, "  %s", oneLine(s))
			}
		}
		b.WriteString("\n")
	}
	for _, s := range v.SPF {
		line("spf", s.Result, strings.TrimSpace(s.Identity+" "+s.Domain), s.Reason)
	}
	for _, s := range v.DKIM {
		about := fmt.Sprintf("%s, selector %s, %s", s.Domain, s.Selector, s.Algorithm)
		if s.Bits > 0 {
			about += fmt.Sprintf(", %d bits", s.Bits)
		}
		if s.Testing {
			about += ", being tested"
		}
		line("dkim", s.Result, about, s.Reason)
	}
	switch {
	case len(v.DKIM) == 0:
		line("dkim", "none", "not signed", "")
	case v.DKIMMore > 0:
		line("dkim", "", fmt.Sprintf("%d more signatures, not looked at", v.DKIMMore), "")
	}
	if d := v.DMARC; d != nil {
		about := d.From
		if d.Record != "" {
			about += fmt.Sprintf(", policy %s of %s, aligned: %s", d.Policy, d.Record, alignedBy(d))
		}
		line("dmarc", d.Result, about, d.Reason)
	}
	if a := v.ARC; a != nil {
		line("arc", a.Result, strings.Join(a.Sealed, ", "), a.Reason)
	} else {
		line("arc", "none", "", "")
	}
	for _, a := range v.DNS {
		fmt.Fprintf(&b, "\ndns    %s %s: %s", oneLine(a.Name), a.Type, oneLine(a.Rcode+a.Error))
		if a.Server != "" {
			fmt.Fprintf(&b, ", said %s", a.Server)
		}
		fmt.Fprintf(&b, " at %s\n", a.Time.UTC().Format("2006-01-02 15:04:05 UTC"))
		for _, rr := range a.Answer {
			fmt.Fprintf(&b, "       %s\n", short(rr, len(rr)))
		}
	}
	if recheck {
		if len(differences) == 0 {
			b.WriteString("\nchecked again from what is recorded: the same\n")
		}
		for _, d := range differences {
			fmt.Fprintf(&b, "\nchecked again, and not the same: %s\n", oneLine(d))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func alignedBy(d *record.DMARCVerdict) string {
	switch {
	case d.SPFAligned && d.DKIMAligned:
		return "SPF and DKIM"
	case d.SPFAligned:
		return "SPF"
	case d.DKIMAligned:
		return "DKIM"
	}
	return "nothing"
}

// oneLine makes text of a stranger harmless to a terminal.
func oneLine(s string) string { return short(s, 2000) }
