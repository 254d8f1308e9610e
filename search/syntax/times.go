package syntax

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/index/query"
)

// moment is an ISO 8601 date, to any precision: year, month, day, minute, second or part of a second, the last three with or without a zone.
var moment = regexp.MustCompile(`^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[Tt](\d\d:\d\d)(?:(:\d\d)(?:\.(\d{1,9}))?)?([Zz]|[+-]\d\d:\d\d)?)?)?)?$`)

// firstYear and lastYear bound what is a date of mail, and can be stored in nanoseconds.
const firstYear, lastYear = 1900, 2200

// period gives the time that a date stands for: its beginning, and the beginning of what follows, each with the offset that the zone has then.
func (p *parser) period(s string) (from, before time.Time, ok bool) {
	loc := p.env.Location
	switch day := p.env.Now.In(loc); strings.ToLower(s) {
	case "today":
		return date(day.Year(), day.Month(), day.Day(), loc), date(day.Year(), day.Month(), day.Day()+1, loc), true
	case "yesterday":
		return date(day.Year(), day.Month(), day.Day()-1, loc), date(day.Year(), day.Month(), day.Day(), loc), true
	}
	m := moment.FindStringSubmatch(s)
	if m == nil {
		return from, before, false
	}
	year, _ := strconv.Atoi(m[1])
	if year < firstYear || year > lastYear {
		return from, before, false
	}
	layout := "2006-01-02T15:04:05.000000000"[:len(s)-len(m[7])]
	if m[7] != "" {
		layout += "Z07:00"
	}
	from, err := time.ParseInLocation(layout, strings.ToUpper(s), loc)
	if err != nil {
		return from, before, false
	}
	switch {
	case m[2] == "":
		before = date(from.Year()+1, 1, 1, loc)
	case m[3] == "":
		before = date(from.Year(), from.Month()+1, 1, loc)
	case m[4] == "":
		before = date(from.Year(), from.Month(), from.Day()+1, loc)
	case m[5] == "":
		before = from.Add(time.Minute)
	default:
		step := time.Second
		for range m[6] {
			step /= 10
		}
		before = from.Add(step)
	}
	return query.Zone(from), query.Zone(before.In(from.Location())), true
}

func date(year int, month time.Month, day int, loc *time.Location) time.Time {
	return query.Zone(time.Date(year, month, day, 0, 0, 0, 0, loc))
}

func (p *parser) badDate(at span, s string) *Error {
	hint := "an ISO date: 2024, 2024-03, 2024-03-31, 2024-03-31T18:00, with Z or +02:00 behind it, today or yesterday"
	if _, ok := p.ago(s); ok {
		hint = "write newer_than:" + s + " or older_than:" + s
	}
	return p.fail(at, fmt.Sprintf("%q is not a date", s), hint)
}

// checkedPeriod is period, with the reasons why a date is refused.
func (p *parser) checkedPeriod(at span, s string) (from, before time.Time, err error) {
	from, before, ok := p.period(s)
	if !ok {
		return from, before, p.badDate(at, s)
	}
	switch strings.ToLower(s) {
	case "today", "yesterday":
		return from, before, p.relative(at, s)
	}
	m := moment.FindStringSubmatch(s)
	if m[4] == "" || m[7] != "" {
		return from, before, nil
	}
	// A time of day without a zone, where clocks may have been changed.
	local := from.In(p.env.Location)
	if wall := local.Format("2006-01-02T15:04"); wall != strings.ToUpper(s[:len(wall)]) {
		return from, before, p.fail(at, fmt.Sprintf("there was no %s in %s: clocks went forward", m[4], p.env.Location), "write the zone behind it, as +02:00")
	}
	for _, step := range []time.Duration{-time.Hour, -30 * time.Minute, 30 * time.Minute, time.Hour} {
		if local.Add(step).Format("2006-01-02T15:04") == local.Format("2006-01-02T15:04") {
			return from, before, p.fail(at, fmt.Sprintf("%s came twice that day in %s: clocks went back", m[4], p.env.Location), "write the zone behind it, as +02:00")
		}
	}
	return from, before, nil
}

