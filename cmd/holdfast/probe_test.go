package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// bucketArchive makes an archive in a real bucket with Object Lock.
func bucketArchive(t *testing.T, requireWORM string) (*config, objecttest.Bucket) {
	t.Helper()
	b := objecttest.StartLockedS3(t)
	file := filepath.Join(t.TempDir(), "holdfast.yaml")
	if err := os.WriteFile(file, []byte(`
data_dir: ./data
listeners: [{name: relay, address: "127.0.0.1:0", mode: journal, trusted_networks: [127.0.0.0/8]}]
archive: {store: "`+b.URL+`", object_lock: compliance, require_worm: `+requireWORM+`, seal_after: 100ms}
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
	return cfg, b
}

// The server of the tests forgets a legal hold once the retention is over. A start says so, in metric and ledger, and is refused where the
// configuration asks for a store that forgets nothing.
func TestStartProbesTheStore(t *testing.T) {
	t.Parallel()
	const hole = "a version under legal hold was deleted once its retention was over"
	for _, require := range []string{"false", "true"} {
		t.Run("require_worm "+require, func(t *testing.T) {
			t.Parallel()
			cfg, _ := bucketArchive(t, require)
			s, err := startServer(t.Context(), cfg)
			if require == "true" {
				if !errors.Is(err, object.ErrUnsupported) || !strings.Contains(err.Error(), hole) {
					t.Fatalf("start: %v; want a refusal because %s", err, hole)
				}
			} else if err != nil {
				t.Fatal(err)
			} else {
				if n, err := testutil.GatherAndCount(s.node.reg, "holdfast_store_worm"); err != nil || n != 1 {
					t.Errorf("%d metrics, %v", n, err)
				}
				if err := s.stop(); err != nil {
					t.Error(err)
				}
			}
			n, err := openNode(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer n.close(t.Context())
			var said struct {
				Weak, Tried []string
				WORM        bool
			}
			for r, err := range n.archive.Replay(t.Context(), archive.NodeLog(cfg.Node), 0, func(e *record.Entry) bool { return e.Name == record.ActProbe }) {
				if err != nil || r.Err != nil {
					t.Fatal(err, r.Err)
				}
				if r.Item != nil {
					if err := r.Item.Act.Into(&said); err != nil {
						t.Fatal(err)
					}
				}
			}
			if len(said.Weak) != 1 || said.Weak[0] != hole || said.WORM || len(said.Tried) != 12 {
				t.Errorf("the ledger says %+v", said)
			}
		})
	}
}

func TestConfigCheckStore(t *testing.T) {
	t.Parallel()
	cfg, _ := bucketArchive(t, "false")
	v, err := checkStore(t.Context(), cfg)
	var out bytes.Buffer
	v.print(&out)
	for _, want := range []string{"NOT WORM (compliance)", "refused   a locked version was deleted\n", "HAPPENED  a version under legal hold was deleted once"} {
		if err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%v, and no %q in:\n%s", err, want, &out)
		}
	}
}
