package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
)

// What is not there is named, by every command, and nothing is made in its place: only init makes an archive.
func TestWhatIsMissingIsNamedAndNotMade(t *testing.T) {
	t.Parallel()
	mail := filepath.Join(t.TempDir(), "one.eml")
	if err := os.WriteFile(mail, []byte("Subject: one\r\n\r\none\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := install(t, settings{mode: "journal"})
	empty, foreign := objecttest.StartS3(t), objecttest.StartS3(t)
	install(t, settings{mode: "journal", store: foreign.URL, env: foreign.Env})

	inFolder := func(t *testing.T) *holdfast { return install(t, settings{mode: "journal"}) }
	inBucket := func(t *testing.T) *holdfast {
		bucket := objecttest.StartS3(t)
		return install(t, settings{mode: "journal", store: bucket.URL, env: bucket.Env})
	}
	_, query, _ := strings.Cut(empty.URL, "?")
	remove := func(h *holdfast, name string) string {
		path := filepath.Join(h.dir, name)
		if err := os.RemoveAll(path); err != nil {
			h.t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct {
		name string
		make func(*testing.T) *holdfast
		// spoil damages the installation and gives what must be named.
		spoil func(h *holdfast) []string
	}{
		{"no keys", inFolder, func(h *holdfast) []string { return []string{remove(h, "keys"), "no keys"} }},
		{"no public key", inFolder, func(h *holdfast) []string { return []string{filepath.Dir(remove(h, "keys/ledger.pub")), "ledger.pub"} }},
		{"keys of another archive", inFolder, func(h *holdfast) []string {
			keys := remove(h, "keys")
			if err := os.CopyFS(keys, os.DirFS(filepath.Join(other.dir, "keys"))); err != nil {
				h.t.Fatal(err)
			}
			return []string{keys, "not the key of this ledger"}
		}},
		{"keys that are no pair", inFolder, func(h *holdfast) []string {
			h.edit("keys/ledger.pub", func([]byte) []byte { return other.read("keys/ledger.pub") })
			return []string{filepath.Join(h.dir, "keys/ledger.key"), "not a pair"}
		}},
		{"a public key that is none", inFolder, func(h *holdfast) []string {
			h.edit("keys/ledger.pub", func([]byte) []byte { return []byte("rubbish\n") })
			return []string{filepath.Join(h.dir, "keys/ledger.pub")}
		}},
		{"no store", inFolder, func(h *holdfast) []string { return []string{remove(h, "data/archive")} }},
		{"no data_dir, and so no store", inFolder, func(h *holdfast) []string { return []string{filepath.Join(remove(h, "data"), "archive")} }},
		{"a store with nothing in it", inFolder, func(h *holdfast) []string {
			path := remove(h, "data/archive")
			if err := os.Mkdir(path, 0o700); err != nil {
				h.t.Fatal(err)
			}
			return []string{"file:" + path, "no archive here"}
		}},
		{"the store of another archive", inFolder, func(h *holdfast) []string {
			path := remove(h, "data/archive")
			if err := os.CopyFS(path, os.DirFS(filepath.Join(other.dir, "data/archive"))); err != nil {
				h.t.Fatal(err)
			}
			return []string{"file:" + path, filepath.Join(h.dir, "keys"), "not the key of this ledger"}
		}},
		{"another node", inFolder, func(h *holdfast) []string {
			h.edit("holdfast.yaml", func(text []byte) []byte { return append(text, "node: elsewhere\n"...) })
			return []string{`node "elsewhere"`, "holdfast init"}
		}},
		{"no bucket", inBucket, func(h *holdfast) []string {
			h.moveTo("s3://no-such-bucket/some/prefix?" + query)
			return []string{"s3://no-such-bucket/some/prefix", "no bucket no-such-bucket"}
		}},
		{"a bucket with nothing in it", inBucket, func(h *holdfast) []string {
			h.moveTo(empty.URL)
			return []string{"s3://" + empty.Name + "/some/prefix", "no archive here"}
		}},
		{"the bucket of another archive", inBucket, func(h *holdfast) []string {
			h.moveTo(foreign.URL)
			return []string{"s3://" + foreign.Name + "/some/prefix", filepath.Join(h.dir, "keys"), "not the key of this ledger"}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := test.make(t)
			named := test.spoil(h)
			before := h.everything(t, empty, foreign)
			for _, command := range [][]string{
				{"serve"}, {"search", "one"}, {"get", "01KAT3Q0V5X8J2M4N6P7R9S1TC"}, {"import", mail}, {"proof", "01KAT3Q0V5X8J2M4N6P7R9S1TC"},
				{"verify"}, {"verify", "--full"}, {"rebuild"},
			} {
				if test.name == "another node" && command[0] == "verify" { // which does not ask who we are
					continue
				}
				said, code := h.fails(command...)
				if code != 2 {
					t.Errorf("%v: exit %d: %s", command, code, said)
				}
				for _, name := range named {
					if !strings.Contains(said, name) {
						t.Errorf("%v does not name %q: %s", command, name, said)
					}
				}
			}
			if after := h.everything(t, empty, foreign); !slices.Equal(before, after) {
				t.Errorf("there was\n%s\nand now there is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
		})
	}
}

// fails runs a command that is to fail, and gives what it says on standard error.
func (h *holdfast) fails(args ...string) (said string, code int) {
	h.t.Helper()
	cmd := h.command(args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.Run()
	return errs.String(), cmd.ProcessState.ExitCode()
}

// moveTo has the configuration name another store.
func (h *holdfast) moveTo(url string) {
	h.t.Helper()
	h.edit("holdfast.yaml", func(text []byte) []byte {
		return regexp.MustCompile(`store: "[^"]*"`).ReplaceAllLiteral(text, fmt.Appendf(nil, "store: %q", url))
	})
}

func (h *holdfast) read(name string) []byte {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil {
		h.t.Fatal(err)
	}
	return text
}

func (h *holdfast) edit(name string, change func([]byte) []byte) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), change(h.read(name)), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// everything lists what is there: files and folders of the installation, and objects of buckets.
func (h *holdfast) everything(t *testing.T, buckets ...objecttest.Bucket) (list []string) {
	t.Helper()
	if err := filepath.WalkDir(h.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && d.IsDir() {
			list = append(list, path+"/")
		} else if err == nil {
			list = append(list, fmt.Sprint(path, " ", info.Size()))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, b := range buckets {
		page, err := b.Client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &b.Name})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			list = append(list, fmt.Sprintf("%s/%s %d", b.Name, *o.Key, *o.Size))
		}
	}
	return list
}
