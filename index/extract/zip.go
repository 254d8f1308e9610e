package extract

import (
	"archive/zip"
	"context"
	"errors"
	"strings"
)

var zipFormat = format{
	name: "zip", types: []string{"application/zip", "application/x-zip-compressed"}, ends: []string{".zip"},
	is: func(p *probe) bool { return p.prefix("PK\x03\x04", "PK\x05\x06") }, extract: extractZip, container: true,
}

// zipEncrypted is the flag of an encrypted member (APPNOTE.TXT, section 4.4.4).
const zipEncrypted = 1

func extractZip(_ context.Context, in Input, out *Output) error {
	z, err := openZip(in)
	if err != nil {
		return err
	}
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		if f.Flags&zipEncrypted != 0 {
			err = out.NestedMark(f.Name, "", Encrypted, "encrypted in the archive")
		} else {
			err = nestZip(f, out)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func nestZip(f *zip.File, out *Output) error {
	r, err := f.Open()
	if err != nil {
		return out.NestedMark(f.Name, "", Failed, err.Error())
	}
	defer r.Close()
	return out.Nested(f.Name, "", r)
}

// openZip reads the directory of a zip. It opens nothing in it.
func openZip(in Input) (*zip.Reader, error) {
	z, err := zip.NewReader(in, in.Size)
	if errors.Is(err, zip.ErrInsecurePath) { // nothing is written anywhere
		err = nil
	}
	return z, err
}