// relative refuses what depends on when it is asked, where that must not be.
func (p *parser) relative(at span, s string) error {
	if p.env.Standing {
		return p.fail(at, s+" means another time whenever it is asked", "policies, holds, scopes and alerts need dates: 2024-03-31")
	}
	return nil
}

// timeValue reads sent: and received:.
func (p *parser) timeValue(prop *property, v token) (query.Query, error) {
	t := query.Time{Field: query.TimeField(prop.name)}
	if a, b, ok := strings.Cut(v.text, ".."); ok {
		return p.timeRange(t, prop, v, a, b)
	}
	if since, ok := p.ago(v.text); ok && (prop.op == ":" || prop.op == "=") {
		t.From = since
		return t, p.relative(v.span, v.text)
	}
	from, before, err := p.checkedPeriod(v.span, v.text)
	if err != nil {
		return nil, err
	}
	switch prop.op {
	case "<":
		t.Before = from
	case "<=":
		t.Before = before
	case ">":
		t.From = before
	case ">=":
		t.From = from
	default:
		t.From, t.Before = from, before
	}
	return t, nil
}

// timeRange reads a..b, from the beginning of a to the end of b.
func (p *parser) timeRange(t query.Time, prop *property, v token, a, b string) (query.Query, error) {
	if prop.op != ":" && prop.op != "=" {
		return nil, p.fail(v.span, "a range where one date is asked for", "write "+prop.name+":2024-01..2024-03")
	}
	at, bt := span{v.start, v.start + len(a)}, span{v.end - len(b), v.end}
	if v.kind == tokenPhrase {
		at, bt = v.span, v.span
	}
	if a == "" || b == "" {
		return nil, p.fail(v.span, "half a range", "write "+prop.name+">=2024-01 or "+prop.name+"<=2024-03")
	}
	var err error
	if t.From, _, err = p.checkedPeriod(at, a); err != nil {
		return nil, err
	}
	if _, t.Before, err = p.checkedPeriod(bt, b); err != nil {
		return nil, err
	}
	if !t.From.Before(t.Before) {
		return nil, p.fail(v.span, "a range that ends before it begins", "")
	}
	return t, nil
}

func (p *parser) afterValue(prop *property, v token) (query.Query, error) {
	return p.timeValue(&property{span: prop.span, name: string(query.Received), op: ">="}, v)
}

func (p *parser) beforeValue(prop *property, v token) (query.Query, error) {
	return p.timeValue(&property{span: prop.span, name: string(query.Received), op: "<"}, v)
}

var age = regexp.MustCompile(`^(\d{1,4})([hdwmy])$`)

// ago gives the moment that was so long ago, to the second: hours, days, weeks, months or years of the calendar.
func (p *parser) ago(s string) (time.Time, bool) {
	m := age.FindStringSubmatch(strings.ToLower(s))
	if m == nil {
		return time.Time{}, false
	}
	n, _ := strconv.Atoi(m[1])
	t := p.env.Now.In(p.env.Location).Truncate(time.Second)
	switch m[2] {
	case "h":
		t = t.Add(-time.Duration(n) * time.Hour)
	case "d":
		t = t.AddDate(0, 0, -n)
	case "w":
		t = t.AddDate(0, 0, -7*n)
	case "m":
		t = monthsBefore(t, n)
	case "y":
		t = monthsBefore(t, 12*n)
	}
	return query.Zone(t), t.Year() >= firstYear
}

// monthsBefore stays within the month: a month before the 31st of March is the last of February.
func monthsBefore(t time.Time, n int) time.Time {
	first := t.AddDate(0, -n, 1-t.Day())
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}

func (p *parser) newerValue(_ *property, v token) (query.Query, error) {
	t, ok := p.ago(v.text)
	if !ok {
		return nil, p.badAge(v)
	}
	return query.Time{Field: query.Received, From: t}, p.relative(v.span, v.text)
}

func (p *parser) olderValue(_ *property, v token) (query.Query, error) {
	t, ok := p.ago(v.text)
	if !ok {
		return nil, p.badAge(v)
	}
	return query.Time{Field: query.Received, Before: t}, p.relative(v.span, v.text)
}

func (p *parser) badAge(v token) *Error {
	return p.fail(v.span, fmt.Sprintf("%q is not an age", v.text), "12h, 7d, 2w, 6m (months) or 1y; dates go with after and before")
}
