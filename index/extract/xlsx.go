package extract

import (
	"encoding/xml"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxShared is how many bytes the table of a workbook's strings may have.
const maxShared = 64 << 20

// readShared reads the strings of a workbook (ECMA-376 part 1, section 18.4). How a word is pronounced is left out.
func (d *ooxml) readShared(x *xmlReader) error {
	var b strings.Builder
	total := 0
	for {
		t, err := x.next()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.CharData:
			if x.within() == "t" && x.parent() != "rPh" {
				b.Write(t)
			}
		case xml.EndElement:
			if t.Name.Local == "si" {
				if total += b.Len() + 16; total > maxShared {
					return errors.New("more strings than the limit")
				}
				d.shared = append(d.shared, b.String())
				b.Reset()
			}
		}
	}
}

// sheetStyles says how the numbers of cells are to be read.
type sheetStyles struct {
	styles   []numberStyle // by the s of a cell
	date1904 bool
}

// numberStyle is what a number format makes of a number.
type numberStyle uint8

const (
	plainNumber numberStyle = iota
	percentage
	dateOnly
	dateAndTime
	timeOnly
)

// read reads the styles of a workbook (section 18.8).
func (s *sheetStyles) read(x *xmlReader) error {
	codes := map[string]string{}
	for {
		t, err := x.next()
		if err != nil {
			return err
		}
		e, ok := t.(xml.StartElement)
		switch {
		case !ok:
		case e.Name.Local == "numFmt" && len(codes) < 1<<16:
			codes[attr(e, "numFmtId")] = attr(e, "formatCode")
		case e.Name.Local == "xf" && x.parent() == "cellXfs" && len(s.styles) < 1<<16:
			id := attr(e, "numFmtId")
			n, _ := strconv.Atoi(id)
			s.styles = append(s.styles, styleOf(n, codes[id]))
		}
	}
}

// styleOf tells a number format by its number (section 18.8.30) or its code.
func styleOf(id int, code string) numberStyle {
	if code == "" {
		switch {
		case id == 9 || id == 10:
			return percentage
		case id >= 14 && id <= 17, id >= 27 && id <= 31, id == 36, id >= 50 && id <= 54, id == 57, id == 58:
			return dateOnly
		case id == 22:
			return dateAndTime
		case id >= 18 && id <= 21, id >= 32 && id <= 35, id >= 45 && id <= 47, id == 55, id == 56:
			return timeOnly
		}
		return plainNumber
	}
	var day, month, clock, percent bool
	for i := 0; i < len(code); i++ {
		switch code[i] {
		case '"':
			n := strings.IndexByte(code[i+1:], '"')
			if n < 0 {
				n = len(code)
			}
			i += n + 1
		case '\\', '_', '*':
			i++
		case '[':
			n := max(0, strings.IndexByte(code[i:], ']'))
			switch strings.ToLower(code[i : i+n]) {
			case "[h", "[hh", "[m", "[mm", "[s", "[ss":
				clock = true
			}
			i += n
		case 'g', 'G': // General
			if len(code) >= i+7 && strings.EqualFold(code[i:i+7], "general") {
				i += 6
			}
		case 'y', 'Y', 'd', 'D', 'e':
			day = true
		case 'm', 'M':
			month = true
		case 'h', 'H', 's', 'S':
			clock = true
		case '%':
			percent = true
		case '0', '#', '?':
			if !day && !month && !clock && i+1 < len(code) && (code[i+1] == 'E' || code[i+1] == 'e') {
				return plainNumber
			}
		case ';':
			i = len(code)
		}
	}
	switch {
	case day && clock:
		return dateAndTime
	case clock:
		return timeOnly
	case day || month:
		return dateOnly
	case percent:
		return percentage
	}
	return plainNumber
}

// number writes a number as people would type it: with the digits that a spreadsheet shows at most, days as ISO 8601 has them.
func (s *sheetStyles) number(v float64, style numberStyle) string {
	raw := plainFloat(v)
	switch style {
	case percentage:
		return raw + " " + plainFloat(v*100) + "%"
	case dateOnly, dateAndTime, timeOnly:
		if v >= 0 && v < 2958466 { // the year 10000
			return s.date(v, style)
		}
	}
	return raw
}

