package query

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/index/document"
)

func TestMarks(t *testing.T) {
	d := &document.Document{Subject: "Réunion: the merger plan", Body: "The Merger of mergers. A plan, and a merger-plan; 北京大学 plan.",
		Attachments: []document.Attachment{{Name: "other.txt"}, {Name: "merger plan.pdf"}}}
	show := func(f Field, text string, i int, q Query) string {
		var b strings.Builder
		end := 0
		if all := NewMatcher(d).Marks(q)[f]; len(all) > i {
			for _, k := range all[i] {
				b.WriteString(text[end:k.Start] + "[" + text[k.Start:k.End] + "]")
				end = k.End
			}
		}
		return b.String() + text[end:]
	}
	merger, plan := Text{Tokens: []string{"merger"}}, Text{Tokens: []string{"plan"}}
	for _, c := range []struct {
		q             Query
		subject, body string
	}{
		{merger, "Réunion: the [merger] plan", "The [Merger] of mergers. A plan, and a [merger]-plan; 北京大学 plan."},
		{Text{Tokens: []string{"merger"}, Form: Prefix}, "Réunion: the [merger] plan", "The [Merger] of [mergers]. A plan, and a [merger]-plan; 北京大学 plan."},
		{Text{Tokens: []string{"merger", "plan"}}, "Réunion: the [merger plan]", "The Merger of mergers. A plan, and a [merger-plan]; 北京大学 plan."},
		{Text{Field: Subject, Tokens: []string{"reunion"}}, "[Réunion]: the merger plan", d.Body},
		{Text{Tokens: []string{"京", "大"}}, d.Subject, "The Merger of mergers. A plan, and a merger-plan; 北[京大]学 plan."},
		{And{plan, Not{merger}}, "Réunion: the merger [plan]", "The Merger of mergers. A [plan], and a merger-[plan]; 北京大学 [plan]."},
		{Near{N: 1, A: merger, B: plan}, "Réunion: the [merger] [plan]", "The Merger of mergers. A plan, and a [merger]-[plan]; 北京大学 plan."},
		{Or{Text{Tokens: []string{"merger", "plan"}}, plan}, "Réunion: the [merger plan]", "The Merger of mergers. A [plan], and a [merger-plan]; 北京大学 [plan]."},
		{Size{Max: -1}, d.Subject, d.Body},
	} {
		if got := show(Subject, d.Subject, 0, c.q); got != c.subject {
			t.Errorf("%s: subject %s", c.q, got)
		}
		if got := show(Body, d.Body, 0, c.q); got != c.body {
			t.Errorf("%s: body %s", c.q, got)
		}
	}
	if got := show(Attachment, "merger plan.pdf", 1, merger); got != "[merger] plan.pdf" {
		t.Errorf("the second attachment: %s", got)
	}
	crowded := &document.Document{Body: strings.Repeat("a b ", 4000)}
	if n := len(NewMatcher(crowded).Marks(Near{N: MaxNear, A: Text{Tokens: []string{"a"}}, B: Text{Tokens: []string{"b"}}})[Body][0]); n == 0 || n > maxMarks {
		t.Errorf("%d marks", n)
	}
}

// TestMarksAreOfWords: whatever a text is, marks lie in it, in order, and a word alone is marked where it stands.
func TestMarksAreOfWords(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	parts := []string{"a", "b", "é", "北", "ß", " ", "-", "\xff", "½", "👍🏽", "e\u0301", "\n", "\u00ad", strings.Repeat("x", 70)}
	for range 2000 {
		var b strings.Builder
		for range r.IntN(30) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		d := &document.Document{Body: b.String()}
		for _, tok := range document.Tokens(nil, d.Body) {
			marks := NewMatcher(d).Marks(Text{Field: Body, Tokens: []string{tok.Text}})[Body][0]
			end := 0
			for _, k := range marks {
				if k.Start < end || k.End <= k.Start || k.End > len(d.Body) {
					t.Fatalf("%q: %s marked at %v", d.Body, tok.Text, marks)
				}
				end = k.End
			}
			if !slices.ContainsFunc(marks, func(k Mark) bool { return k.Start <= tok.Start && tok.End <= k.End }) {
				t.Fatalf("%q: %s at %d is not marked: %v", d.Body, tok.Text, tok.Start, marks)
			}
		}
	}
}
