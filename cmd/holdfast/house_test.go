package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/holdfast-archive/holdfast/"

// house says what each package may import of this module. A package stands for those below it that have no row of their own. A leaf may
// be imported by everything that may import its parent's level.
var house = map[string][]string{
	"cmd":                  {"web", "search", "retention", "index", "archive", "journal"},
	"web":                  {"search", "retention", "index", "archive", "web"},
	"search":               {"index", "archive", "search"},
	"search/syntax":        {"index/query", "index/document", "archive/record"},
	"search/matter":        {"index/query", "index/document", "archive/record"},
	"retention":            {"index/query", "index/document", "archive/record"},
	"retention/keeper":     {"retention", "index", "archive"},
	"retention/sweep":      {"retention", "index", "archive"},
	"index":                {"archive", "index/document", "index/query", "index/extract"},
	"index/extract":        {"archive/record", "archive/message"},
	"index/bleve":          {"index", "index/bleve/segment", "index/document", "index/query", "archive/record", "archive/message"},
	"index/bleve/segment":  {},
	"index/document":       {"archive/record", "archive/message"},
	"index/query":          {"archive/record", "index/document"},
	"journal":              {"archive", "journal"},
	"journal/authres":      {"archive/record", "archive/message"},
	"journal/smtpd":        {"journal/nexthop", "journal/spool", "archive/record"},
	"journal/nexthop":      {"archive/record"},
	"journal/spool":        {"archive/record"},
	"journal/queue":        {"journal/nexthop", "journal/spool", "archive/record"},
	"journal/queue/bounce": {"archive/record"},
	"journal/report":       {"archive/record", "archive/message"},
	"archive":              {"archive"},
	"archive/record":       {},
	"archive/message":      {"archive/record", "archive/message"},
	"archive/object":       {"archive/object", "archive/record"},
	"archive/pack":         {"archive/record"},
	"archive/ledger":       {"archive/object", "archive/record"},
	"archive/audit":        {"archive/record"},
	"archive/timestamp":    {"archive/record"},
	"archive/anchor":       {"archive/ledger", "archive/object", "archive/record", "archive/timestamp"},
	"archive/scrub":        {"archive/ledger", "archive/object", "archive/record"},
	"archive/replica":      {"archive"},
}

// destroyers may name object.Disposer and what makes one: the sweep, the store itself, and nobody else.
var destroyers = []string{"archive/object", "retention/sweep"}

type goPackage struct {
	ImportPath   string
	Dir          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports", module+"...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 15 {
		t.Fatalf("go list found only %d packages", len(list))
	}
	return list
}

// row finds the row of the house for a path: its own, or that of the nearest package above it.
func row(path string) (string, []string, bool) {
	for p := path; ; {
		if allowed, ok := house[p]; ok {
			return p, allowed, true
		}
		cut := strings.LastIndexByte(p, '/')
		if cut < 0 {
			return "", nil, false
		}
		p = p[:cut]
	}
}

func TestImportsRunOneWay(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		self, allowed, ok := row(path)
		if !ok {
			t.Errorf("package %s has no place in the house", path)
			continue
		}
		for _, imp := range p.Imports {
			imp, ours := strings.CutPrefix(imp, module)
			if !ours || imp == self || strings.HasPrefix(imp, path+"/") && self != "index" && self != "archive/record" {
				continue
			}
			if !slices.ContainsFunc(allowed, func(a string) bool { return imp == a || strings.HasPrefix(imp, a+"/") }) {
				t.Errorf("%s imports %s, which the house does not allow", path, imp)
			}
		}
	}
}

func TestOnlyTheSweepDestroys(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		if slices.ContainsFunc(destroyers, func(d string) bool { return path == d || strings.HasPrefix(path, d+"/") }) {
			continue
		}
		for _, f := range p.GoFiles {
			src, err := os.ReadFile(p.Dir + "/" + f)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(src), "Disposer") {
				t.Errorf("%s/%s names the Disposer", path, f)
			}
		}
	}
}

func TestTopLevelIsTheHouse(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "ls-tree", "--name-only", "HEAD").Output()
	if err != nil {
		t.Fatalf("git: %v", err)
	}
	allowed := []string{"cmd", "journal", "archive", "index", "search", "retention", "web", "go.mod", "go.sum", "README.md", "LICENSE"}
	for name := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(name, ".") && !slices.Contains(allowed, name) {
			t.Errorf("%s stands at the top level", name)
		}
	}
}
