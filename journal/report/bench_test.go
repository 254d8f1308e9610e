package report

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

// BenchmarkReader is what reading costs a message on its way to custody.
func BenchmarkReader(b *testing.B) {
	raw, err := os.ReadFile("testdata/exchange-expanded.eml")
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{4 << 10, 40 << 10, 10 << 20} {
		line := []byte("aGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8gaGVs\n")
		body := bytes.Repeat(line, size/len(line))
		message := bytes.Replace(raw, []byte("Please find"), append(body, "Please find"...), 1)
		message = bytes.ReplaceAll(message, []byte("\n"), []byte("\r\n"))
		plain := bytes.Replace(message, []byte("X-MS-Journal-Report"), []byte("X-Other"), 1)
		for _, c := range []struct {
			name string
			mail []byte
			want Outcome
		}{{"report", message, Read}, {"other", plain, None}} {
			b.Run(fmt.Sprintf("%s/%dKiB", c.name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(len(c.mail)))
				b.ReportAllocs()
				for b.Loop() {
					env := transaction()
					if got := read(Formats, c.mail, &env, func() int { return 16 << 10 }); got != c.want {
						b.Fatal(got)
					}
				}
			})
		}
	}
}
