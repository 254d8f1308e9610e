package bleve

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
)

// fts5 makes an index by SQLite's FTS5, of rows of text that come as JSON, one a line. It is of the words alone, with their positions: no column
// is stored ("contentless"), and all is merged in the end. It prints the CPU seconds that it took.
const fts5 = `
import json, resource, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA journal_mode = OFF")
names = ["subject", "body", "attachment", "attachmenttext", "header", "sender", "recipient"]
db.execute("CREATE VIRTUAL TABLE t USING fts5(%s, content='', tokenize='unicode61 remove_diacritics 2')" % ", ".join(names))
rows = [json.loads(line) for line in sys.stdin]
before = resource.getrusage(resource.RUSAGE_SELF)
db.executemany("INSERT INTO t(%s) VALUES (%s)" % (", ".join(names), ", ".join("?" * len(names))), rows)
db.execute("INSERT INTO t(t) VALUES ('optimize')")
db.commit()
after = resource.getrusage(resource.RUSAGE_SELF)
db.execute("VACUUM")
db.close()
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
`

// row is the text of a document in which one may search for words, column by column.
func row(d *document.Document) []string {
	var names, header []string
	for _, a := range d.Attachments {
		names = append(names, a.Name)
	}
	for _, h := range d.Headers {
		header = append(header, h.Name)
		header = append(header, h.Values...)
	}
	people := func(lists ...[]document.Address) string {
		var all []string
		for _, list := range lists {
			for _, a := range list {
				all = append(all, a.Name, a.Address)
			}
		}
		return strings.Join(all, "\n")
	}
	return []string{
		d.Subject, d.Body, strings.Join(names, "\n"), d.AttachmentText, strings.Join(header, "\n"),
		people(d.From, d.Others, d.EnvFrom), people(d.To, d.Cc, d.Bcc, d.Rcpt),
	}
}

// BenchmarkYardstick gives the same text to this index and to SQLite's FTS5, which has the words only: ours has what a list of results shows, keys and
// facts too. It needs python3 with its sqlite3.
func BenchmarkYardstick(b *testing.B) {
	items, raw := corpus(b)
	docs := documents(b, items)
	dir := b.TempDir()
	for b.Loop() {
		path := filepath.Join(dir, "fts5.db")
		os.Remove(path)
		in, out := io.Pipe()
		cmd := exec.Command("python3", "-c", fts5, path)
		cmd.Stdin, cmd.Stderr = in, os.Stderr
		go func() {
			to := json.NewEncoder(out)
			for _, d := range docs {
				if to.Encode(row(d)) != nil {
					break
				}
			}
			out.Close()
		}()
		said, err := cmd.Output()
		in.Close()
		var seconds float64
		if err == nil {
			_, err = fmt.Sscan(string(said), &seconds)
		}
		if err != nil {
			b.Fatal(err)
		}
		ix := open(b, filepath.Join(dir, "own"))
		before := cpuTime()
		for from, n := 0, 0; from < len(docs); from = n {
			for text := 0; n < len(docs) && text < 4<<20; n++ {
				text += len(docs[n].Body)
			}
			apply(b, ix, index.Batch{Documents: docs[from:n]})
		}
		for _, s := range ix.open {
			if err := s.ix.ForceMerge(b.Context(), nil); err != nil {
				b.Fatal(err)
			}
		}
		spent := cpuTime() - before
		var segments uint64
		for _, s := range ix.open {
			_, bytes, err := s.extent()
			if err != nil {
				b.Fatal(err)
			}
			segments += bytes
		}
		if err := ix.Close(); err != nil {
			b.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(docs))/spent.Seconds(), "docs/cpu-s")
		b.ReportMetric(float64(len(docs))/seconds, "fts5-docs/cpu-s")
		b.ReportMetric(100*float64(segments)/float64(raw), "%-of-raw")
		b.ReportMetric(100*float64(info.Size())/float64(raw), "fts5-%-of-raw")
		b.ReportMetric(float64(segments)/float64(info.Size()), "size/fts5")
		if err := os.RemoveAll(ix.dir); err != nil {
			b.Fatal(err)
		}
	}
}
