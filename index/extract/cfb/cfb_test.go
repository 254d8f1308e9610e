package cfb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
)

// fixture is a file that LibreOffice wrote.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../testdata/office/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(b []byte) (*Storage, error) { return Open(bytes.NewReader(b), int64(len(b))) }

// all reads every stream, and gives their bytes by their names, and the first error.
func all(s *Storage) (map[string][]byte, error) {
	m := map[string][]byte{}
	var first error
	for list := []*Storage{s}; len(list) > 0; list = list[1:] {
		for _, st := range list[0].Streams {
			b, err := io.ReadAll(st.Open())
			if int64(len(b)) != st.Size && err == nil {
				err = errors.New("another length than the directory says")
			}
			if m[st.Name] = b; first == nil {
				first = err
			}
		}
		list = append(list, list[0].Storages...)
	}
	return m, first
}

func TestOpen(t *testing.T) {
	s, err := open(fixture(t, "letter.doc"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := all(s)
	if err != nil {
		t.Fatal(err)
	}
	for name, begin := range map[string]string{"WordDocument": "\xec\xa5", "\x05SummaryInformation": "\xfe\xff", "\x01CompObj": "\x01\x00\xfe\xff"} {
		if !bytes.HasPrefix(m[name], []byte(begin)) {
			t.Errorf("%q begins with %x", name, m[name][:min(len(m[name]), 8)])
		}
	}
	if s.Stream("worddocument") == nil || s.Stream("nothing") != nil || s.Storage("objectpool") == nil || s.Storage("WordDocument") != nil {
		t.Error("names are not found as they should")
	}
	if b, err := io.ReadAll(s.Stream("nothing").Open()); len(b) != 0 || err != nil {
		t.Errorf("a stream that is not there: %d bytes, %v", len(b), err)
	}
}

func TestNoCompoundFile(t *testing.T) {
	for _, b := range [][]byte{nil, []byte(Signature), make([]byte, 1000)} {
		if _, err := open(b); !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// TestCutOff: what lies before the cut is read, and the stream that it goes through says so.
func TestCutOff(t *testing.T) {
	whole := fixture(t, "slides.ppt")
	s, err := open(whole)
	if err != nil {
		t.Fatal(err)
	}
	want, err := all(s)
	if err != nil {
		t.Fatal(err)
	}
	some := false
	for n := len(whole) - 1; n > 0; n -= 4999 {
		s, err := open(whole[:n])
		if err != nil {
			continue
		}
		got, err := all(s)
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		for name, b := range got {
			if !bytes.HasPrefix(want[name], b) || err == nil && len(b) < len(want[name]) {
				t.Fatalf("cut at %d: %q has other bytes", n, name)
			}
			some = some || len(b) > 0
		}
	}
	if !some {
		t.Error("nothing was ever read")
	}
}

// TestHostile: chains that lead into themselves or out of the file, trees that are none, sizes that no file has.
func TestHostile(t *testing.T) {
	put := func(b []byte, at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	sector := func(b []byte, at int) int { return (int(binary.LittleEndian.Uint32(b[at:])) + 1) * 512 }
	for name, change := range map[string]func(b []byte){
		"every sector is followed by itself": func(b []byte) {
			for i := range 128 {
				put(b, sector(b, 76)+4*i, uint32(i))
			}
		},
		"every sector is followed by the first": func(b []byte) {
			for i := range 128 {
				put(b, sector(b, 76)+4*i, 0)
			}
		},
		"every entry is its own child and sibling": func(b []byte) {
			for i := range 4 {
				for _, at := range []int{68, 72, 76} {
					put(b, sector(b, 48)+128*i+at, uint32(i))
				}
			}
		},
		"every stream is as long as can be": func(b []byte) {
			for i := range 4 {
				put(b, sector(b, 48)+128*i+120, 0xffffffff)
			}
		},
		"the tables say that they are vast": func(b []byte) {
			for _, at := range []int{40, 44, 64, 72} {
				put(b, at, 0xffffffff)
			}
		},
		"the table of tables leads to itself": func(b []byte) { put(b, 68, binary.LittleEndian.Uint32(b[76:])) },
		"the directory is out of the file":    func(b []byte) { put(b, 48, 0xfffffff0) },
		"sectors of any size":                 func(b []byte) { b[30] = 63 },
	} {
		b := bytes.Clone(fixture(t, "letter.doc"))
		change(b)
		s, err := open(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		m, _ := all(s)
		total := 0
		for _, b := range m {
			total += len(b)
		}
		if total > 16*len(b) {
			t.Errorf("%s: %d bytes of %d", name, total, len(b))
		}
	}
}

// TestDeepStorages: storages in storages cost memory in proportion to the file.
func TestDeepStorages(t *testing.T) {
	const n = 40000 // entries
	b := make([]byte, 512, 512+n*128)
	copy(b, Signature)
	b[30] = 9
	for at := 76; at < 512; at += 4 {
		binary.LittleEndian.PutUint32(b[at:], noStream)
	}
	var directory []byte
	for i := range n {
		e := make([]byte, entryBytes)
		e[0], e[64], e[66] = 'a', 4, typeStorage
		binary.LittleEndian.PutUint32(e[68:], noStream)
		binary.LittleEndian.PutUint32(e[72:], noStream)
		binary.LittleEndian.PutUint32(e[76:], uint32(i+1))
		directory = append(directory, e...)
	}
	sectors := len(directory) / 512
	fat := make([]byte, (sectors/128+1)*512)
	for i := range sectors {
		binary.LittleEndian.PutUint32(fat[4*i:], uint32(i+1))
	}
	tables := len(fat) / 512
	for i := range min(tables, 109) {
		binary.LittleEndian.PutUint32(b[76+4*i:], uint32(sectors+i))
	}
	b = append(append(b, directory...), fat...)
	s, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	depth := 0
	for ; len(s.Storages) > 0; depth++ {
		s = s.Storages[0]
	}
	if depth < n-1 {
		t.Errorf("%d deep", depth)
	}
	allocations := testing.AllocsPerRun(1, func() { _, err = open(b) })
	if allocations > 20*n {
		t.Errorf("%.0f allocations for %d entries", allocations, n)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(fixture(f, "letter.doc"))
	f.Add(fixture(f, "sheet.xls"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := open(b)
		if err != nil {
			return
		}
		total := 0
		for list := []*Storage{s}; len(list) > 0 && total < 1<<22; list = list[1:] {
			for _, st := range list[0].Streams {
				n, _ := io.Copy(io.Discard, io.LimitReader(st.Open(), 1<<20))
				if n > int64(len(b)) {
					t.Fatalf("a stream of %d bytes in a file of %d", n, len(b))
				}
				total += int(n)
			}
			list = append(list, list[0].Storages...)
		}
	})
}
