package report

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// FuzzReader: any bytes are read without a fault, to the same result however they come in; what is enclosed lies where it is said to; and a
// message that is no report, or none that can be read, leaves the transaction in the envelope.
func FuzzReader(f *testing.F) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d fixtures, %v", len(files), err)
	}
	for i, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, uint8(i), "journal@archive.example")
	}
	f.Add([]byte("X-MS-Journal-Report:\n\n"), uint8(1), "journal+a=b.example+c=d.example@archive.example")
	f.Fuzz(func(t *testing.T, raw []byte, step uint8, rcpt string) {
		env := transaction(rcpt)
		outcome := read(Formats, raw, &env, whole)
		pieces := transaction(rcpt)
		if again := read(Formats, raw, &pieces, func() int { return int(step) }); again != outcome || !reflect.DeepEqual(env, pieces) {
			t.Fatalf("in pieces of %d: %s and %s\n%+v\n%+v", step, outcome, again, env.Report, pieces.Report)
		}
		if outcome == None || outcome == Unreadable {
			want := transaction(rcpt)
			want.Report = env.Report
			if !reflect.DeepEqual(env, want) {
				t.Fatalf("%s: %+v", outcome, env)
			}
		}
		if outcome == None {
			if env.Report != nil {
				t.Fatalf("no report, and %+v", env.Report)
			}
			return
		}
		out, err := json.Marshal(env)
		if err != nil || len(out) > 16<<20 {
			t.Fatalf("%d bytes of JSON, %v", len(out), err)
		}
		checkTexts(t, reflect.ValueOf(*env.Report))
		for i := range env.Report.Enclosed {
			checkEnclosed(t, raw, &env.Report.Enclosed[i])
		}
		if env.Completeness == record.Full && (env.MailFrom == nil || len(env.Rcpt) == 0) && outcome != Read {
			t.Fatalf("full without a sender or a recipient: %+v", env)
		}
	})
}

// checkTexts looks at every string that was read.
func checkTexts(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); !utf8.ValidString(s) || bytes.IndexByte([]byte(s), 0) >= 0 {
			t.Errorf("text %q", s)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			checkTexts(t, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			checkTexts(t, v.Index(i))
		}
	}
}
