package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// From the first day everything that is searched, viewed, proved, imported and rebuilt stands in the ledger: who, when, and in a pack, what.
func TestActsAreInTheLedger(t *testing.T) {
	t.Parallel()
	need(t, "zstd", "zstd")
	h := install(t, settings{mode: "journal"})
	if found := h.search("nothing is there yet"); len(found) != 0 {
		t.Fatal(found)
	}
	mail := filepath.Join(t.TempDir(), "one.eml")
	if err := os.WriteFile(mail, []byte("From: a@b.test\r\nSubject: one\r\n\r\nneedle\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.run("import", mail)
	h.start()
	id := h.search("needle")[0].ID // through the socket
	h.api("subject:one")           // over the network
	h.fetch(id)
	h.get("/message/" + id)
	h.run("get", "--envelope", id)
	h.settle()
	h.run("proof", id)
	h.run("rebuild")
	h.settle()
	h.stop()

	me := "uid:0"
	if out, err := exec.Command("id", "-u").Output(); err == nil {
		me = "uid:" + strings.TrimSpace(string(out))
	}
	var got []string
	for _, e := range h.entries() {
		if e.Kind == record.KindAct {
			got = append(got, e.Name+" by "+e.By)
		}
	}
	want := []string{
		"search by " + me, "import by " + me, "search by " + me, "search by web:127.0.0.1", "view by web:127.0.0.1", "view by web:127.0.0.1",
		"view by " + me, "proof by " + me, "rebuild by " + me,
	}
	if !slices.Equal(got, want) {
		t.Errorf("the ledger has the acts\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	h.mustVerify()

	var acts bytes.Buffer
	for key, path := range h.objects() {
		if !strings.HasPrefix(key, "packs/") {
			continue
		}
		cmd := exec.Command(need(t, "tar", "tar"), "--zstd", "-xOf", path, "--wildcards", "*/act.json")
		cmd.Stdout = &acts
		cmd.Run() // a pack without an act is an error to it
	}
	for _, said := range []string{`"typed":"nothing is there yet"`, `"typed":"subject:one"`, `"record":"` + id + `"`, `"what":"envelope"`, `"paths":["` + mail + `"]`} {
		if !strings.Contains(acts.String(), said) {
			t.Errorf("no act says %s:\n%s", said, acts.String())
		}
	}
	for key, path := range h.objects() { // what the ledger says is not secret
		if strings.HasPrefix(key, "ledger/") {
			if out, _ := exec.Command("zstd", "-dcf", path).Output(); bytes.Contains(out, []byte("nothing is there")) {
				t.Errorf("the ledger has the text of a query: %s", key)
			}
		}
	}
}