// plainFloat writes a number with 15 digits at most and no exponent, unless that would be long.
func plainFloat(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	if v != 0 && (math.Abs(v) >= 1e21 || math.Abs(v) < 1e-15) {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	if short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 15, 64), 64); err == nil {
		v = short
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// date writes a day, which is counted from the end of 1899, or from 1904. The year 1900 had a 29th of February there.
func (s *sheetStyles) date(v float64, style numberStyle) string {
	seconds := math.Round(v * 86400)
	if style == timeOnly && v < 1000 {
		n := int64(seconds)
		return clockText(n/3600, n/60%60, n%60)
	}
	start := time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC)
	switch {
	case s.date1904:
		start = time.Date(1904, 1, 1, 0, 0, 0, 0, time.UTC)
	case v < 60:
		start = start.AddDate(0, 0, 1)
	}
	t := start.AddDate(0, 0, int(seconds)/86400).Add(time.Duration(int64(seconds)%86400) * time.Second)
	if style == dateOnly || t.Hour()+t.Minute()+t.Second() == 0 {
		return t.Format("2006-01-02")
	}
	return t.Format("2006-01-02 ") + clockText(int64(t.Hour()), int64(t.Minute()), int64(t.Second()))
}

func clockText(hours, minutes, seconds int64) string {
	two := func(n int64) string {
		if n < 10 {
			return "0" + strconv.FormatInt(n, 10)
		}
		return strconv.FormatInt(n, 10)
	}
	s := two(hours) + ":" + two(minutes)
	if seconds != 0 {
		s += ":" + two(seconds)
	}
	return s
}

// style gives the style of a cell.
func (s *sheetStyles) style(index int) numberStyle {
	if index < 0 || index >= len(s.styles) {
		return plainNumber
	}
	return s.styles[index]
}

// sheet reads a worksheet (section 18.3): its name, then its cells, a row a line.
func (d *ooxml) sheet(x *xmlReader, name string) error {
	if err := d.out.Text(d.names[partKey(name)]); err != nil {
		return err
	}
	var row rowText
	var cell xml.StartElement
	var value strings.Builder
	for {
		t, err := x.next()
		if err != nil {
			if e := row.end(d.out); e != nil {
				return e
			}
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if t.Name.Local == "c" {
				cell = t.Copy()
				value.Reset()
			}
		case xml.CharData:
			switch in := x.within(); in {
			case "v":
				value.Write(t)
			case "t":
				if slices.Contains(x.names, "is") && x.parent() != "rPh" {
					value.Write(t)
				}
			case "oddHeader", "oddFooter", "evenHeader", "evenFooter", "firstHeader", "firstFooter":
				row.cell(headerText(string(t)))
			}
		case xml.EndElement:
			switch t.Name.Local {
			case "c":
				row.cell(d.cell(cell, value.String()))
				value.Reset()
			case "row", "headerFooter":
				if err := row.end(d.out); err != nil {
					return err
				}
			}
		}
		if row.b.Len() > maxParagraph {
			if err := row.end(d.out); err != nil {
				return err
			}
		}
	}
}

// cell gives what a cell shows (section 18.3.1.4).
func (d *ooxml) cell(e xml.StartElement, value string) string {
	switch attr(e, "t") {
	case "s":
		if i, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && i >= 0 && i < len(d.shared) {
			return d.shared[i]
		}
		return ""
	case "str", "inlineStr", "e", "d":
		return value
	case "b":
		if strings.TrimSpace(value) == "1" {
			return "TRUE"
		}
		return "FALSE"
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil {
		return value
	}
	style, err := strconv.Atoi(attr(e, "s"))
	if err != nil {
		style = 0
	}
	return d.number(v, d.style(style))
}

// rowText is a row of cells in the making.
type rowText struct{ b strings.Builder }

func (r *rowText) cell(s string) {
	if s = strings.TrimSpace(s); s == "" {
		return
	}
	if r.b.Len() > 0 {
		r.b.WriteByte('\t')
	}
	r.b.WriteString(s)
}

func (r *rowText) end(out *Output) error {
	err := out.Text(r.b.String())
	r.b.Reset()
	return err
}

// headerText takes the codes out of the header of a printed page (section 18.3.1.46).
func headerText(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '&' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch c := s[i]; {
		case c == '&':
			b.WriteByte('&')
		case c == '"':
			n := strings.IndexByte(s[i+1:], '"')
			if n < 0 {
				return b.String()
			}
			i += n + 1
		case c == 'K' && len(s) >= i+7: // a colour
			i += 6
		case c >= '0' && c <= '9':
			for i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9' {
				i++
			}
		case c == 'L' || c == 'C' || c == 'R':
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// pivot reads the values that a pivot table keeps of its source (section 18.10), which may be nowhere else in the file.
func (d *ooxml) pivot(x *xmlReader, _ string) error {
	var row rowText
	for {
		t, err := x.next()
		if err != nil {
			if e := row.end(d.out); e != nil {
				return e
			}
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			switch t.Name.Local {
			case "s", "n", "d":
				row.cell(attr(t, "v"))
			case "cacheField":
				row.cell(attr(t, "name"))
			}
		case xml.EndElement:
			if t.Name.Local == "cacheField" || t.Name.Local == "r" || row.b.Len() > maxParagraph {
				if err := row.end(d.out); err != nil {
					return err
				}
			}
		}
	}
}
