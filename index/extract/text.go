package extract

import (
	"bytes"
	"context"
	"unicode/utf8"
)

var textFormat = format{name: "text", types: []string{"text/plain", "text/csv"}, ends: []string{".txt", ".csv", ".log", ".md"}, extract: extractText}

// looksText says whether these bytes may be the beginning of a text in any charset that has ASCII in it.
func looksText(head []byte) bool {
	for _, c := range head {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != 0x1b {
			return false
		}
	}
	return len(head) > 0
}

func extractText(_ context.Context, in Input, out *Output) error {
	b, err := in.Bytes()
	if err != nil {
		return err
	}
	if utf8.Valid(b) {
		b = bytes.TrimPrefix(b, []byte("\ufeff"))
	}
	return out.Text(string(b))
}
