package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The server is killed while a hold is placed, and while it is released. A hold is in force or it is not; when it is, every message that it
// matches is held from the first moment after the start, and in the end all of them stand in acts; and it can be released.
func TestHoldsSurviveKills(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	h := install(t, settings{mode: "journal"})
	const messages = 40
	dir := t.TempDir()
	for i := range messages {
		text := fmt.Sprintf("From: a@b.test\r\nSubject: letter %d\r\n\r\nneedle\r\n", i)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i, ".eml")), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.run("import", dir)
	h.run("matter", "create", "m")
	kills := 20
	if testing.Short() {
		kills = 2
	}
	h.start()
	began := time.Now()
	h.run("hold", "place", "first", "--matter", "m", "--query", "needle", "--reason", "r")
	takes := time.Since(began) // with the start of the command itself
	h.run("hold", "release", "first", "--reason", "settled")
	h.kill()
	// killedDuring starts a command beside the server and kills the server at some moment of it.
	killedDuring := func(args ...string) {
		cmd := h.command(args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rng.Int64N(int64(takes))))
		h.kill()
		cmd.Wait()
	}
	placed, released := 0, 0
	for i := range kills {
		name := fmt.Sprint("h", i)
		h.start()
		killedDuring("hold", "place", name, "--matter", "m", "--query", "needle", "--reason", "r")
		h.start()
		if !h.holds(t)[name].there {
			h.run("hold", "place", name, "--matter", "m", "--query", "needle", "--reason", "again")
		} else {
			placed++
		}
		h.heldBy(t, name, messages)
		killedDuring("hold", "release", name, "--reason", "settled")
		h.start()
		if h.holds(t)[name].released {
			released++
		} else {
			h.heldBy(t, name, messages)
			h.run("hold", "release", name, "--reason", "again")
		}
		h.heldBy(t, "", messages)
		h.kill()
	}
	t.Logf("%d of %d holds were placed, and %d released, before the kill", placed, kills, released)
	h.start()
	killedDuring("hold", "place", "last", "--matter", "m", "--query", "needle", "--reason", "r")
	h.start()
	if !h.holds(t)["last"].there {
		h.run("hold", "place", "last", "--matter", "m", "--query", "needle", "--reason", "again")
	}
	until(t, 30*time.Second, "all that is held stands in acts", func() bool { return h.holds(t)["last"].records == messages })
	h.settle()
	h.stop()
	h.mustVerify()
}

type holdState struct {
	there, released bool
	records         int
}

// holds lists them as the command does.
func (h *holdfast) holds(t *testing.T) map[string]holdState {
	t.Helper()
	var list []struct {
		Name     string
		Released *struct{ Reason string }
		Records  int
	}
	if err := json.Unmarshal([]byte(h.run("hold", "list", "--all", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	all := map[string]holdState{}
	for _, l := range list {
		all[l.Name] = holdState{true, l.Released != nil, l.Records}
	}
	return all
}

// heldBy has each message decided on: it is kept by one hold alone, or by none where name is empty.
func (h *holdfast) heldBy(t *testing.T, name string, messages int) {
	t.Helper()
	var found struct {
		Records []struct{ Holds []struct{ Name string } }
	}
	if err := json.Unmarshal([]byte(h.run("retention", "check", "needle", "--json")), &found); err != nil {
		t.Fatal(err)
	}
	if len(found.Records) != messages {
		t.Fatalf("%d messages are found, want %d", len(found.Records), messages)
	}
	for _, r := range found.Records {
		if got := fmt.Sprint(r.Holds); name == "" && len(r.Holds) > 0 || name != "" && got != "[{"+name+"}]" {
			t.Fatalf("a message is held by %s, want %q", got, name)
		}
	}
}
