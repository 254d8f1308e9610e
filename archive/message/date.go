package message

import (
	"net/mail"
	"strconv"
	"strings"
	"time"
)

// parseDate reads a Date field in UTC: RFC 5322, and what else stands in real mail. It is zero where no day can be read. A date without a
// zone, or with a name for one that may mean several, is taken as UTC.
func parseDate(s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	if t, err := mail.ParseDate(s); err == nil {
		text, _, _ := strings.Cut(s, "(")
		if !strings.ContainsAny(text, "+-") { // a name, which package time looks up in the zone of this machine
			loc := time.UTC
			if words := strings.Fields(text); zone(words[len(words)-1]) != nil {
				loc = zone(words[len(words)-1])
			}
			t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), loc)
		}
		return sane(t)
	}
	return sane(looseDate(s))
}

// sane refuses years that no mail is of: sorting and retention must not trip over them. 102 is 2002, counted from 1900 (RFC 5322, section 4.3).
func sane(t time.Time) time.Time {
	if t.Year() > 0 && t.Year() < 1000 {
		t = t.AddDate(1900, 0, 0)
	}
	if t = t.UTC(); t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// looseDate looks for a day, a month's name, a year, a time and a zone, in any order.
func looseDate(s string) time.Time {
	if len(s) > 200 {
		s = s[:200]
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return t
		}
	}
	var d struct {
		year, month, day, hour, min, sec int
		zone                             *time.Location
		clock, afternoon, morning        bool
	}
	d.year, d.day = -1, -1
	s, _, _ = strings.Cut(s, "(")
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '/' }) {
		parts := []string{word}
		if !d.clock && strings.Count(word, "-") == 2 { // 12-Mar-2003
			parts = strings.Split(word, "-")
		}
		for _, p := range parts {
			n, err := strconv.Atoi(p)
			switch {
			case strings.Count(p, ":") >= 1 && !d.clock && clock(p, &d.hour, &d.min, &d.sec):
				d.clock = true
			case strings.EqualFold(p, "pm"):
				d.afternoon = true
			case strings.EqualFold(p, "am"):
				d.morning = true
			case d.zone == nil && zone(p) != nil:
				d.zone = zone(p)
			case err == nil && len(p) <= 2 && d.year >= 1000 && d.month == 0 && n >= 1 && n <= 12: // 2002/09/14
				d.month = n
			case err == nil && len(p) <= 2 && d.day < 0:
				d.day = n
			case err == nil && n >= 0 && d.year < 0 && (len(p) == 2 || len(p) == 3 || len(p) == 4):
				d.year = n
			case d.month == 0 && month(p) > 0:
				d.month = month(p)
			}
		}
	}
	switch { // RFC 5322, section 4.3
	case d.year >= 0 && d.year < 50:
		d.year += 2000
	case d.year >= 50 && d.year < 1000:
		d.year += 1900
	}
	if d.afternoon && d.hour < 12 {
		d.hour += 12
	}
	if d.morning && d.hour == 12 {
		d.hour = 0
	}
	if d.year < 0 || d.month == 0 || d.day < 1 || d.day > 31 {
		return time.Time{}
	}
	if d.zone == nil {
		d.zone = time.UTC
	}
	return time.Date(d.year, time.Month(d.month), d.day, d.hour, d.min, d.sec, 0, d.zone)
}

// clock reads hh:mm or hh:mm:ss, with a fraction or not.
func clock(s string, hour, minute, second *int) bool {
	s, _, _ = strings.Cut(s, ".")
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return false
	}
	var v [3]int
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 60 {
			return false
		}
		v[i] = n
	}
	if v[0] > 24 {
		return false
	}
	*hour, *minute, *second = v[0], v[1], v[2]
	return true
}

func month(s string) int {
	if len(s) < 3 {
		return 0
	}
	i := strings.Index("janfebmaraprmayjunjulaugsepoctnovdec", strings.ToLower(s[:3]))
	if i < 0 || i%3 != 0 {
		return 0
	}
	return i/3 + 1
}

// zone reads +0200, GMT+02:00, or a name that is not ambiguous in mail (RFC 5322, section 4.3); nil: it is none.
func zone(s string) *time.Location {
	name := strings.ToUpper(s)
	for _, prefix := range []string{"GMT", "UTC"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			if name = rest; name == "" {
				return time.UTC
			}
		}
	}
	if h, ok := map[string]int{
		"UT": 0, "Z": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
		"WET": 0, "WEST": 1, "BST": 1, "CET": 1, "MET": 1, "CEST": 2, "MEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "JST": 9, "KST": 9,
	}[name]; ok {
		return time.FixedZone("", h*3600)
	}
	if len(name) < 2 || name[0] != '+' && name[0] != '-' {
		return nil
	}
	digits := strings.Replace(name[1:], ":", "", 1)
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || len(digits) > 4 {
		return nil
	}
	if len(digits) <= 2 {
		n *= 100
	}
	seconds := n/100*3600 + n%100*60
	if seconds > 15*3600 {
		seconds = 0
	}
	if name[0] == '-' {
		seconds = -seconds
	}
	return time.FixedZone("", seconds)
}
