package bundle

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Files of the bag that are written at its end. Those with no data/ before them are tag files.
const (
	fileExport      = "data/export.json"
	fileCheckpoint  = "data/checkpoint"
	fileBagIt       = "bagit.txt"
	fileInfo        = "bag-info.txt"
	fileReadMe      = "README.txt"
	fileCertificate = "certificate-902.txt"
	fileKey         = "ledger.pub"
	fileExportActs  = "acts.jsonl"
	fileTags        = "tagmanifest-sha256.txt"
	fileNote        = "bundle.note"
)

// tagged are the files that the tag manifest has, in order.
var tagged = []string{fileReadMe, fileExportActs, fileInfo, fileBagIt, fileCertificate, fileKey, fileManifest}

//go:embed README.txt.tmpl
var readMe string

//go:embed certificate-902.txt.tmpl
var certificate string

// export is data/export.json.
type export struct {
	V        int     `json:"v"`
	Archive  string  `json:"archive"`
	Log      string  `json:"log"`
	Entries  uint64  `json:"entries"` // of the log at the time of the export
	Commit   uint64  `json:"commit"`
	Software string  `json:"software"`
	Request  Request `json:"request"`
	Counts   Counts  `json:"counts"`
	First    string  `json:"first,omitempty"`
	Last     string  `json:"last,omitempty"`
}

// finish writes what stands at the end of a bag. To do it again, after a run that was cut off here, is safe.
func (w *writer) finish() error {
	cp := &w.snap.Checkpoint
	e := export{V: Version, Archive: cp.Archive, Log: cp.Log, Entries: cp.Size, Commit: cp.Commit, Software: w.job.begun.Software, Request: *w.req, Counts: w.p.Counts}
	if w.p.Number > w.req.Numbering.Start {
		e.First, e.Last = w.req.Numbering.name(w.req.Numbering.Start), w.req.Numbering.name(w.p.Number-1)
	}
	for _, name := range growing {
		s := w.streams[name]
		if err := s.w.Flush(); err != nil {
			return err
		}
		w.listed(name, s.size, s.digest())
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	if err := enc.Encode(&e); err != nil {
		return err
	}
	if _, err := w.file(fileExport, text.Bytes()); err != nil {
		return err
	}
	if _, err := w.file(fileCheckpoint, cp.Note); err != nil {
		return err
	}
	if err := w.streams[fileManifest].w.Flush(); err != nil {
		return err
	}
	sums, err := w.tags(&e)
	if err != nil {
		return err
	}
	return w.sign(&e, sums)
}

// tags writes the tag files, and gives the tag manifest.
func (w *writer) tags(e *export) ([]byte, error) {
	acts, err := os.ReadFile(w.job.state(fileActs))
	if err != nil {
		return nil, err
	}
	contents := map[string][]byte{
		fileExportActs: acts,
		fileBagIt:      []byte("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"),
		fileKey:        []byte(w.o.Archive.Verifier() + "\n"),
		fileInfo: []byte(fmt.Sprintf("Bag-Software-Agent: holdfast %s\nBagging-Date: %s\nExternal-Identifier: %s\nPayload-Oxum: %d.%d\n",
			e.Software, time.Now().UTC().Format(time.DateOnly), e.Archive, w.p.Octets, w.p.Files)),
	}
	for name, text := range map[string]string{fileReadMe: readMe, fileCertificate: certificate} {
		var b bytes.Buffer
		if err := template.Must(template.New(name).Funcs(template.FuncMap{"oneLine": clean}).Parse(text)).Execute(&b, e); err != nil {
			return nil, err
		}
		contents[name] = b.Bytes()
	}
	var sums bytes.Buffer
	for _, name := range tagged {
		sum := w.streams[fileManifest].digest()
		if name != fileManifest {
			sum = record.Sum(contents[name])
			if err := os.WriteFile(filepath.Join(w.bag, name), contents[name], 0o600); err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, name)
	}
	return sums.Bytes(), os.WriteFile(filepath.Join(w.bag, fileTags), sums.Bytes(), 0o600)
}

// sign signs the tag manifest.
func (w *writer) sign(e *export, tags []byte) error {
	sum := record.Sum(tags)
	w.result = Result{
		Bundle: w.job.place, Counts: w.p.Counts, Pending: w.req.Pending, Unsure: w.req.Unsure, First: e.First, Last: e.Last, SHA256: sum,
	}
	signed, err := w.o.Archive.Sign(noteText(e.Archive, sum))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.bag, fileNote), signed, 0o600)
}

// noteHeading is the first line of what the archive's key signs of a bundle.
const noteHeading = "holdfast-bundle/v1"

// noteText is what is signed: the archive's id, and the digest that stands for all files.
func noteText(archive string, tags record.Digest) string {
	return noteHeading + "\n" + archive + "\n" + tags.String() + "  " + fileTags + "\n"
}

// parseNote reads what noteText wrote and nothing else.
func parseNote(text string) (archive string, tags record.Digest, ok bool) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return "", tags, false
	}
	tags, err := record.ParseDigest(lines[2][:min(len(lines[2]), 64)])
	return lines[1], tags, err == nil && noteText(lines[1], tags) == text
}

// Place gives the numbers of a range for people.
func (e *export) Place() string {
	if e.First == "" {
		return "none"
	}
	return e.First + " to " + e.Last
}

// Count gives a number for the texts.
func (e *export) Count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}
