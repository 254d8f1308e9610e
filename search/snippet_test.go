package search

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/index/query"
)

func TestSnippets(t *testing.T) {
	text := strings.Repeat("é ", 200) + "MERGER" + strings.Repeat(" ü", 40) + "MERGER" + strings.Repeat(" 北", 3000) + "PLAN" + strings.Repeat("\xff", 200)
	var marks []query.Mark
	for _, word := range []string{"MERGER", "PLAN"} {
		for at := 0; ; {
			i := strings.Index(text[at:], word)
			if i < 0 {
				break
			}
			marks = append(marks, query.Mark{Start: at + i, End: at + i + len(word)})
			at += i + len(word)
		}
	}
	list := snippets(text, marks)
	if len(list) != 2 {
		t.Fatalf("%d snippets", len(list))
	}
	for i, want := range []string{"MERGER MERGER", "PLAN"} {
		var marked []string
		all := ""
		for _, p := range list[i] {
			all += p.Text
			if p.Marked {
				marked = append(marked, p.Text)
			}
		}
		if strings.Join(marked, " ") != want || !utf8.ValidString(all) || len(all) > 4*maxPieces {
			t.Errorf("snippet %d: %q, %d bytes", i, marked, len(all))
		}
	}
	if all := snippets(text, nil); len(all) != 0 {
		t.Errorf("without marks: %v", all)
	}
	if n := len(snippets(strings.Repeat("a"+strings.Repeat(" ", 999), 50), func() (m []query.Mark) {
		for i := range 50 {
			m = append(m, query.Mark{Start: i * 1000, End: i*1000 + 1})
		}
		return m
	}())); n != maxSnippets {
		t.Errorf("%d snippets", n)
	}
	long := query.Mark{Start: 0, End: 5000} // a mark past the end of what is shown
	if p := pieces(strings.Repeat("x", 6000), 0, 1000, []query.Mark{long}); len(p) != 1 || !p[0].Marked || len(p[0].Text) != 1000 {
		t.Errorf("%d pieces", len(p))
	}
	if got := fmt.Sprint(pieces("a b c", 0, 5, []query.Mark{{Start: 2, End: 3}})); got != "[{a  false} {b true} { c false}]" {
		t.Errorf("%s", got)
	}
}
