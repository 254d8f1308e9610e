package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive"
)

// testArchive makes an archive and gives its configuration, with an hour until packs are sealed.
func testArchive(t *testing.T) *config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "holdfast.yaml")
	if err := os.WriteFile(file, []byte(`
data_dir: ./data
listeners: [{name: relay, address: "127.0.0.1:0", mode: journal, trusted_networks: [127.0.0.0/8]}]
archive: {seal_after: 1h}
web: {address: "127.0.0.1:0"}
log: {level: error}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	if _, err := initArchive(cmd, cfg, archive.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// A client that hangs must not take from the archive the time in which it seals and commits.
func TestAClientThatHangsDoesNotKeepTheArchiveFromCommitting(t *testing.T) {
	cfg := testArchive(t)
	s, err := startServer(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.node.importMessage(t.Context(), "test", nil, strings.NewReader("Subject: x\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := dialServer(t.Context(), cfg)
	if c == nil {
		t.Fatal("no socket")
	}
	session, err := beginImportFor(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	body, w := io.Pipe()
	defer w.Close()
	go c.do(t.Context(), http.MethodPost, "/imports/"+session, url.Values{"origin": {"slow"}}, body)
	if _, err := io.WriteString(w, strings.Repeat("slow mail\r\n", 1<<20)); err != nil { // more than fits on the way: it is being read
		t.Fatal(err)
	}
	began := time.Now()
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	n, err := openNode(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close(t.Context())
	if has, err := n.archive.Has(id); err != nil || !has {
		t.Errorf("not committed: %v", err)
	}
}

func beginImportFor(ctx context.Context, c *client) (string, error) {
	cmd := &cobra.Command{}
	cmd.SetContext(ctx)
	return beginImport(cmd, c, []string{"test"}, nil)
}
